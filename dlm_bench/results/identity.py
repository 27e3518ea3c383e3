"""The identity of a measurement: a hash by which `sweep --resume` finds records."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dlm_bench.results.record import SCHEMA_VERSION, Point
from dlm_bench.version import __version__

SAMPLING = ("nodes", "tolerance", "max_seconds")  # of no meaning to whole decodes
MODEL_SOURCES = ("folders", "random_weights")  # whose content is in `origin`
DIGITS = 16  # hexadecimal: 64 bits, where a study has thousands of points


def identity(
    point: Point,
    measuring: Mapping[str, Any],
    hardware: str,
    origin: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The identity of measuring a point: equal for equal questions to equal hardware.

    `measuring` holds all settings of `sweep.load.Measuring` by name; `hardware` is what the
    environment calls the device, with the threads of a CPU. `origin` is what the point's backbone
    and sampler are, by these kinds, where they are not this project's own. The version of dlm-bench
    and of the record's schema are part of it, the commit is not: a resumed study survives an edit
    of a comment. A limit on time or memory is not part of it either, as it changes no number, and
    nor is where a folder lies.
    """
    asked: dict[str, Any] = {
        "point": point.asked(),
        "measuring": asked_of(measuring),
        "hardware": hardware,
        "dlm-bench": __version__,
        "schema": SCHEMA_VERSION,
    }
    if origin:
        asked["origin"] = dict(origin)
    text = json.dumps(_plain(asked), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def point_key(point: Point, *without: str) -> str:
    """Return a key that equal points share, or points that differ only in the fields `without`."""
    return point.model_dump_json(exclude=set(without))


def asked_of(measuring: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of measuring that a number depends on: all but where folders lie and, of exact
    timing, how to sample."""
    unused = MODEL_SOURCES + (SAMPLING if measuring["mode"] == "exact" else ())
    return {name: value for name, value in measuring.items() if name not in unused}


def _plain(value: Any) -> Any:
    """The same value with whole floats as integers: 0 and 0.0 ask for the same temperature."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
