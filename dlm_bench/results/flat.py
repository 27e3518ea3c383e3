"""Records as flat rows, for CSV, Parquet and SQL."""

import json
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from dlm_bench.errors import ResultsError, did_you_mean
from dlm_bench.results.record import Record
from dlm_bench.results.store import frame_of

if TYPE_CHECKING:
    import pandas

LISTS = ("seconds", "prefill_seconds", "first_block_seconds", "warmup_seconds", "flags")
LEFT_OUT = ("passes", "options")  # which have rows or columns of their own


def flat_frame(records: Sequence[Record]) -> "pandas.DataFrame":
    """Return a row a record with single values: the columns of `load_results`, nested fields by
    names with dots, such as `environment.torch`, and lists as JSON."""
    import pandas as pd

    rows = []
    for row in frame_of(records).to_dict("records"):
        flat: dict[str, Any] = {}
        for name, value in row.items():
            flat |= flattened(str(name), value)
        rows.append(flat)
    return pd.DataFrame(rows)


def chosen_columns(names: Iterable[str], asked: str | None) -> list[str]:
    """Return the columns asked for, as `length,tokens_per_second,environment.*`, in this order; by
    default those without a dot that are no lists. Raises ResultsError for a pattern of none."""
    there = [name for name in names if name not in LEFT_OUT]
    if asked is None:
        return [name for name in there if "." not in name and name not in LISTS]
    found: dict[str, None] = {}
    for pattern in asked.split(","):
        some = [name for name in there if fnmatchcase(name, pattern.strip())]
        if not some:
            hint = did_you_mean(pattern, there) or f"; columns: {', '.join(there)}"
            raise ResultsError(f"--columns: {pattern!r} is no column of these results{hint}")
        found |= dict.fromkeys(some)
    return list(found)


def flattened(name: str, value: Any) -> dict[str, Any]:
    """Return the single values of a field, by names with dots."""
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, each in value.items():
            found |= flattened(f"{name}.{key}", each)
        return found
    if isinstance(value, list | tuple):
        return {name: json.dumps(value)}
    return {name: value}
