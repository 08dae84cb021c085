"""``python -m reelworld``: the same as the command ``reelworld``."""

from __future__ import annotations

import sys

from reelworld.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
