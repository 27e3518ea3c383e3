"""SIGTERM and SIGINT end any command in one line, whatever it is at."""

import os
import signal

import pytest
from support.processes import quick_plan

from dlm_bench.cli import dispatch, main, sweep_slurm
from dlm_bench.signals import Terminated


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

    monkeypatch.setattr(dispatch, "_command", command)
    before = signal.getsignal(signum)
    assert main(["env"]) == code
    assert capsys.readouterr().err == "dlm-bench: interrupted\n"
    assert signal.getsignal(signum) == before


@pytest.mark.parametrize(("interrupt", "code"), [(Terminated, 143), (KeyboardInterrupt, 130)])
def test_a_signal_while_jobs_of_slurm_are_waited_for_has_the_exit_code_of_any(
    monkeypatch, capsys, tmp_path, interrupt, code
):
    def follow(*_):
        raise interrupt

    def command(*_):
        run = sweep_slurm._Run(quick_plan([("diffutran", 8)]), {}, [])
        return sweep_slurm._wait([run], None, tmp_path / "r.jsonl", 0)

    monkeypatch.setattr(sweep_slurm, "_follow", follow)
    monkeypatch.setattr(dispatch, "_command", command)
    assert main(["env"]) == code
    assert capsys.readouterr().err == (
        "dlm-bench: interrupted; the jobs go on, and --resume waits for them again "
        "(to end them: scancel )\n"
    )


def test_an_ignored_interrupt_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        monkeypatch.setattr(dispatch, "_command", lambda _: os.kill(os.getpid(), 2) or 0)
        assert main(["env"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)
