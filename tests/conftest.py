"""Settings of every test process: one thread per test, default handling of Ctrl-C, the same hypothesis cases."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

# The models of the tests are so small that two threads only wait for each other. Set before torch is imported;
# subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Sums are taken in the same order on x86 processors with and without AVX-512: frozen figures are kept to nine digits,
# and a frozen code is within rounding of another.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")

import torch

# A run in the background of a script inherits an ignored SIGINT, and so would the processes that tests stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Drawn cases are the same in every run, so that a gate does not fail by luck: HYPOTHESIS_PROFILE=search looks for
# new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(autouse=True, scope="session")
def short_previews() -> None:
    """Shorten the film that every saved world gets: it took half of the time of hundreds of tests."""
    from reelworld.worlds import card

    card.PREVIEW_STEPS = 6


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Reset the thread count: commands that a test runs in this process may have set another (`--threads`)."""
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
