"""The tables of environments, of failed points and of flagged points."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dlm_bench.analysis.tables import rate_text
from dlm_bench.figures.flags import FLAGS
from dlm_bench.results.identity import point_key
from dlm_bench.results.record import Record
from dlm_bench.results.table import Table

STATUSES = {"oom": "out of memory", "timeout": "ran out of time"}


@dataclass(frozen=True)
class Failures:
    """The points tried and never measured, with a count of each status."""

    table: Table
    counts: dict[str, int]


def environments(records: Iterable[Record]) -> Table:
    """Tabulate the environments: a row an entry, a column an environment, with the number of
    records, and with all their kernels and graphs."""
    found: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record in records:
        key = tuple((name, str(value)) for name, value in record.environment.items())
        found.setdefault(key, []).append(record)
    columns = [
        {"records": f"{len(members):,}", "measured": _days(members)}
        | dict(key)
        | _together("kernel", (record.kernels for record in members))
        | _together("graphs", (record.graphs for record in members))
        for key, members in found.items()
    ]
    names = list(dict.fromkeys(name for column in columns for name in column))
    titles = ["", *(column.get("hardware", "unknown hardware") for column in columns)]
    rows = [
        [name, *(column.get(name, "") for column in columns)]
        for name in names
        if name != "hardware"
    ]
    return Table(titles, rows)


def latest(records: Iterable[Record]) -> list[Record]:
    """Return a record for each point: the last ok record, or else the last."""
    found: dict[tuple[Any, ...], Record] = {}
    for record in records:
        before = found.get(_point(record))
        if before is None or record.status == "ok" or before.status != "ok":
            found[_point(record)] = record
    return list(found.values())


def failures(points: Iterable[Record]) -> Failures:
    """Tabulate the points without a measurement; `points` are the records of `latest`."""
    missing = [record for record in points if record.status != "ok"]
    counts = Counter(str(record.status) for record in missing)
    rows = [
        [record.status, record.point.describe(), _hardware(record), record.message]
        for record in missing
    ]
    return Failures(Table(["status", "point", "hardware", "message"], rows), dict(counts))


def flagged(points: Iterable[Record]) -> Table:
    """Tabulate the measured points with flags; `points` are the records of `latest`."""
    rows = [
        [
            ", ".join(record.flags),
            record.point.describe(),
            _hardware(record),
            rate_text(record.tokens_per_second or 0),
            "; ".join([*(FLAGS.get(flag, flag) for flag in record.flags), *_reasons(record)]),
        ]
        for record in points
        if record.flags and record.status == "ok"
    ]
    return Table(["flags", "point", "hardware", "tokens/s", "what it means"], rows)


def _point(record: Record) -> tuple[Any, ...]:
    return (point_key(record.point), _hardware(record))


def _hardware(record: Record) -> str:
    return str(record.environment.get("hardware", record.point.device))


def _reasons(record: Record) -> list[str]:
    reasons = record.telemetry.get("throttle_reasons") if "throttled" in record.flags else None
    return [f"by {', '.join(map(str, reasons))}"] if isinstance(reasons, list) and reasons else []


def _days(records: Sequence[Record]) -> str:
    days = sorted(record.measured_at[:10] for record in records)
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def _together(title: str, entries: Iterable[dict[str, str]]) -> dict[str, str]:
    """Return each entry under a titled name, with all values among the records."""
    values: dict[str, dict[str, None]] = {}
    for each in entries:
        for name, value in each.items():
            values.setdefault(f"{title} {name}", {})[str(value)] = None
    return {name: ", ".join(there) for name, there in values.items()}
