"""SIGTERM and SIGINT end any command in one line, whatever it is at."""

import os
import signal

import pytest

from dlm_bench.cli import main


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("kind", [None, ImportError, RuntimeError, BaseException])
def test_a_signal_is_one_line_whatever_a_library_makes_of_it(
    monkeypatch, capsys, signum, code, kind
):
    def command(*_):
        try:
            os.kill(os.getpid(), signum)
            signal.sigtimedwait([], 5)
        except KeyboardInterrupt as interrupt:
            if kind is None:
                raise
            raise kind("failed to import") from interrupt

    monkeypatch.setattr("dlm_bench.cli._command", command)
    before = signal.getsignal(signum)
    assert main(["env"]) == code
    assert capsys.readouterr().err == "dlm-bench: interrupted\n"
    assert signal.getsignal(signum) == before


def test_an_ignored_interrupt_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        monkeypatch.setattr("dlm_bench.cli._command", lambda _: os.kill(os.getpid(), 2) or 0)
        assert main(["env"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)
