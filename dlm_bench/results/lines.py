"""The lines of a results frame: the ok points that differ in nothing but their length."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dlm_bench.errors import ResultsError
from dlm_bench.results.record import Point, Record

SETTINGS = ("size", "batch", "prompt_len", "dtype", "device", "hardware")
_MEASURED = {
    "timed_tokens",
    "mean_seconds",
    "mean_prefill_seconds",
    "mean_first_block_seconds",
    "tokens_per_second",
    "ms_per_pass",
    "tokens_per_pass",
    "nfe_per_token",
}
_NOT_OPTIONS = {*Record.model_fields, *Point.model_fields, *SETTINGS, *_MEASURED}


def identity_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that tell lines apart: backbone, sampler, then its options and the settings."""
    options = [column for column in frame.columns if column not in _NOT_OPTIONS]
    return ["backbone", "sampler", *options, *SETTINGS]


def ok_points(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a results frame with status ok, of each point the last one.

    Raises ResultsError, saying what there is instead, if there is none.
    """
    ok = frame[frame["status"].eq("ok") & frame["ms_per_pass"].notna()] if len(frame) else frame
    if ok.empty:
        counts = frame["status"].value_counts() if len(frame) else {}
        there = ", ".join(f"{count} {status}" for status, count in counts.items())
        raise ResultsError(f"no record with status ok ({there or 'no records'})")
    return ok.drop_duplicates([*identity_columns(frame), "length"], keep="last")


def time_bounds(row: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds of a decode that a row of `load_results` lies between: of its fastest and slowest
    repeat, or of sampled timing, whose rounds do not tell all, by its stated error e the mean over
    and times 1 + e (on a logarithmic axis as far to either side)."""
    error = row["error_estimate"]
    if row["mode"] == "sampled" and error is not None and error == error:
        return row["mean_seconds"] / (1 + error), row["mean_seconds"] * (1 + error)
    return min(row["seconds"]), max(row["seconds"])


def check_sampler(frame: pd.DataFrame, sampler: str | None) -> None:
    """Raise ResultsError if a sampler is asked for of which no record is ok, or none is at all."""
    there = dict.fromkeys(ok_points(frame)["sampler"])
    if sampler is not None and sampler not in there:
        raise ResultsError(
            f"--sampler: no ok record of {sampler!r} in these results; allowed: {', '.join(there)}"
        )
