"""The messages between a worker and the parent: a JSON object a line each way.

The parent writes a PlanJob or a MeasureJob; the worker writes Ready once, then an answer a job. The
keys stay as they are, since the parent of `dlm-bench ab` talks to workers of older revisions.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from dlm_bench.errors import DlmBenchError
from dlm_bench.results.record import Point, Record, Status
from dlm_bench.sweep.load import Measuring, Sweep
from dlm_bench.sweep.plan import Plan

M = TypeVar("M", bound="Message")


class MessageError(DlmBenchError):
    """A message of another version of dlm-bench: the field at fault, and the mistake."""


class Message(BaseModel):
    """A line of either pipe. Fields of a newer version are left aside."""

    model_config = ConfigDict(frozen=True)

    def json_object(self) -> dict[str, Any]:
        """Return the message as written to the pipe."""
        return self.model_dump(mode="json", exclude={"warnings"})


class PlanJob(Message):
    """Read and check a sweep file.

    plan: arguments of `sweep.planning.make_plan`; absent arguments keep the worker's defaults.
    """

    plan: dict[str, Any]


class MeasureJob(Message):
    """Measure a point.

    measure: fields of Point; measuring: fields of Measuring; both named as in the worker's
        revision.
    memory_limit: bytes for the process. traces, prompts: the file of each trace, and of prompts, by
        the label in the points.
    """

    measure: dict[str, Any]
    measuring: dict[str, Any]
    memory_limit: int | None
    traces: dict[str, str] = {}
    prompts: dict[str, str] = {}

    @classmethod
    def of(cls, sweep: Sweep, point: Point, measuring: Measuring) -> "MeasureJob":
        """Return the job of a point of a sweep."""
        return cls(
            measure=point.asked(),
            measuring=measuring.model_dump(),
            memory_limit=sweep.memory_limit,
            traces=sweep.traces,
            prompts=sweep.prompts,
        )


class Ready(Message):
    """The end of the imports. ready: the worker's process id."""

    ready: int


class Answer(Message):
    """An answer to a job. warnings: texts of the job's Python warnings."""

    warnings: list[str] = []


class Planned(Answer):
    """The plan of a sweep file."""

    plan: Plan


class Refused(Answer):
    """The mistakes of a sweep file, a line each."""

    mistake: str


class Measured(Answer):
    """The record of a point, and the seconds of the measurement."""

    record: Record
    seconds: float


class Failure(BaseModel):
    """Status and message for the record of a failed point; kernels: of the point's model."""

    status: Status
    message: str
    kernels: dict[str, str] = {}


class Failed(Answer):
    """A point without times."""

    failure: Failure


Outcome = Measured | Failed  # of a point

_ANSWERS: dict[str, type[Planned | Refused | Outcome]] = {
    "plan": Planned,
    "mistake": Refused,
    "record": Measured,
    "failure": Failed,
}


def read_job(line: Mapping[str, Any]) -> PlanJob | MeasureJob:
    """Read a job from a JSON object. Raises MessageError."""
    return _read(PlanJob, line) if "plan" in line else _read(MeasureJob, line)


def read_answer(line: Mapping[str, Any]) -> Planned | Refused | Outcome:
    """Read an answer from a JSON object. Raises MessageError."""
    for key, kind in _ANSWERS.items():
        if key in line:
            return _read(kind, line)
    raise MessageError(f"none of {', '.join(_ANSWERS)}")


def _read(kind: type[M], line: Mapping[str, Any]) -> M:
    try:
        return kind.model_validate(line)
    except ValidationError as error:
        reason = error.errors()[0]
        where = ".".join(map(str, reason["loc"][1:] or reason["loc"]))
        raise MessageError(f"{where}: {reason['msg']}") from None
