"""One new record judged against a stored baseline: what the pytest plugin asserts."""

import os
from dataclasses import dataclass
from statistics import median

from dlm_bench.compare.match import (
    TOLD,
    changes,
    environment_differences,
    estimated_spread,
    paired,
    spread_notes,
)
from dlm_bench.compare.statistics import RUN_SPREAD, THRESHOLD, compare_times, verdict_of
from dlm_bench.compare.verdicts import PointVerdict
from dlm_bench.errors import ResultsError
from dlm_bench.results.record import Record
from dlm_bench.results.store import read_records


@dataclass(frozen=True)
class Baseline:
    """The records of a results file that new ones are judged against; `points` is how many points
    they are of, all of which a test session is taken to compare."""

    path: str
    records: tuple[Record, ...]
    points: int


def read_baseline(path: str | os.PathLike[str]) -> Baseline:
    """The baseline in a results file. Raises ResultsError for one that cannot be read, is damaged,
    empty or of a newer schema."""
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
) -> PointVerdict:
    """Judge a measured record as `dlm-bench compare` would, with one run of it.

    All points of the baseline count as compared, so that a session has few false alarms however
    many of them it checks. The verdict is "new" where the baseline has no record of the point and
    "fixed" where none of them is ok. Raises ResultsError if the environments differ.
    """
    pair = next(pair for pair in paired(baseline.records, [record]) if pair[1])
    differences = environment_differences([pair])
    refused = [text for name, text in differences.items() if name not in TOLD]
    if refused:
        raise ResultsError(
            f"{baseline.path} was measured in another environment (baseline / here): "
            f"{'; '.join(refused)}"
        )
    measured = [each for each in pair[0] if each.status == "ok"]
    runs = [each.seconds for each in measured]
    after = median(record.seconds)
    if not runs:
        if pair[0]:
            note = pair[0][-1].status
            return PointVerdict(record.point, "fixed", None, after, note=note, tokens=record.tokens)
        return PointVerdict(record.point, "new", None, after, tokens=record.tokens)
    comparison = compare_times(
        runs,
        [record.seconds],
        comparisons=baseline.points,
        run_spread=max(run_spread, estimated_spread([*measured, record])),
    )
    notes = [*record.flags, *changes(measured, [record])]
    notes += spread_notes([*measured, record], run_spread)
    return PointVerdict(
        record.point,
        verdict_of(comparison, threshold),
        median(median(run) for run in runs),
        after,
        comparison,
        ", ".join(notes),
        record.tokens,
    )


def said(judged: PointVerdict) -> str:
    """A verdict in a line: the point, its times and the change of them."""
    text = f"{judged.point.describe()}: {judged.verdict}"
    change, before, after = judged.comparison, judged.base_seconds, judged.head_seconds
    if change is not None and before is not None and after is not None:
        ratio, low, high = (f"{100 * (value - 1):+.1f} %" for value in (change.ratio, *change.own))
        text += f", {1e3 * before:.4g} ms -> {1e3 * after:.4g} ms a decode, {ratio}"
        text += f" (95 %: {low} to {high})"
    return f"{text} [{judged.note}]" if judged.note else text
