"""Run the stages of a check one after the other, each within its seconds, and say how each ended.

A stage is a command. Its output goes to FOLDER/NAME.log, how it began and ended to
FOLDER/stages.jsonl at once, and FOLDER/summary.txt is written anew each time: a check that is
killed leaves all three. A stage over its time gets SIGINT, so that it can say where it was, and
SIGKILL if it does not end.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rows import append, rows_of

GRACE_SECONDS = 10.0  # between SIGINT and SIGKILL: pytest prints its failures
POLL_SECONDS = 0.02
LEAST_SECONDS = 10.0  # of what is left, with which a stage is worth starting
LONGEST_REASON = 200  # characters
INTERRUPTED = "the check was interrupted"
OK, FAILED, TIMED_OUT, SKIPPED, RUNNING, WAITING = (
    "ok",
    "failed",
    "timed out",
    "skipped",
    "running",
    "waiting",
)


@dataclass(frozen=True)
class Stage:
    """A command and its limit.

    seconds: the most that it may take.
    beside: True if the following stages run at the same time.
    after: the stages, of those that run beside, that have to be over before.
    vital: True if without it the others cannot run.
    again: True if it runs in a resumed check, too, where it was ok before.
    """

    name: str
    seconds: float
    command: tuple[str, ...]
    beside: bool = False
    after: tuple[str, ...] = ()
    vital: bool = False
    again: bool = False


@dataclass
class Result:
    """A stage's status, its seconds, and the reason of a status that is not ok."""

    status: str = WAITING
    seconds: float = 0.0
    reason: str = ""


class Running:
    """A stage that runs: the leader of a process group of its own."""

    def __init__(
        self, stage: Stage, seconds: float, log: Path, variables: Mapping[str, str], cwd: Path
    ) -> None:
        self.stage, self._log = stage, log
        self._begin = time.monotonic()
        self._limit = seconds
        self._interrupted_at: float | None = None
        self._why = ""
        self._said = ""  # before it was interrupted
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                stage.command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **variables},
                cwd=cwd,
                process_group=0,
            )

    @property
    def seconds(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._begin

    def interrupt(self, why: str) -> None:
        """Send SIGINT, once, for this reason."""
        if self._interrupted_at is None:
            self._why, self._said = why, last_line(self._text())
            self._interrupted_at = time.monotonic()
            self._signal(signal.SIGINT)

    def poll(self) -> Result | None:
        """Its result if it is over; else see to its limit."""
        if self._process.poll() is None:
            if self._interrupted_at is not None:
                if time.monotonic() - self._interrupted_at > GRACE_SECONDS:
                    self._signal(signal.SIGKILL)
            elif self.seconds > self._limit:
                self.interrupt(TIMED_OUT)
            return None
        self._signal(signal.SIGKILL)  # what it started and left behind
        code = self._process.returncode
        if self._why == TIMED_OUT:
            return Result(TIMED_OUT, self.seconds, f"limit {self._limit:.4g} s; last: {self._said}")
        if self._why:
            return Result(FAILED, self.seconds, f"{self._why}; last: {self._said}")
        if code == 0:
            return Result(OK, self.seconds)
        how = f"{signal.Signals(-code).name}; last: " if code < 0 else ""
        return Result(FAILED, self.seconds, how + last_line(self._text()))

    def _text(self) -> str:
        return self._log.read_text(errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


class Check:
    """A run of stages in `seconds` all together.

    folder: for all that is written; cwd: of the commands, and `variables` in their environment.
    before: the statuses of an earlier run; what was ok is not run again.
    kept: called after each stage.
    """

    def __init__(
        self,
        folder: Path,
        stages: Sequence[Stage],
        seconds: float,
        *,
        cwd: Path,
        variables: Mapping[str, str],
        before: Mapping[str, str],
        kept: Callable[[], object] = lambda: None,
    ) -> None:
        self._folder, self._stages, self._kept = folder, stages, kept
        self._cwd, self._variables, self._before = cwd, variables, before
        self._begin = time.monotonic()
        self._end = self._begin + seconds
        self._running: list[Running] = []
        self._interrupted = False
        self.results = {stage.name: Result() for stage in stages}

    def run(self) -> bool:
        """Run the stages that are to run. Returns True if all were ok."""
        self._write()
        with self._noting_signals():
            for stage in self._stages:
                self._run(stage)
            self._wait_for(self._running)
        return all(result.status == OK for result in self.results.values())

    def _run(self, stage: Stage) -> None:
        self._wait_for([each for each in self._running if each.stage.name in stage.after])
        left = self._end - time.monotonic()
        broken = [
            each.name
            for each in self._stages
            if each.vital and self.results[each.name].status == FAILED
        ]
        if self._interrupted:
            self._note(stage.name, Result(SKIPPED, 0.0, INTERRUPTED))
        elif broken:
            self._note(stage.name, Result(SKIPPED, 0.0, f"{broken[0]} was not ok"))
        elif self._before.get(stage.name) == OK and not stage.again:
            self._note(stage.name, Result(OK, 0.0, "in an earlier run"))
        elif left < min(LEAST_SECONDS, stage.seconds):
            self._note(stage.name, Result(SKIPPED, 0.0, f"{max(left, 0):.0f} s were left"))
        else:
            self._note(stage.name, Result(RUNNING))  # before it can end this process
            log, limit = self._folder / f"{stage.name}.log", min(stage.seconds, left)
            try:
                running = Running(stage, limit, log, self._variables, self._cwd)
            except OSError as error:
                self._note(stage.name, Result(FAILED, 0.0, str(error)))
                return
            self._running.append(running)
            if not stage.beside:
                self._wait_for([running])

    def _wait_for(self, awaited: Sequence[Running]) -> None:
        awaited = list(awaited)
        while any(each in self._running for each in awaited):
            for each in list(self._running):
                if self._interrupted:
                    each.interrupt(INTERRUPTED)
                result = each.poll()
                if result is not None:
                    self._running.remove(each)
                    self._note(each.stage.name, result)
                    self._kept()
            time.sleep(POLL_SECONDS)

    @contextmanager
    def _noting_signals(self) -> Iterator[None]:
        """End what runs at SIGINT or SIGTERM, in a job in the background, too; what is started then
        does not inherit an ignored SIGINT."""

        def interrupt(number: int, frame: object) -> None:
            self._interrupted = True  # a stage that is just starting is ended as well

        before = {each: signal.signal(each, interrupt) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, name: str, result: Result) -> None:
        """Write down and print how a stage began or ended."""
        self.results[name] = result
        at = round(time.monotonic() - self._begin, 2)
        line = {"stage": name, "at": at, "status": result.status}
        line |= {"seconds": round(result.seconds, 2), "reason": result.reason}
        append(self._folder / "stages.jsonl", line)
        self._write()
        print(f"{at:7.1f} s  {row(name, result)}", flush=True)

    def _write(self) -> None:
        """Put the summary in the place of the last one."""
        text = "".join(f"{row(name, result)}\n" for name, result in self.results.items())
        new = self._folder / "summary.new"
        new.write_text(text)
        new.replace(self._folder / "summary.txt")


def row(name: str, result: Result) -> str:
    """A line of the summary."""
    return f"{name:10} {result.status:9} {result.seconds:6.1f} s  {result.reason}".rstrip()


def statuses(folder: Path) -> dict[str, str]:
    """The last status of each stage in a folder's stages.jsonl."""
    found = {}
    for line in rows_of(folder / "stages.jsonl"):
        found[line["stage"]] = line["status"]
    return found


def last_line(text: str) -> str:
    """The reason that an output ends with: pytest's failures, or the last line with words."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.strip(" =-") for line in re.split(r"[\r\n]+", text)]
    failures = [line for line in lines if re.match(r"(FAILED|ERROR) \S+::", line)]
    if failures:
        more = f" (and {len(failures) - 1} more)" if failures[1:] else ""
        return failures[0][:LONGEST_REASON] + more
    said = (line for line in reversed(lines) if re.search(r"\w", line) and not _EMPTY.match(line))
    return next(said, "no output")[:LONGEST_REASON]


# Lines that say where, but not what.
_EMPTY = re.compile(
    r'(KeyboardInterrupt|File "|Traceback \(most recent|\(to show a full traceback|USDT:)'
)
