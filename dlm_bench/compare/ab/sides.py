"""The two sides of `dlm-bench ab`: each a checkout, and the worker that runs it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm_bench.compare.ab.checkouts import Checkout, RevisionError
from dlm_bench.results.record import Point, Record
from dlm_bench.sweep.worker.messages import (
    Failed,
    Measured,
    MeasureJob,
    MessageError,
    PlanJob,
    Planned,
    Refused,
    read_answer,
)
from dlm_bench.sweep.worker.process import WORKER, WorkerFailure, WorkerProcess

# A visit takes as many rounds as it was told to where passes are sampled. It has no warm-up: the
# worker is warm, and of its decodes the slow ones do not count.
VISIT = {"warmup": 0, "tolerance": 1.0}


@dataclass(frozen=True)
class Visit:
    """One answer to a point: the record, and the seconds that the measuring took in all."""

    record: Record
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Why a side gave no time for a point."""

    status: str
    message: str


class Side:
    """A checkout with its worker, and its own reading of the sweep."""

    def __init__(self, checkout: Checkout, command: Sequence[str] = WORKER) -> None:
        self.checkout = checkout
        self._command = command
        self._worker: WorkerProcess | None = None
        self._sweep: dict[str, Any] = {}

    def begin(self) -> None:
        """Let a fresh worker start, in the place of the one there is."""
        self.stop()
        self._worker = WorkerProcess(self._command, self.checkout.folder, wait=False)

    def ready(self) -> None:
        """Wait for the worker's start. Raises RevisionError if it does not start."""
        assert self._worker is not None
        try:
            self._worker.wait_until_ready()
        except WorkerFailure as error:
            raise self._error(f"cannot start measuring: {error}") from None

    def stop(self) -> None:
        """End the worker, if there is one."""
        if self._worker is not None:
            self._worker.stop()
        self._worker = None

    def plan(self, path: Path) -> list[Point]:
        """The points that this revision makes of a sweep file. Raises RevisionError for a mistake
        in it, or for an answer in a protocol that is not this one."""
        assert self._worker is not None
        try:
            line = self._worker.ask(PlanJob(plan={"path": str(path)}).json_object())
            answer = read_answer(line)
        except WorkerFailure as error:
            raise self._error(f"cannot read the sweep: {error}") from None
        except MessageError:
            raise self._error("speaks another protocol; it is too old or too new for ab") from None
        if isinstance(answer, Refused):
            raise self._error(answer.mistake)
        if not isinstance(answer, Planned):
            raise self._error("speaks another protocol; it is too old or too new for ab")
        self._sweep = line["plan"]["sweep"]  # as it said it, which is how it will be asked
        return answer.plan.sweep.points

    def warm(self, points: Sequence[int], timeout: float) -> None:
        """Decode once at each of these points, up to one that fails: its visit will say how."""
        for index in points:
            if isinstance(self.measure(index, 1, timeout), Failure):
                return

    def measure(self, index: int, repeats: int, timeout: float) -> Visit | Failure:
        """Measure its point number `index`. After a failure the worker is gone, and the next
        measuring is done by a fresh one."""
        if self._worker is None:
            self.begin()
            self.ready()
        assert self._worker is not None
        measuring = self._sweep["measuring"]
        if measuring.get("mode") == "auto":  # would take the estimator by the speed at each visit
            measuring = measuring | {"mode": "sampled"}
        job = MeasureJob(
            measure=self._sweep["points"][index],
            measuring=measuring | VISIT | {"repeats": repeats},
            memory_limit=self._sweep["memory_limit"],
            traces=self._sweep.get("traces", {}),
        )
        limit = min(timeout, self._sweep["timeout"] or timeout)
        try:
            answer = read_answer(self._worker.ask(job.json_object(), limit))
        except MessageError as error:
            raise self._error(f"its records are of another version ({error})") from None
        except WorkerFailure as error:
            self.stop()
            return Failure(error.status, str(error))
        for text in answer.warnings:
            warnings.warn(f"{self.checkout.name}: {text}", stacklevel=2)
        if isinstance(answer, Failed):
            self.stop()
            return Failure(answer.failure.status, answer.failure.message)
        if not isinstance(answer, Measured):
            raise self._error("speaks another protocol; it is too old or too new for ab")
        return Visit(answer.record, answer.seconds)

    def _error(self, message: str) -> RevisionError:
        self.stop()
        return RevisionError(f"{self.checkout.name}, {self.checkout.label}: {message}")
