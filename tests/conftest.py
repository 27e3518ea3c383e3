"""Settings for all tests, before anything imports torch, and the rule of the marker `process`."""

import os
import signal
import sys

import pytest
from hypothesis import settings

# OpenMP's threads spin while they wait; next to any other busy process on the same cores that
# makes a test some fifty times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core, and what it starts, has that core alone
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# What a user's terminal, or xdist, asks of the output.
for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR"):
    os.environ.pop(name, None)

# A job in the background inherits an ignored SIGINT, and so would all that the tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An example takes as long as a busy machine makes it.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

STARTERS = {"process", "slurm", "browser"}
_running: list[pytest.Item] = []


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files of tests/cli anew"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.pop()


def _on_event(event, arguments):
    """Fail a test that starts Python and has no marker that says so."""
    if event != "subprocess.Popen" or not _running:
        return
    if arguments[0] in (sys.executable, sys.executable.encode()):
        markers = {marker.name for marker in _running[-1].iter_markers()}
        if not markers & STARTERS:
            pytest.fail("this test starts a process: mark it @pytest.mark.process")


sys.addaudithook(_on_event)
