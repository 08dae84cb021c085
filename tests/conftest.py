"""What every test process needs: one thread, and a Ctrl-C that arrives."""

from __future__ import annotations

import os
import signal

# The models of the tests are so small that two threads only wait for each other. Set before torch is imported;
# subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A run in the background of a script inherits an ignored SIGINT, and so would the processes that tests stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
