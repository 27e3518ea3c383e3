"""The two sides of `dlm-bench ab`: each a checkout with a worker."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dlm_bench.compare.ab.checkouts import Checkout
from dlm_bench.compare.ab.sources import RevisionError
from dlm_bench.results.record import Point
from dlm_bench.sweep.worker.messages import (
    Failed,
    Measured,
    MeasureJob,
    MessageError,
    Outcome,
    PlanJob,
    Planned,
    Refused,
    read_answer,
)
from dlm_bench.sweep.worker.process import WORKER, WorkerFailure, WorkerProcess
from dlm_bench.timing.settings import OF_WHOLE_DECODES

# Sampling takes as many rounds as asked for. No warm-up: the worker is warm, and slow decodes do
# not count.
MEASUREMENT_SETTINGS = {"warmup": 0, "tolerance": 1.0}


def visit_settings(measuring: Mapping[str, Any], repeats: int) -> dict[str, Any]:
    """Return the settings of a sweep for a visit of so many repeats, named as in the revision.

    Mode "auto" would take the estimator by the speed at each visit, so it becomes "sampled". Least
    times and a soak of a measurement do not hold for a visit.
    """
    settings = {**measuring, **MEASUREMENT_SETTINGS, "repeats": repeats}
    if settings.get("mode") == "auto":
        settings["mode"] = "sampled"
    return settings | dict.fromkeys(settings.keys() & {*OF_WHOLE_DECODES}, 0.0)


class Side:
    """A checkout with a worker, and the sweep as this revision reads the file.

    command: of the worker. overrides: arguments of `sweep.planning.make_plan` beside the path.
    """

    def __init__(
        self,
        checkout: Checkout,
        command: Sequence[str] = WORKER,
        overrides: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.checkout = checkout
        self._command, self._overrides = command, overrides
        self._worker: WorkerProcess | None = None
        self._sweep: dict[str, Any] = {}

    def begin(self) -> None:
        """Start a fresh worker and stop the former, if there is any."""
        self.stop()
        self._worker = WorkerProcess(self._command, self.checkout.folders, wait=False)

    def ready(self) -> None:
        """Wait for the worker's start. Raises RevisionError if the start fails."""
        assert self._worker is not None
        try:
            self._worker.wait_until_ready()
        except WorkerFailure as error:
            raise self._error(f"cannot start measuring: {error}") from None

    def stop(self) -> None:
        """End the worker, if there is any."""
        if self._worker is not None:
            self._worker.stop()
        self._worker = None

    def plan(self, path: Path) -> list[Point]:
        """Read a sweep file with this revision.

        Raises RevisionError for a mistake in the file, or for an answer in another protocol.
        """
        assert self._worker is not None
        try:
            line = self._worker.ask(
                PlanJob(plan={"path": str(path), **self._overrides}).json_object()
            )
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
        """Decode once at each of these points, up to the first failure; the measurement will report
        this."""
        for index in points:
            if isinstance(self.measure(index, 1, timeout), Failed):
                return

    def measure(self, index: int, repeats: int, timeout: float) -> Outcome:
        """Measure the point with this index. After a failure the next measurement gets a fresh
        worker."""
        if self._worker is None:
            self.begin()
            self.ready()
        assert self._worker is not None
        job = MeasureJob(
            measure=self._sweep["points"][index],
            measuring=visit_settings(self._sweep["measuring"], repeats),
            memory_limit=self._sweep["memory_limit"],
            traces=self._sweep.get("traces", {}),
            prompts=self._sweep.get("prompts", {}),
        )
        limit = min(timeout, self._sweep["timeout"] or timeout)
        try:
            answer = read_answer(self._worker.ask(job.json_object(), limit))
        except MessageError as error:
            raise self._error(f"its records are of another version ({error})") from None
        except WorkerFailure as error:
            self.stop()
            return error.outcome
        for text in answer.warnings:
            warnings.warn(f"{self.checkout.name}: {text}", stacklevel=2)
        if isinstance(answer, Failed):
            self.stop()
        elif not isinstance(answer, Measured):
            raise self._error("speaks another protocol; it is too old or too new for ab")
        return answer

    def _error(self, message: str) -> RevisionError:
        self.stop()
        return RevisionError(f"{self.checkout.name}, {self.checkout.label}: {message}")
