"""The measuring process, `python -m dlm_bench.worker`; the parent keeps the records.

A JSON job a line arrives on stdin. A JSON answer a line leaves on a separate pipe, since libraries
print to stdout (see `messages`). The first line reports the end of the imports.
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
    """Answer jobs with the function that `open_server` returns, maybe after some seconds."""
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
    from dlm_bench.sweep.worker.jobs import JobServer  # with torch: after `die_with`

    return JobServer().answer


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def die_with(parent: int) -> None:
    """Have the kernel kill this process at the parent's end. Outside Linux the worker ends at the
    next read of a job."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was told
        sys.exit("the parent process is gone")


def end_with_parent_alone() -> None:
    """Survive SIGTERM, which a scheduler sends to every process of a job.

    A worker that died before the parent would blame the point under way. A handler is used instead
    of SIG_IGN, which children would inherit.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
