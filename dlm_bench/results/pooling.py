"""The records of a point as a single row: a mean over runs, with a 95 % interval over runs."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from dlm_bench.results.interval import interval_of

Row = dict[str, Any]

MEANS = ("ms_per_pass", "mean_prefill_seconds", "mean_first_block_seconds")


def pooled(rows: Sequence[Row]) -> Row:
    """Return the row of a point from those of its ok records, in the order written.

    Records of another mode or commit than the last are left aside. Each run counts once: the value
    is the mean over runs, and `runs_error` half the 95 % interval over them (Student's t), relative
    to the mean; None for a single run. Repeats and flags of all runs are together.
    """
    last = rows[-1]
    rows = [row for row in rows if _kind(row) == _kind(last)]
    runs = _runs(rows)
    means = [_mean_of_run(run) for run in runs]
    row = last | {"runs": len(runs), "runs_error": relative_half_interval(means)}
    if len(rows) == 1:
        return row
    row["mean_seconds"] = fmean(means)
    row["tokens_per_second"] = row["timed_tokens"] / row["mean_seconds"]
    for name in MEANS:
        found = [each[name] for each in rows if _is_number(each[name])]
        row[name] = fmean(found) if found else None
    if all(each["nfe"] == last["nfe"] for each in rows):
        row["ms_per_pass"] = 1e3 * row["mean_seconds"] / last["nfe"]
    for name in ("seconds", "prefill_seconds", "first_block_seconds"):
        row[name] = [value for each in rows for value in each[name]]
    row["flags"] = list(dict.fromkeys(flag for each in rows for flag in each["flags"]))
    errors = [each["error_estimate"] for each in rows if _is_number(each["error_estimate"])]
    # The part of the interpolation does not get smaller by more rounds.
    row["error_estimate"] = min(errors) if errors else None
    error = row["runs_error"] if len(runs) > 1 else row["error_estimate"]
    row["interval_95"] = interval_of(row["tokens_per_second"], error)
    row["stddev_seconds"] = stdev(row["seconds"])
    row["telemetry"] = last["telemetry"] | {"energy_joules": _energy(rows)}
    peaks = [each["peak_memory_bytes"] for each in rows]
    peaks = [peak for peak in peaks if _is_number(peak)]
    row["peak_memory_bytes"] = max(peaks) if peaks else None
    return row


def relative_half_interval(means: Sequence[float]) -> float | None:
    """Return half the 95 % interval of the mean of independent runs, relative to the mean; None for
    a single run."""
    if len(means) < 2:
        return None
    from scipy.special import stdtrit

    half = stdtrit(len(means) - 1, 0.975) * stdev(means) / math.sqrt(len(means))
    return float(half / fmean(means))


def _runs(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the records of each run.

    Sampled records of the same number are of a single run: a sweep with a budget measures a point
    again for a smaller error. Whole decodes that were measured again are another run.
    """
    runs: dict[Any, list[Row]] = {}
    for place, row in enumerate(rows):
        key = row["run"] if row["mode"] == "sampled" else (row["run"], place)
        runs.setdefault(key, []).append(row)
    return list(runs.values())


def _mean_of_run(rows: Sequence[Row]) -> float:
    """Return the mean seconds of the records of a run, each with the weight of its rounds."""
    rounds = [len(row["seconds"]) for row in rows]
    total = sum(count * row["mean_seconds"] for count, row in zip(rounds, rows, strict=True))
    return float(total / sum(rounds))


def _energy(rows: Sequence[Row]) -> float | None:
    """Return the joules of all records; None if any has none."""
    found = [row["telemetry"].get("energy_joules") for row in rows]
    return sum(found) if all(_is_number(each) for each in found) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _kind(row: Row) -> tuple[Any, ...]:
    """Return what all records of a mean share."""
    return row["mode"], row["environment"].get("commit")
