"""The records of two results files, matched point by point and compared."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import fmean

from dlm_bench.compare.environments import environment_warnings, execution_changes
from dlm_bench.compare.flags import runs_to_compare
from dlm_bench.compare.statistics import (
    ASSUMED_FREEDOM,
    FAILURES,
    FALSE_ALARMS,
    RUN_SPREAD,
    SUITE_SHARE,
    THRESHOLD,
    TimeRatio,
    Verdict,
    compare_times,
    verdict_of,
)
from dlm_bench.compare.suite import Overall, suite_of_runs
from dlm_bench.compare.tokens import other_tokens
from dlm_bench.compare.verdicts import Comparison, PointVerdict, tokens_of
from dlm_bench.errors import ResultsError
from dlm_bench.results.identity import point_key
from dlm_bench.results.record import Record
from dlm_bench.results.store import read_records

Records = Sequence[Record]


def compare_all(
    base: str | Path,
    heads: Sequence[str | Path],
    *,
    threshold: float = THRESHOLD,
    false_alarms: float = FALSE_ALARMS,
    suite_threshold: float | None = None,
    run_spread: float = RUN_SPREAD,
    allow_different_environment: bool = False,
) -> list[Comparison]:
    """Compare results files with a base, each by itself; the chance of a false alarm is that of all
    points of all files together.

    suite_threshold: judge the whole suite, too, with SUITE_SHARE of that chance.

    Raises ResultsError for a file that is damaged, empty or of a newer schema, for files without a
    common point, and for different environments unless they are allowed.
    """
    before = _whole(base)
    matched = [paired(before, _whole(head)) for head in heads]
    suite_alarms = 0.0 if suite_threshold is None else SUITE_SHARE * false_alarms
    family = sum(_is_comparable(*pair) for pairs in matched for pair in pairs)
    judge = Judge(threshold, (false_alarms - suite_alarms) / max(1, family), run_spread)
    found = []
    for head, pairs in zip(heads, matched, strict=True):
        if not any(one and other for one, other in pairs):
            raise ResultsError(f"no point of {str(base)!r} is in {str(head)!r}{_why_none(pairs)}")
        found.append(
            Comparison(
                base=str(base),
                head=str(head),
                threshold=threshold,
                points=[replace(_verdict(*p, judge), tokens=tokens_of(chain(*p))) for p in pairs],
                how=_how(pairs, run_spread),
                warnings=environment_warnings(pairs, allow_different_environment),
                remedy="append more runs to both files (sweep again), raise --threshold, or give "
                "a smaller --run-spread if runs differ by less",
                overall=_overall(pairs, run_spread, suite_threshold, suite_alarms / len(heads)),
            )
        )
    return found


def _is_comparable(base: Records, head: Records) -> bool:
    return bool(_ok(base) and _ok(head))


def _overall(
    pairs: Sequence[tuple[Records, Records]],
    run_spread: float,
    threshold: float | None,
    false_alarms: float,
) -> Overall | None:
    """Compare the points that both sides have, without those of a side held back alone."""
    compared = [runs_to_compare(_ok(base), _ok(head)) for base, head in pairs]
    points = [
        (
            (seconds_of(each.base), errors_of(each.base)),
            (seconds_of(each.head), errors_of(each.head)),
        )
        for each in compared
        if each.base and each.head and not each.unproven
    ]
    return suite_of_runs(points, run_spread, threshold, false_alarms)


def _whole(path: str | Path) -> list[Record]:
    records = read_records(path, strict=True)
    if not records:
        raise ResultsError(f"results file {str(path)!r}: holds no record")
    return records


def paired(base: Iterable[Record], head: Iterable[Record]) -> list[tuple[Records, Records]]:
    """Return the records of each point on both sides, in the order of base, then head's further
    points.

    Records are of the same point if they asked for the same point, warm-up and seed. The mode is
    left out: "auto" becomes "exact" or "sampled", and stays "auto" in a failure. So are the
    repeats, as more of them only tell more, and the version and the hardware. The rest is matched
    without dtype and device, so a change of these becomes visible.
    """
    before, after = _grouped(base), _grouped(head)
    pairs: dict[str, tuple[Records, Records]] = {}
    other = {_without_place(group[0]): key for key, group in after.items() if key not in before}
    for key, group in before.items():
        match = key if key in after else other.pop(_without_place(group[0]), None)
        pairs[key] = (group, after.pop(match, []) if match is not None else [])
    return [*pairs.values(), *(([], group) for group in after.values())]


def _grouped(records: Iterable[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(_asked(record), []).append(record)
    return groups


def _asked(record: Record, **changes: str) -> str:
    point = record.point.model_copy(update={"seed": None}).model_dump() | changes
    return json.dumps([point, record.warmup, record.seed], sort_keys=True)


def _without_place(record: Record) -> str:
    return _asked(record, dtype="", device="")


def _why_none(pairs: Sequence[tuple[Records, Records]]) -> str:
    """Explain why two files have no point in common."""
    points: tuple[dict[str, Record], dict[str, Record]] = ({}, {})
    for pair in pairs:
        for side, group in zip(points, pair, strict=True):
            side |= {point_key(record.point): record for record in group}
    for key in points[0].keys() & points[1].keys():
        before, after = points[0][key], points[1][key]
        for name in ("warmup", "seed"):
            one, other = getattr(before, name), getattr(after, name)
            if one != other:
                return f": the same points were measured with {name} {one} and {other}"
    first, second = (next(iter(side.values())).point.describe() for side in points)
    return f": one has {first}, the other {second}; compare files of the same sweep"


def _ok(records: Records) -> list[Record]:
    return [record for record in records if record.status == "ok"]


@dataclass(frozen=True)
class Judge:
    """The rules for a point: the threshold, the chance of a false alarm, and the spread of runs."""

    threshold: float
    alarm: float
    run_spread: float

    def judge(self, base: Records, head: Records) -> tuple[TimeRatio, Verdict, list[str]]:
        """Compare the ok records of both sides; return the ratio, the verdict and notes."""
        compared = runs_to_compare(base, head)
        change = compare_times(
            seconds_of(compared.base),
            seconds_of(compared.head),
            false_alarms=self.alarm,
            run_spread=self.run_spread,
            base_errors=errors_of(compared.base),
            head_errors=errors_of(compared.head),
        )
        notes = [compared.note] if compared.note else []
        notes += _error_note([*compared.base, *compared.head], self.run_spread)
        return change, compared.verdict(verdict_of(change, self.threshold)), notes


def seconds_of(records: Records) -> list[list[float]]:
    """Return the seconds of each record's repeats."""
    return [record.seconds for record in records]


def errors_of(records: Records) -> list[float | None]:
    """Return the stated error of each record: in sampled mode, where repeats are not all of it."""
    return [record.error_estimate if record.mode == "sampled" else None for record in records]


def _verdict(base: Records, head: Records, rules: Judge) -> PointVerdict:
    point = (head or base)[-1].point
    before, after = _ok(base), _ok(head)
    base_seconds, head_seconds = _seconds(before), _seconds(after)
    if before and after and len(base) == len(before) and len(head) - len(after) >= FAILURES:
        note = "; ".join([_failure(head), *_notes(base, head)])
        return PointVerdict(point, "newly failing", base_seconds, head_seconds, note=note)
    if before and after:
        change, verdict, notes = rules.judge(before, after)
        note = "; ".join([*_notes(base, head), *notes])
        return PointVerdict(point, verdict, base_seconds, head_seconds, change, note)
    if not head:
        return PointVerdict(point, "missing", base_seconds, note="head has no record of it")
    if not base:
        note = "" if after else _failure(head)
        return PointVerdict(point, "new", None, head_seconds, note=note)
    if after:
        return PointVerdict(point, "fixed", None, head_seconds, note=f"base: {_failure(base)}")
    verdict = "newly failing" if before else "still failing"
    return PointVerdict(point, verdict, base_seconds, note=_failure(head))


def _seconds(records: Records) -> float | None:
    return fmean(fmean(record.seconds) for record in records) if records else None


def _failure(records: Records) -> str:
    last = [record for record in records if record.status != "ok"][-1]
    return f"{last.status}: {last.message}" if last.message else last.status


def _notes(base: Records, head: Records) -> list[str]:
    notes = []
    for name, records in (("base", base), ("head", head)):
        flags = sorted({flag for record in records for flag in record.flags})
        if flags:
            notes.append(f"{name} {', '.join(flags)}")
        failed = len(records) - len(_ok(records))
        if failed:
            notes.append(f"{failed} of {len(records)} runs of {name} failed")
    notes += filter(None, [other_tokens(base, head)])
    return notes + execution_changes(_ok(base), _ok(head))


def _error_note(records: Records, run_spread: float) -> list[str]:
    """Note stated errors of sampling that count more than --run-spread."""
    stated = max((error or 0.0) for error in errors_of(records))
    if stated / 2 <= run_spread:
        return []
    return [f"sampling may be off by up to {100 * stated:.2g} %"]


def _how(pairs: Sequence[tuple[Records, Records]], run_spread: float) -> str:
    runs = [min(len(_ok(before)), len(_ok(after))) for before, after in pairs]
    fewest = min(filter(None, runs), default=0)
    if not fewest:
        return ""
    return (
        f"{fewest} run{'s' * (fewest != 1)} a side; that runs of the same code differ by "
        f"{100 * run_spread:g} % is assumed (--run-spread), with the weight of "
        f"{ASSUMED_FREEDOM} runs"
    )
