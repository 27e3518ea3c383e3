"""Append-only JSONL: one record a line, so that a crash can tear the last line and no other."""

import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from dlm_bench.errors import ResultsError
from dlm_bench.results.record import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    import pandas


class TornLineWarning(UserWarning):
    """A line of a results file was not a whole record and was skipped."""


def append_record(path: str | os.PathLike[str], record: Record) -> None:
    """Append one record to `path`, creating the file and its folder.

    The line goes out in a single O_APPEND write and is synced before this returns. After a torn
    last line it starts on a line of its own, so the torn one stays the only loss. Raises
    ResultsError if the file cannot be opened.
    """
    line = record.model_dump_json().encode() + b"\n"
    fd = _open_to_append(path)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(fd, line) != len(line):
            raise ResultsError(f"results file {str(path)!r}: the disk took only part of a record")
        os.fsync(fd)
    finally:
        os.close(fd)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Create `path` if it is not there; raise ResultsError if records cannot be appended to it.

    For before a measurement: a sweep of hours must not fail at its first record.
    """
    os.close(_open_to_append(path))


def _open_to_append(path: str | os.PathLike[str]) -> int:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise ResultsError(f"results file {str(path)!r}: {error.strerror}") from None


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """Every whole record of a results file, in the order written.

    A line that is not a record is skipped with a `TornLineWarning` that names it. Raises
    `ResultsError` if the file cannot be read, or holds a record of a newer schema.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise ResultsError(f"results file {str(path)!r}: {error.strerror}") from None
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = Record.model_validate_json(line)
        except ValidationError as error:
            newer = _newer_schema(line)
            if newer is not None:
                raise _too_new(path, number, newer) from None
            reason = error.errors()[0]
            where = ".".join(map(str, reason["loc"])) or "line"
            warnings.warn(
                f"{path}:{number}: skipped, not a whole record ({where}: {reason['msg']})",
                TornLineWarning,
                stacklevel=2,
            )
            continue
        if record.schema_version > SCHEMA_VERSION:
            raise _too_new(path, number, record.schema_version)
        records.append(record)
    return records


def _newer_schema(line: bytes) -> int | None:
    """The line's schema version if it is a newer one: its unknown fields are then no damage."""
    try:
        version = json.loads(line).get("schema_version")
    except (ValueError, AttributeError):
        return None
    return version if isinstance(version, int) and version > SCHEMA_VERSION else None


def _too_new(path: str | os.PathLike[str], number: int, version: int) -> ResultsError:
    return ResultsError(
        f"{path}:{number}: schema_version {version} is newer than this dlm-bench reads "
        f"(up to {SCHEMA_VERSION}); upgrade dlm-bench"
    )


def load_results(*paths: str | os.PathLike[str]) -> "pandas.DataFrame":
    """Records of one or more results files as a DataFrame, one row a record.

    The sampler's options are columns of their own (NaN where a sampler lacks one), next to
    `mean_seconds`, `tokens_per_second`, `ms_per_pass` and `seconds` (the list of repeats).
    Raises `ResultsError` as `read_records` does.
    """
    return frame_of(record for path in paths for record in read_records(path))


def frame_of(records: Iterable[Record]) -> "pandas.DataFrame":
    """The DataFrame that `load_results` describes, of records at hand."""
    import pandas as pd

    rows = []
    for record in records:
        row = record.model_dump(exclude={"point", "passes"})
        row |= record.point.model_dump(exclude={"options"}) | record.point.options
        row["mean_seconds"] = record.mean_seconds
        row["tokens_per_second"] = record.tokens_per_second
        row["ms_per_pass"] = record.ms_per_pass
        row["hardware"] = record.environment.get("hardware")
        rows.append(row)
    return pd.DataFrame(rows)
