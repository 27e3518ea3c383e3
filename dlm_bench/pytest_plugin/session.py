"""State of a pytest session, shared by hooks and fixture."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlm_bench.compare.baseline import Baseline


@dataclass
class Session:
    """The options of a session, and the lines of its summary.

    baseline: records to compare with.
    save: results file to append to.
    threshold: slowdown to fail a test, as a share.
    run_spread: standard deviation between runs of the same code, as a share.
    false_alarms: chance of any false alarm.
    strict: fail for a point without a comparison, instead of skipping its test.
    device: default of the points.
    """

    baseline: "Baseline | None"
    save: Path | None
    threshold: float
    run_spread: float
    false_alarms: float
    strict: bool
    device: str
    lines: list[str] = field(default_factory=list)
