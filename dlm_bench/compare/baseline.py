"""A new record judged against a stored baseline: the assertion of the pytest plugin."""

import os
from dataclasses import dataclass
from statistics import fmean

from dlm_bench.compare.environments import (
    MINOR_DIFFERENCES,
    environment_differences,
    execution_changes,
)
from dlm_bench.compare.match import Judge, paired
from dlm_bench.compare.statistics import FALSE_ALARMS, RUN_SPREAD, THRESHOLD
from dlm_bench.compare.verdicts import PointVerdict
from dlm_bench.errors import ResultsError
from dlm_bench.results.record import Record
from dlm_bench.results.store import read_records


@dataclass(frozen=True)
class Baseline:
    """The records of a results file to judge new ones against, and the number of their points."""

    path: str
    records: tuple[Record, ...]
    points: int


def read_baseline(path: str | os.PathLike[str]) -> Baseline:
    """Read a baseline. Raises ResultsError for a file that is unreadable, damaged, empty or of a
    newer schema."""
    records = read_records(path, strict=True)
    if not records:
        raise ResultsError(f"results file {str(path)!r}: holds no record")
    return Baseline(os.fspath(path), tuple(records), len(paired(records, [])))


def judge(
    record: Record,
    baseline: Baseline,
    *,
    threshold: float = THRESHOLD,
    run_spread: float = RUN_SPREAD,
    false_alarms: float = FALSE_ALARMS,
) -> PointVerdict:
    """Judge a measured record as `dlm-bench compare` would, with a single run.

    All points of the baseline count as compared: a session has a false alarm with the chance
    `false_alarms`, however many points are checked. The verdict is "new" for a point without a
    record in the baseline, and "fixed" for a point without an ok record.
    Raises ResultsError if the environments differ.
    """
    pair = next(pair for pair in paired(baseline.records, [record]) if pair[1])
    differences = environment_differences([pair])
    refused = [text for name, text in differences.items() if name not in MINOR_DIFFERENCES]
    if refused:
        raise ResultsError(
            f"{baseline.path} was measured in another environment (baseline / here): "
            f"{'; '.join(refused)}"
        )
    measured = [each for each in pair[0] if each.status == "ok"]
    runs = [each.seconds for each in measured]
    after = fmean(record.seconds)
    if not runs:
        if pair[0]:
            note = pair[0][-1].status
            return PointVerdict(record.point, "fixed", None, after, note=note, tokens=record.tokens)
        return PointVerdict(record.point, "new", None, after, tokens=record.tokens)
    rules = Judge(threshold, false_alarms / baseline.points, run_spread)
    change, verdict, more = rules.judge(measured, [record])
    notes = [*record.flags, *execution_changes(measured, [record]), *more]
    return PointVerdict(
        record.point,
        verdict,
        fmean(map(fmean, runs)),
        after,
        change,
        ", ".join(notes),
        record.tokens,
    )


def line_of(judged: PointVerdict) -> str:
    """Return a verdict as a line: the point, both times and their change."""
    text = f"{judged.point.describe()}: {judged.verdict}"
    change, before, after = judged.change, judged.base_seconds, judged.head_seconds
    if change is not None and before is not None and after is not None:
        ratio, low, high = (
            f"{100 * (value - 1):+.1f} %" for value in (change.ratio, *change.interval)
        )
        text += f", {1e3 * before:.4g} ms -> {1e3 * after:.4g} ms a decode, {ratio}"
        text += f" (95 %: {low} to {high})"
    return f"{text} [{judged.note}]" if judged.note else text
