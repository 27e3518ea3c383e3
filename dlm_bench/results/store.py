"""Append-only JSONL: a record a line, so a crash can tear the last line and no other."""

import codecs
import errno
import json
import os
import tempfile
import tomllib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from dlm_bench.errors import (
    LostPointWarning,
    NewerRecordWarning,
    ResultsError,
    TornLineWarning,
)
from dlm_bench.results.record import SCHEMA_VERSION, UNSET, Point, Record, mean_of

if TYPE_CHECKING:
    import pandas

# Fields of a point that came later, each with a field of records that came with it.
LATER = {"prompt_len": "timed_tokens", "prompts": "prompt_file", "stop_at_eos": "generated"}
MOST_SAID = 3  # lines of a file that are warned of one by one


def append_record(
    path: str | os.PathLike[str], record: Record, wrote: Callable[[], object] = lambda: None
) -> None:
    """Append a record to a file; create file and folder if needed.

    The line is written in a single call under an exclusive lock, so sweeps may share a file, and
    synced before the return. After a torn line of a killed writer the record starts on a new
    line. `wrote` is called as soon as the record is in the file, before the sync. Raises
    ResultsError if the file cannot be written.
    """
    line = record.model_dump_json().encode() + b"\n"
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        with locked(fd):
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line
            whole = False
            try:
                _write_whole(fd, line, size)
                whole = True
            finally:
                # An interrupt comes most likely while the system writes: then the line is there.
                if whole or os.fstat(fd).st_size > size:
                    wrote()
            os.fsync(fd)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        os.close(fd)


def _write_whole(fd: int, line: bytes, size: int) -> None:
    """Write a line at the end of a file of `size` bytes, whole or not at all. Raises OSError."""
    try:
        if os.write(fd, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with suppress(OSError):  # of a pipe or a device, which has no end to cut
            os.ftruncate(fd, size)
        raise


@contextmanager
def locked(fd: int) -> Iterator[None]:
    """Hold the lock of an open file. Without locks (Windows, some network disks) O_APPEND alone
    keeps writers apart."""
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
    """Raise ResultsError if records cannot be appended to `path`; leave nothing behind.

    For use before a measurement: a sweep of hours must not fail at the first record.
    """
    try:
        if Path(path).exists():
            os.close(os.open(path, os.O_RDWR | os.O_APPEND))
            return
        folder = next(each for each in Path(path).absolute().parents if each.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None


def size_of(path: str | os.PathLike[str]) -> int:
    """Return the bytes of a results file; 0 for a missing file or a device."""
    try:
        return os.path.getsize(path) if os.path.isfile(path) else 0
    except OSError:
        return 0


def _unwritable(path: str | os.PathLike[str], error: OSError) -> ResultsError:
    return ResultsError(f"results file {str(path)!r}: {error.strerror or error}")


def read_records(path: str | os.PathLike[str], *, strict: bool = False) -> list[Record]:
    """Read every whole record of a results file, in the order written.

    Unknown fields are kept. Records of a newer schema are read as far as possible, with a
    NewerRecordWarning. A line without a record is skipped with a TornLineWarning, or with a
    LostPointWarning if the line is whole. Raises ResultsError if the file cannot be read, and
    with `strict` for any line without a record.
    """
    return _records(path, _content(path), strict=strict)


def read_appended(path: str | os.PathLike[str], start: int) -> tuple[list[Record], int]:
    """Return the records in the whole lines from byte `start` on, and their end: the start of the
    next call. A missing file has no records. Raises and warns as `read_records`."""
    if not os.path.isfile(path):  # or a device, which has no end
        return [], start
    content = _content(path, start)
    whole = content.rfind(b"\n") + 1
    return _records(path, content[:whole], start), start + whole


def _content(path: str | os.PathLike[str], start: int = 0) -> bytes:
    # Opened anew each time: that is when a network disk looks for what others wrote.
    try:
        with open(path, "rb") as file:
            if start:
                file.seek(start)
            return file.read()
    except OSError as error:
        raise ResultsError(f"results file {str(path)!r}: {error.strerror}") from None


def _records(
    path: str | os.PathLike[str], content: bytes, start: int = 0, strict: bool = False
) -> list[Record]:
    """Parse the lines from byte `start` of the file."""
    records = []
    newer: list[int] = []  # lines
    skipped: list[tuple[str, bool]] = []  # the warning of a line, and True if it is whole
    if not start and _is_other(content):
        raise ResultsError(f"results file {str(path)!r}: {_description(path, content)}")
    for each, line in enumerate(content.split(b"\n")):
        line = line.removeprefix(codecs.BOM_UTF8)  # of the file, or of one that was appended to it
        if not line.strip():
            continue
        record, damage = _parse(line)
        if record is not None and not damage:
            records.append(record)
            if record.schema_version > SCHEMA_VERSION:
                newer.append(each)
            continue
        number = _number(path, start, each)
        whole, version = _inspect(line)
        said = f"not a whole record ({damage})"
        if version > SCHEMA_VERSION:
            said = f"schema_version {version} is newer than {SCHEMA_VERSION}; upgrade dlm-bench"
        if strict:
            raise ResultsError(f"{path}:{number}: damaged, {said}")
        skipped.append((f"{path}:{number}: skipped, {said}", whole))
    for said, whole in _shortened(path, skipped):
        warnings.warn(said, LostPointWarning if whole else TornLineWarning, stacklevel=3)
    if newer:
        warnings.warn(
            f"{path}:{_number(path, start, newer[0])}: {len(newer)} of {len(records)} records have "
            f"a newer schema_version than {SCHEMA_VERSION}; what this dlm-bench does not know of "
            "them is left aside; upgrade dlm-bench",
            NewerRecordWarning,
            stacklevel=3,
        )
    return records


def _is_other(content: bytes) -> bool:
    """Recognise a file of several lines without any JSON object: no results file."""
    lines = [line for line in content.split(b"\n") if line.strip()]
    return len(lines) >= MOST_SAID and not any(_is_object(line) for line in lines)


def _description(path: str | os.PathLike[str], content: bytes) -> str:
    """Describe a file without a record, with advice."""
    try:
        found = tomllib.loads(content.removeprefix(codecs.BOM_UTF8).decode())
    except ValueError:
        found = {}
    if "lines" in found:
        return f"this is a sweep file; run `dlm-bench sweep {os.fspath(path)}` first"
    return "no line is a record; `dlm-bench sweep` and `run --output` write results files"


def _shortened(
    path: str | os.PathLike[str], skipped: list[tuple[str, bool]]
) -> Iterator[tuple[str, bool]]:
    """Yield the texts of the first skipped lines, and a text for all others."""
    yield from skipped[:MOST_SAID]
    more = skipped[MOST_SAID:]
    if more:
        yield f"{path}: {len(more)} more lines skipped", any(whole for _, whole in more)


def _number(path: str | os.PathLike[str], start: int, each: int) -> int:
    """Return the number of the line `each` lines after byte `start`."""
    return 1 + each + (_content(path)[:start].count(b"\n") if start else 0)


def _parse(line: bytes) -> tuple[Record | None, str]:
    """Return the record of a line, with a description of the damage if there is any."""
    try:
        record = Record.model_validate_json(line, strict=True)
    except ValidationError as error:
        reason = error.errors()[0]
        where = ".".join(map(str, reason["loc"])) or "line"
        return None, f"{where}: {reason['msg']}"
    # A writer leaves out nothing: a default in the place of what it wrote would be made up. Only
    # one of before there was a field knows nothing of it.
    before = {name for name, with_it in LATER.items() if with_it not in record.model_fields_set}
    spelled_out = record.point.model_fields_set | before
    absent = [f"point.{name}" for name in Point.model_fields.keys() - spelled_out - UNSET.keys()]
    absent += {"schema_version", "seed", "seconds", "measured_at"} - record.model_fields_set
    if absent:
        return record, f"{min(absent)}: Field required"
    if record.schema_version < 1:
        return record, f"schema_version: {record.schema_version} never was"
    if record.status == "ok" and not (record.seconds and record.nfe):
        return record, "status: ok, but without seconds or passes"
    return record, ""


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _inspect(line: bytes) -> tuple[bool, int]:
    """Return True for a whole line without a record, and the schema version in there, else 0. A
    torn line is no JSON, as a record begins with a brace."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False, 0
    version = found.get("schema_version") if isinstance(found, dict) else None
    known = isinstance(version, int) and not isinstance(version, bool)
    return True, version if known else 0  # type: ignore[return-value]


def load_results(*paths: str | os.PathLike[str]) -> "pandas.DataFrame":
    """Load the records of results files as a DataFrame, a row a record.

    Columns: the fields of Record and Point, the options of the sampler (NaN where a sampler has no
    such option), `mean_seconds`, `stddev_seconds`, `mean_prefill_seconds`,
    `mean_first_block_seconds` (None without such times), `tokens_per_second`, `interval_95`,
    `ms_per_pass`, `tokens_per_pass`, `nfe_per_token`. Raises ResultsError as `read_records`.
    """
    return frame_of(record for path in paths for record in read_records(path))


def frame_of(records: Iterable[Record]) -> "pandas.DataFrame":
    """Return the DataFrame of `load_results` for records at hand."""
    import pandas as pd

    rows = []
    for record in records:
        row = record.model_dump(exclude={"point", "passes", *(record.model_extra or {})})
        row |= record.point.model_dump(exclude={"options"}) | record.point.options
        for name, value in (record.point.model_extra or {}).items():
            row[name] = value if isinstance(value, int | float | str) else json.dumps(value)
        row["timed_tokens"] = record.tokens
        row["mean_prefill_seconds"] = mean_of(record.prefill_seconds)
        row["mean_first_block_seconds"] = mean_of(record.first_block_seconds)
        row["tokens_per_pass"] = record.tokens_per_pass
        row["nfe_per_token"] = record.nfe_per_token
        for name in ("hardware", "torch", "driver"):
            row[name] = record.environment.get(name)
        rows.append(row)
    return pd.DataFrame(rows)
