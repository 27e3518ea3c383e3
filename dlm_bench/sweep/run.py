"""The points of a sweep in worker processes; a failed point is a record like any other.

This process keeps the records, without torch: the next point is safe from the memory, the CUDA
context and the end of a worker.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from dlm_bench.errors import ConfigError, DlmBenchError
from dlm_bench.results.identity import asked_of, point_key
from dlm_bench.results.record import Point, Record, Status
from dlm_bench.sweep.kernel_check import why_left_out
from dlm_bench.sweep.memory import lack_of_memory, point_memory
from dlm_bench.sweep.plan import ModelKey, Plan, model_key
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

ALIKE = 2  # errors of a series: with as many equal ones a further point is not worth a worker


class WorkerError(DlmBenchError):
    """No worker could be started, or none could read the sweep: nothing can be measured."""


class Executor:
    """Runs sweeps in workers, singly; the end of the context ends the worker.

    A worker measures consecutive points of the same model. After a failure, or for another model, a
    new worker starts with fresh memory and CUDA context. `variables` are set in the workers'
    environment.
    """

    def __init__(
        self,
        command: Sequence[str] = WORKER,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.command = command
        self._variables = variables
        self._worker: WorkerProcess | None = None
        self._interrupted = False
        self.model: ModelKey | None = None  # that the worker has built, if any
        self._kernels: dict[ModelKey, dict[str, str]] = {}  # that each model was seen to run with

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the worker, if there is any."""
        if self._worker is not None:
            self._worker.stop()
        self._worker = self.model = None

    def at(self, variables: Mapping[str, str]) -> "Executor":
        """Return another executor of the same workers, with these variables in their
        environment."""
        return type(self)(self.command, variables)

    def interrupt(self) -> None:
        """End the worker from another thread, for good: present and future jobs fail at once."""
        self._interrupted = True
        worker = self._worker  # which its own thread may replace meanwhile
        if worker is not None:
            worker.kill()

    def plan(self, path: str | Path, **overrides: Any) -> Plan:
        """Check a sweep file and make the plan (see `load_sweep` for the overrides).

        Raises ConfigError for a mistake in the file, WorkerError if no worker can read the file.
        """
        try:
            answer = self._ask(PlanJob(plan={"path": str(path), **overrides}))
        except WorkerFailure as error:
            self.stop()
            raise WorkerError(f"cannot start measuring: {error}") from None
        if isinstance(answer, Refused):
            raise ConfigError(answer.mistake)
        if not isinstance(answer, Planned):
            raise WorkerError("cannot start measuring: the worker's answer is not a plan")
        return answer.plan

    def run(
        self,
        plan: Plan,
        found: Sequence[Record] = (),
        begin: Callable[[int], object] = lambda index: None,
        max_seconds: Callable[[int], float | None] = lambda index: None,
        wanted: Callable[[int], bool] = lambda index: True,
    ) -> Generator[tuple[int, Record, float], None, None]:
        """Measure every point without a record in `found`, in turn.

        Yields index, record and the seconds of the measurement. `begin` is called with the index
        before a point starts; `max_seconds` gives the argument of `measure`; `wanted` is asked
        right before a point starts, and False leaves the point out. Once a point is out of memory
        or time, longer points of the same series become records of status `skipped`; so does the
        rest of a series after ALIKE equal errors in a row.
        """
        limits = Limits(found)
        done = {record.identity for record in found}
        for index, (point, identity) in enumerate(
            zip(plan.sweep.points, plan.identities(), strict=True)
        ):
            if identity in done or not wanted(index):
                continue
            begin(index)
            seconds = 0.0
            record = limits.skip(plan, point)
            if record is None:
                record, seconds = self.measure(plan, index, max_seconds(index))
            limits.note(record)
            yield index, record, seconds

    def measure(
        self, plan: Plan, index: int, max_seconds: float | None = None
    ) -> tuple[Record, float]:
        """Measure a point of a plan now; return the record and the seconds of the measurement.

        Sampling may take `max_seconds`, by default the sweep's.
        """
        point = plan.sweep.points[index]
        record, seconds = self._measure(plan, point, max_seconds)
        record.identity = plan.identity_of(point)
        record.run = plan.run
        measuring = plan.sweep.measuring
        record.settings = asked_of(measuring.model_dump() | {"seed": measuring.seed_of(point)})
        if plan.shuffle is not None:
            record.settings["shuffle"] = plan.shuffle
        if plan.sweep.stand_ins:
            used = [plan.sweep.stand_ins[each] for each in sorted(plan.sweep.stand_ins)]
            record.environment = record.environment | {"kernel_check": "; ".join(used)}
        return record, seconds

    def _measure(self, plan: Plan, point: Point, max_seconds: float | None) -> tuple[Record, float]:
        sweep = plan.sweep
        model = model_key(point)
        if self.model not in (None, model):
            self.stop()
        measuring = sweep.measuring
        if max_seconds is not None:
            measuring = measuring.model_copy(update={"max_seconds": max_seconds})
        try:
            answer = self._ask(MeasureJob.of(sweep, point, measuring), sweep.timeout)
        except MessageError as error:  # the code was changed while the sweep ran
            self.model = model
            message = f"the worker's record is of another version ({error})"
            return _failed(plan, point, "error", message), 0.0
        except WorkerFailure as error:
            self.stop()
            kernels = self._kernels.get(model, {})
            return _failed(plan, point, error.status, str(error), kernels), 0.0
        self.model = model
        if isinstance(answer, Measured):
            self._kernels[model] = answer.record.kernels
            return answer.record, answer.seconds
        self.stop()
        if isinstance(answer, Failed):
            failure = answer.failure
            failed = _failed(plan, point, failure.status, failure.message, failure.kernels)
        else:
            failed = _failed(plan, point, "error", "the worker's answer is not a record")
        return failed, 0.0

    def _ask(
        self, job: PlanJob | MeasureJob, timeout: float | None = None
    ) -> Planned | Refused | Measured | Failed:
        """Ask the worker, or a new worker if there is none or the former died while idle."""
        if self._worker is not None and not self._worker.alive:
            self.stop()
        if self._worker is None:
            self._worker = WorkerProcess(self.command, variables=self._variables, wait=False)
            if self._interrupted:  # before there was anything to kill
                raise WorkerFailure("error", "interrupted")
            self._worker.wait_until_ready()
        answer = read_answer(self._worker.ask(job.json_object(), timeout))
        for text in answer.warnings:
            warnings.warn(text, stacklevel=2)
        return answer


class Limits:
    """Points not worth a try: those that cannot fit in memory, and further points of a series after
    failures (the shortest point out of memory or time, equal errors without a measured point)."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._shortest: dict[str, Record] = {}
        self._errors: dict[str, list[Record]] = {}
        for record in records:
            self.note(record)

    def note(self, record: Record) -> None:
        """Remember the outcome of a point."""
        series = series_key(record.point)
        if record.status in ("oom", "timeout"):
            before = self._shortest.setdefault(series, record)
            if record.point.length < before.point.length:
                self._shortest[series] = record
        elif record.status == "error":
            self._errors.setdefault(series, []).append(record)
        elif record.status == "ok":
            self._errors.pop(series, None)

    def skip(self, plan: Plan, point: Point) -> Record | None:
        """Return the record of a point that is not worth a try, None if the point is."""
        series = series_key(point)
        needed = point_memory(plan.sweep, point)
        why = (
            why_left_out(plan.sweep.left_out, point)
            or lack_of_memory(needed, plan.memory)
            or self._is_too_long(series, point)
            or self._ends_alike(series)
        )
        return None if why is None else skipped(plan, point, why)

    def _is_too_long(self, series: str, point: Point) -> str | None:
        failed = self._shortest.get(series)
        if failed is None or point.length <= failed.point.length:
            return None
        what = {"oom": "out of memory", "timeout": "out of time"}[failed.status]
        return f"{failed.point.describe()} was {what} ({failed.message})"

    def _ends_alike(self, series: str) -> str | None:
        errors = self._errors.get(series, [])
        kinds = Counter(_kind_of_error(record) for record in errors)
        for last in reversed(errors):
            if (count := kinds[_kind_of_error(last)]) >= ALIKE:
                return (
                    f"{count} points of this series ended with the same error, the last of them "
                    f"{last.point.describe()} ({last.message})"
                )
        return None


def _kind_of_error(record: Record) -> str:
    """Return the message without numbers, such as lengths and addresses."""
    return re.sub(r"0x[0-9a-fA-F]+|\d+", "#", record.message)


def skipped(plan: Plan, point: Point, why: str) -> Record:
    """Return the record of a point that is not tried, for this reason."""
    record = _failed(plan, point, "skipped", f"not tried: {why}")
    record.identity, record.run = plan.identity_of(point), plan.run
    return record


def series_key(point: Point) -> str:
    """Return the key of a series, shared by points that differ in nothing but length."""
    return point_key(point, "length")


def _failed(
    plan: Plan,
    point: Point,
    status: Status,
    message: str,
    kernels: dict[str, str] | None = None,
) -> Record:
    measuring = plan.sweep.measuring
    return Record(
        point=point,
        status=status,
        message=message,
        mode=measuring.mode,
        warmup=measuring.warmup,
        repeats=measuring.repeats,
        seed=measuring.seed_of(point),
        kernels=kernels or {},
        environment=plan.environment,
    )
