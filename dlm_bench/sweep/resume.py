"""Points in a results file under other settings than a sweep asks for."""

from collections.abc import Iterable, Mapping
from typing import Any

from dlm_bench.results.identity import asked_of, point_key
from dlm_bench.results.record import Point, Record
from dlm_bench.sweep.plan import ANY_HARDWARE, Plan
from dlm_bench.version import __version__

MAX_GROUPS = 3  # kinds of other settings that are named


def measured_otherwise(
    plan: Plan, records: Iterable[Record], found: Mapping[str, Record]
) -> list[str]:
    """Return a line for each set of other settings under which missing points of the plan were
    measured, the most frequent first."""
    missing = {
        _anywhere(point): point
        for point, name in zip(plan.sweep.points, plan.identities(), strict=True)
        if name not in found
    }
    groups: dict[str, set[str]] = {}
    for record in records:
        key = _anywhere(record.point)
        if key in missing:
            groups.setdefault(_differences(plan, missing[key], record), set()).add(key)
    largest = sorted(groups.items(), key=lambda group: -len(group[1]))[:MAX_GROUPS]
    return [
        f"{len(points)} point{'s' if len(points) > 1 else ''} "
        f"{'are' if len(points) > 1 else 'is'} there with other settings ({differences})"
        for differences, points in largest
    ]


def _anywhere(point: Point) -> str:
    return point_key(point, "dtype", "device", "seed")


def _differences(plan: Plan, point: Point, record: Record) -> str:
    asked: dict[str, Any] = asked_of(plan.sweep.measuring.model_dump())
    asked["seed"] = plan.sweep.measuring.seed_of(point)
    measured: dict[str, Any] = {
        name: getattr(record, name) for name in ("warmup", "repeats", "seed")
    }
    if asked["mode"] != "auto":  # of an older record only what it came to is known
        measured["mode"] = record.mode
    measured |= record.settings
    for name in ("dtype", "device"):
        asked[name], measured[name] = getattr(point, name), getattr(record.point, name)
    asked["hardware"] = plan.environment["hardware"]
    measured["hardware"] = record.environment.get("hardware", "unknown")
    if asked["hardware"] == ANY_HARDWARE:
        del asked["hardware"]
    asked["dlm-bench"] = __version__
    measured["dlm-bench"] = record.environment.get("dlm-bench", __version__)
    differences = [
        f"{name} {_text(measured[name])}, here {_text(asked[name])}"
        for name in asked
        if name in measured and measured[name] != asked[name]
    ]
    return "; ".join(differences) or "which their records do not name"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={each}" for name, each in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
