"""The process that measures, `python -m dlm_bench.worker`; its parent keeps records.

One JSON job a line comes on stdin, and one JSON answer a line goes out on a pipe of its own, since
libraries print to stdout (see `messages`). The first line says that the imports are over.
"""

import argparse
import ctypes
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from dlm_bench.sweep.worker.messages import Ready

Answer = Callable[[dict[str, Any]], dict[str, Any]]
PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Measure until there are no more jobs, or until the parent dies."""
    serve(_job_server)


def serve(open_server: Callable[[], Answer], arguments: list[str] | None = None) -> None:
    """Answer jobs by what `open_server`, which may take its time, returns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, required=True, help="file descriptor")
    parser.add_argument("--parent", type=int, required=True, help="process id")
    args = parser.parse_args(arguments)
    die_with(args.parent)
    end_with_parent_alone()
    os.set_inheritable(args.answers, False)  # a child that outlives this process must not hold it
    with os.fdopen(args.answers, "w", encoding="utf-8") as answers:
        answer = open_server()
        _say(answers, Ready(ready=os.getpid()).json_object())
        for line in sys.stdin.buffer:
            with warnings.catch_warnings(record=True) as caught:
                found = answer(json.loads(line))
            _say(answers, found | {"warnings": [str(each.message) for each in caught]})


def _job_server() -> Answer:
    from dlm_bench.sweep.worker.jobs import JobServer

    return JobServer().answer


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends. Outside Linux it ends by itself
    when it next looks for a job."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was told
        sys.exit("the parent process is gone")


def end_with_parent_alone() -> None:
    """Live through SIGTERM, which a scheduler sends to every process of a job: a worker that died
    of it before its parent would look as if its point had killed it. By a handler, and not by
    SIG_IGN, which what this process starts would inherit."""
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
