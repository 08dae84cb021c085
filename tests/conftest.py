"""What every test process needs: one thread, and a Ctrl-C that arrives."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# The models of the tests are so small that two threads only wait for each other. Set before torch is imported;
# subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A run in the background of a script inherits an ignored SIGINT, and so would the processes that tests stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Drawn cases are the same in every run, so that a gate does not fail by luck: HYPOTHESIS_PROFILE=search looks for
# new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
