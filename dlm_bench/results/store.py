"""Append-only JSONL: one record a line, so that a crash can tear the last line and no other."""

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from dlm_bench.errors import ResultsError
from dlm_bench.results.record import SCHEMA_VERSION, Point, Record, mean_of

if TYPE_CHECKING:
    import pandas


class TornLineWarning(UserWarning):
    """A line of a results file was not a whole record and was skipped."""


def append_record(path: str | os.PathLike[str], record: Record) -> None:
    """Append one record to `path`, creating the file and its folder.

    The line goes out in a single write under an exclusive lock, so that sweeps may share a file,
    and is synced before this returns. After the torn line of a killed writer it starts on a line
    of its own, so that the torn one stays the only loss. Raises ResultsError if the file cannot
    be written.
    """
    line = record.model_dump_json().encode() + b"\n"
    fd = _open_to_append(path)
    try:
        with locked(fd):
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(fd, line) != len(line):
                raise ResultsError(
                    f"results file {str(path)!r}: the disk took only part of a record"
                )
            os.fsync(fd)
    except OSError as error:
        raise ResultsError(f"results file {str(path)!r}: {error.strerror}") from None
    finally:
        os.close(fd)


@contextmanager
def locked(fd: int) -> Iterator[None]:
    """Hold the lock of an open file. Where there is none to be had (Windows, some network disks),
    O_APPEND alone keeps writers apart."""
    try:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_EX)
    except (ImportError, OSError):
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


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


def read_records(path: str | os.PathLike[str], *, strict: bool = False) -> list[Record]:
    """Every whole record of a results file, in the order written.

    A line that is not a record is skipped with a `TornLineWarning` that names it. Raises
    `ResultsError` if the file cannot be read, or holds a record of a newer schema; if `strict`,
    also for a line that is not a record.
    """
    return _records(path, _content(path), 1, strict)


def read_appended(path: str | os.PathLike[str], start: int) -> tuple[list[Record], int]:
    """The records in the whole lines of a results file from byte `start` on, and where they end:
    the start of a later look. Raises and warns as `read_records` does."""
    content = _content(path)
    end = max(start, content.rfind(b"\n") + 1)
    return _records(path, content[start:end], content.count(b"\n", 0, start) + 1), end


def _content(path: str | os.PathLike[str]) -> bytes:
    # Opened anew each time: that is when a network disk looks for what others wrote.
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ResultsError(f"results file {str(path)!r}: {error.strerror}") from None


def _records(
    path: str | os.PathLike[str], content: bytes, first: int, strict: bool = False
) -> list[Record]:
    """The records of lines, of which the first has this number in the file."""
    records = []
    for number, line in enumerate(content.split(b"\n"), first):
        if not line.strip():
            continue
        record, damage = _parse(line)
        version = _schema_of(line) if record is None else record.schema_version
        if version > SCHEMA_VERSION:
            raise _too_new(path, number, version)
        if record is not None and not damage:
            records.append(record)
            continue
        if strict:
            raise ResultsError(f"{path}:{number}: damaged, not a whole record ({damage})")
        warnings.warn(
            f"{path}:{number}: skipped, not a whole record ({damage})",
            TornLineWarning,
            stacklevel=3,
        )
    return records


def _parse(line: bytes) -> tuple[Record | None, str]:
    """The record of a line, and what is wrong with it if anything is."""
    try:
        record = Record.model_validate_json(line, strict=True)
    except ValidationError as error:
        reason = error.errors()[0]
        where = ".".join(map(str, reason["loc"])) or "line"
        return None, f"{where}: {reason['msg']}"
    # A writer leaves out nothing: a default in the place of what it wrote would be made up. Only
    # one of before there were prompts, and of their tokens, knows of none.
    before_prompts = "timed_tokens" not in record.model_fields_set
    spelled_out = record.point.model_fields_set | ({"prompt_len"} if before_prompts else set())
    absent = [f"point.{name}" for name in Point.model_fields.keys() - spelled_out]
    absent += {"schema_version", "seed", "seconds", "measured_at"} - record.model_fields_set
    if absent:
        return record, f"{min(absent)}: Field required"
    if record.schema_version < 1:
        return record, f"schema_version: {record.schema_version} never was"
    if record.status == "ok" and not (record.seconds and record.nfe):
        return record, "status: ok, but without seconds or passes"
    return record, ""


def _schema_of(line: bytes) -> int:
    """The schema version of a line that is no record of this one, 0 if it names none: what a newer
    one has besides is no damage."""
    try:
        version = json.loads(line).get("schema_version")
    except (ValueError, AttributeError, RecursionError):
        return 0
    return version if isinstance(version, int) else 0


def _too_new(path: str | os.PathLike[str], number: int, version: int) -> ResultsError:
    return ResultsError(
        f"{path}:{number}: schema_version {version} is newer than this dlm-bench reads "
        f"(up to {SCHEMA_VERSION}); upgrade dlm-bench"
    )


def load_results(*paths: str | os.PathLike[str]) -> "pandas.DataFrame":
    """Records of one or more results files as a DataFrame, one row a record.

    The sampler's options are columns of their own (NaN where a sampler lacks one), next to
    `mean_seconds`, `tokens_per_second`, `ms_per_pass`, `tokens_per_pass`, `nfe_per_token` and
    `seconds` (the list of repeats), and `mean_prefill_seconds` and `mean_first_block_seconds` (None
    where there is no such time).
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
        row["timed_tokens"] = record.tokens
        row["mean_seconds"] = record.mean_seconds
        row["mean_prefill_seconds"] = mean_of(record.prefill_seconds)
        row["mean_first_block_seconds"] = mean_of(record.first_block_seconds)
        row["tokens_per_second"] = record.tokens_per_second
        row["ms_per_pass"] = record.ms_per_pass
        row["tokens_per_pass"] = record.tokens_per_pass
        row["nfe_per_token"] = record.nfe_per_token
        row["hardware"] = record.environment.get("hardware")
        rows.append(row)
    return pd.DataFrame(rows)
