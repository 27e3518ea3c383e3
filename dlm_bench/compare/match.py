"""The records of two results files, matched point by point and compared."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import median

from dlm_bench.compare.statistics import (
    ASSUMED_FREEDOM,
    FAILURES,
    FALSE_ALARMS,
    RUN_SPREAD,
    THRESHOLD,
    compare_times,
    verdict_of,
)
from dlm_bench.compare.tokens import other_tokens
from dlm_bench.compare.verdicts import Comparison, PointVerdict, tokens_of
from dlm_bench.errors import ResultsError
from dlm_bench.results.identity import point_key
from dlm_bench.results.record import Record
from dlm_bench.results.store import read_records

EXPECTED_DIFFERENCES = {"commit", "dlm-bench", "plugins"}  # the subject of a comparison
# Seldom of consequence; on a CPU `hardware` names the CPU too.
MINOR_DIFFERENCES = {"platform", "python", "cpu"}

Records = Sequence[Record]


def compare_files(
    base: str | Path,
    head: str | Path,
    *,
    threshold: float = THRESHOLD,
    run_spread: float = RUN_SPREAD,
    allow_different_environment: bool = False,
) -> Comparison:
    """Compare two results files.

    Raises ResultsError for a file that is damaged, empty or of a newer schema, for files without a
    common point, and for different environments unless they are allowed.
    """
    pairs = paired(_whole(base), _whole(head))
    if not any(before and after for before, after in pairs):
        raise ResultsError(f"no point of {str(base)!r} is in {str(head)!r}{_why_none(pairs)}")
    differences = environment_differences(pairs)
    minor = [text for name, text in differences.items() if name in MINOR_DIFFERENCES]
    refused = [text for name, text in differences.items() if name not in MINOR_DIFFERENCES]
    if refused and not allow_different_environment:
        raise ResultsError(
            f"the environments differ: {'; '.join(refused)} (base / head); such times say nothing "
            "about the code. --allow-different-environment compares them all the same"
        )
    warnings = [f"DIFFERENT ENVIRONMENTS (base / head): {'; '.join(refused)}"] if refused else []
    warnings += [f"not the same on both sides (base / head): {text}" for text in minor]
    comparable = sum(bool(_ok(before) and _ok(after)) for before, after in pairs)
    return Comparison(
        base=str(base),
        head=str(head),
        threshold=threshold,
        points=[
            replace(
                _verdict(*pair, threshold, run_spread, comparable), tokens=tokens_of(chain(*pair))
            )
            for pair in pairs
        ],
        how=_how(pairs, run_spread),
        warnings=warnings,
        remedy="append more runs to both files (sweep again), raise --threshold, or give a smaller "
        "--run-spread if runs differ by less",
    )


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
    point = record.point.model_dump() | changes
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
    return ""


def environment_differences(pairs: Iterable[tuple[Records, Records]]) -> dict[str, str]:
    """Name the differences between the sides of matched points, e.g. `torch: 2.11 / 2.13`, without
    EXPECTED_DIFFERENCES."""
    found: dict[str, str] = {}
    for before, after in pairs:
        environments = [_environment_of(before), _environment_of(after)]
        if not all(environments):
            continue
        for name in (environments[0] | environments[1]).keys() - EXPECTED_DIFFERENCES:
            one, other = (side.get(name, {"none"}) for side in environments)
            if one != other:
                found[name] = f"{name} {_joined(one)} / {_joined(other)}"
    return dict(sorted(found.items()))


def _environment_of(records: Records) -> dict[str, set[str]]:
    environment: dict[str, set[str]] = {}
    for record in records:
        target = {"dtype": record.point.dtype, "device": record.point.device}
        for name, value in (record.environment | target).items():
            environment.setdefault(name, set()).add(str(value))
    return environment


def _joined(values: set[str]) -> str:
    return " and ".join(sorted(values))


def _ok(records: Records) -> list[Record]:
    return [record for record in records if record.status == "ok"]


def _verdict(
    base: Records, head: Records, threshold: float, run_spread: float, comparable: int
) -> PointVerdict:
    point = (head or base)[-1].point
    before, after = _ok(base), _ok(head)
    base_seconds, head_seconds = _seconds(before), _seconds(after)
    if before and after and len(base) == len(before) and len(head) - len(after) >= FAILURES:
        note = "; ".join([_failure(head), *_notes(base, head)])
        return PointVerdict(point, "newly failing", base_seconds, head_seconds, note=note)
    if before and after:
        comparison = compare_times(
            [record.seconds for record in before],
            [record.seconds for record in after],
            comparisons=comparable,
            false_alarms=FALSE_ALARMS,
            run_spread=max(run_spread, estimated_spread([*before, *after])),
        )
        verdict = verdict_of(comparison, threshold)
        note = "; ".join([*_notes(base, head), *spread_notes([*before, *after], run_spread)])
        return PointVerdict(point, verdict, base_seconds, head_seconds, comparison, note)
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
    return median(median(record.seconds) for record in records) if records else None


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


def execution_changes(base: Records, head: Records) -> list[str]:
    """List head's differences in execution, of ok records: mode, kernels and captured graphs."""
    modes = [_joined({record.mode for record in records}) for records in (base, head)]
    found = [] if modes[0] == modes[1] else [f"mode {modes[1]}, was {modes[0]}"]
    one, other = base[-1].kernels, head[-1].kernels
    for operation in sorted(one.keys() & other.keys()):
        if one[operation] != other[operation]:
            found.append(f"{operation} by {other[operation]}, was {one[operation]}")
    one, other = base[-1].graphs, head[-1].graphs
    for role in sorted(one.keys() & other.keys()):
        if one[role] != other[role]:
            found.append(f"graph of {role}: {other[role]}, was: {one[role]}")
    return found


def estimated_spread(records: Records) -> float:
    """Return the standard deviation of runs by sampling alone: half of the largest error estimate,
    a 95 % bound."""
    return max((record.error_estimate or 0.0) for record in records) / 2


def spread_notes(records: Records, run_spread: float) -> list[str]:
    """Note the use of the sampling error instead of --run-spread, if the error is larger."""
    spread = estimated_spread(records)
    if spread <= run_spread:
        return []
    return [f"a run spread of {100 * spread:.2g} % for the error estimate of sampled passes"]


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
