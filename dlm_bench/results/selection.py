"""The records of several files that meet conditions, each with the label of the file."""

import os
from collections.abc import Sequence
from typing import Any

from dlm_bench.errors import ConfigError, ResultsError, counted
from dlm_bench.results.record import Record
from dlm_bench.results.store import frame_of, read_records
from dlm_bench.results.where import check_keys, conditions, holds


def selected(
    paths: Sequence[str | os.PathLike[str]], labels: str | None = None, where: str | None = None
) -> list[Record]:
    """Read the records of these files.

    labels: a name for each file, with commas, which separates the series of files as an option
    `file` of the points does. where: conditions on the columns of `load_results`. Raises
    ConfigError for a wrong number of labels or a wrong condition, ResultsError if no record is
    left.
    """
    names = [] if labels is None else [each.strip() for each in labels.split(",")]
    if names and (len(names) != len(paths) or len({*names}) != len(names) or not all(names)):
        raise ConfigError(
            f"--label: {labels!r} is not allowed; must be {counted(len(paths), 'name')}, each "
            "another, with commas: one for each file"
        )
    records = [
        _labelled(record, names[place]) if names else record
        for place, path in enumerate(paths)
        for record in read_records(path)
    ]
    return records if where is None else matching(records, where)


def matching(records: Sequence[Record], where: str, flag: str = "--where") -> list[Record]:
    """Return the records that meet conditions (see `results.where`). Raises ResultsError if none
    does."""
    asked = conditions(where, flag)
    frame = frame_of(records)
    check_keys(asked, list(frame.columns), flag)
    rows: list[dict[Any, Any]] = frame.to_dict("records")
    kept = [record for record, row in zip(records, rows, strict=True) if holds(asked, row)]
    if not kept:
        raise ResultsError(f"{flag}: {where!r} matches none of {counted(len(records), 'record')}")
    return kept


def _labelled(record: Record, label: str) -> Record:
    point = type(record.point)(**record.point.model_dump() | {"file": label})
    return record.model_copy(update={"point": point})
