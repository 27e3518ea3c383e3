"""The parent's end of a worker process: start, questions, and the cause of an end."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dlm_bench.results.record import Status
from dlm_bench.sweep.worker.messages import Failed, Failure
from dlm_bench.waiting import wait_passively

PACKAGE = Path(__file__).resolve().parents[3]  # holds this dlm_bench
WORKER = (sys.executable, "-P", "-m", "dlm_bench.worker")
START_SECONDS = 300.0  # imports from a cold network disk take a minute
POLL_SECONDS = 1.0  # between checks of a worker; rare, as it is measuring
SURVIVE_SECONDS = 0.3  # the kills of a job's processes are some milliseconds apart
TAIL_BYTES = 4096  # of stderr, searched for the last words
_NO_MEMORY = (
    "MemoryError",
    "bad_alloc",
    "can't allocate memory",
    "Cannot allocate memory",
    "Thread creation failed",  # libgomp's, of the stack of a thread
    "failed to map segment",  # the dynamic linker's
)


class WorkerFailure(Exception):
    """A worker without an answer; status and message for the record of the point."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def outcome(self) -> Failed:
        """Return the outcome of the point under way."""
        return Failed(failure=Failure(status=self.status, message=str(self)))


class WorkerProcess:
    """A running worker, in a separate process group, with this process's environment.

    packages: the folders to import from, that of the dlm_bench to run among them.
    variables: additions to the environment.
    wait: False returns during the start; call `wait_until_ready` before the first question.

    Raises WorkerFailure if the start fails.
    """

    def __init__(
        self,
        command: Sequence[str] = WORKER,
        packages: Sequence[Path] = (PACKAGE,),
        variables: Mapping[str, str] = MappingProxyType({}),
        wait: bool = True,
    ) -> None:
        self._oom_kills = _oom_kills()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (stop closes it)
        self._unread = b""
        self._answers, theirs = os.pipe()
        # Those packages, whatever lies in the current folder (hence also -P).
        folders = [*map(str, packages), *filter(None, [os.environ.get("PYTHONPATH")])]
        path = os.pathsep.join(folders)
        # The child inherits this, and lets SIGTERM through when it has its own handler: see there.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self._process = subprocess.Popen(
                [*command, "--answers", str(theirs), "--parent", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=self._output,
                pass_fds=(theirs,),
                start_new_session=True,
                env=_environment(variables) | {"PYTHONPATH": path},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(theirs)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait for the end of the worker's imports. Raises WorkerFailure if the start fails."""
        try:
            self._next_answer(START_SECONDS)
        except BaseException:
            self.stop()
            raise

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    def ask(self, job: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Return the worker's answer to a job.

        Raises WorkerFailure, with the worker gone, for a death or for more than `timeout` seconds.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return self._next_answer(timeout)

    def kill(self) -> None:
        """Kill the worker and all children, from any thread. The asking thread finds the worker
        dead, and must call `stop`."""
        if self.alive:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Kill the worker and all children, and wait for the end."""
        if self._answers < 0:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        os.close(self._answers)
        self._answers = -1
        self._output.close()

    def _next_answer(self, timeout: float | None) -> dict[str, Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                gone = not self.alive
                wait = POLL_SECONDS
                if deadline is not None:
                    wait = max(0.0, min(wait, deadline - time.monotonic()))
                # Of a process that was stopped (Ctrl-Z) the deadline may be over, the answer there.
                if selector.select(0 if gone else wait):
                    piece = os.read(self._answers, 1 << 16)
                    if not piece:
                        raise self._ended()
                    self._unread += piece
                elif gone:
                    raise self._ended()
                elif not wait:
                    self.stop()
                    raise WorkerFailure(
                        "timeout", f"no result within {timeout:g} s; its process was killed"
                    )
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self) -> WorkerFailure:
        """Find the cause of the worker's end, once over."""
        try:
            self._process.wait(POLL_SECONDS)  # it closed its pipe: let it end by itself
        except subprocess.TimeoutExpired:
            self.stop()
            return WorkerFailure("error", "the worker closed its pipe and went on; killed")
        code, words = self._process.returncode, self._last_words()
        self.stop()
        message = f"the worker ended by itself with exit code {code}"
        status: Status = "oom" if any(word in words for word in _NO_MEMORY) else "error"
        if code == -signal.SIGKILL:
            # A scheduler that kills a job does so process by process: this one may be next, and is
            # not to blame the point before it knows.
            time.sleep(SURVIVE_SECONDS)
            status, message = self._killed()
        elif code < 0:
            message = f"the worker died of {_signal_name(-code)}"
        return WorkerFailure(status, f"{message}; its last words: {words}" if words else message)

    def _killed(self) -> tuple[Status, str]:
        """Explain a SIGKILL from outside: the kernel counts kills for memory."""
        now = _oom_kills()
        if now is None or self._oom_kills is None:
            return "oom", "the worker was killed (signal 9), perhaps by the out-of-memory killer"
        if now > self._oom_kills:
            return "oom", "the worker was killed (signal 9) by the out-of-memory killer"
        return "error", "the worker was killed (signal 9), and not by the out-of-memory killer"

    def _last_words(self) -> str:
        """Return the last line on the worker's stdout or stderr."""
        size = os.fstat(self._output.fileno()).st_size
        tail = os.pread(self._output.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES))
        lines = [line.strip() for line in tail.decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker: this process's with these variables.

    Threads wait without spinning unless the user says otherwise. PYTHONWARNINGS is dropped: a
    filter for errors is meant for the user's own code.
    """
    environment = {**os.environ, **variables}
    environment.pop("PYTHONWARNINGS", None)
    wait_passively(environment)
    return environment


def _oom_kills() -> int | None:
    """Return the number of processes that the kernel has killed for memory; None if unknown."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
