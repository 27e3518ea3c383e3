"""The identity of a measurement: the hash for `sweep --resume`."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dlm_bench.results.labels import former_labels
from dlm_bench.results.record import SCHEMA_VERSION, Point
from dlm_bench.version import __version__

SAMPLING = ("nodes", "tolerance", "max_seconds")  # of no meaning to whole decodes
SAMPLED_TOLERANCE = 0.01  # where none is asked for
LEAST = ("min_warmup", "min_time", "soak")
MODEL_SOURCES = ("folders", "checkpoints", "random_weights")  # whose content is in `origin`
DIGITS = 16  # hexadecimal: 64 bits, where a study has thousands of points


def identity(
    point: Point,
    measuring: Mapping[str, Any],
    hardware: str,
    origin: Mapping[str, str] = MappingProxyType({}),
    run: int = 1,
) -> str:
    """Return the identity of a measurement, equal for the same question to the same hardware.

    measuring: all measuring settings by name. hardware: the device as in the environment, with the
    threads of a CPU. origin: provenance of a backbone or sampler from a plug-in or a folder. run:
    number of the run; the first has the identity of a record without runs. A point's own seed is in
    the place of the setting.

    The versions of dlm-bench and of the schema are part of the identity. The commit is not: a
    resumed study survives an edit of a comment. Limits on time and memory and the paths of folders
    are not, as they change no number.
    """
    of_point = point.asked() | {"options": _by_former_names(point.options)}
    settings = {**measuring, "seed": of_point.pop("seed", measuring["seed"])}
    asked: dict[str, Any] = {
        "point": of_point,
        "measuring": asked_of(settings),
        "hardware": hardware,
        "dlm-bench": __version__,
        "schema": SCHEMA_VERSION,
    }
    if origin:
        asked["origin"] = dict(origin)
    if run > 1:
        asked["run"] = run
    text = json.dumps(_plain(asked), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def identities(
    point: Point,
    measuring: Mapping[str, Any],
    hardware: str,
    origin: Mapping[str, str] = MappingProxyType({}),
    run: int = 1,
) -> list[str]:
    """Return the `identity` of a measurement, and those of records under former labels of the
    trace."""
    options = point.options
    labels = former_labels(str(options["trace"])) if "trace" in options else ()
    former = [point.model_copy(update={"options": options | {"trace": each}}) for each in labels]
    return [identity(each, measuring, hardware, origin, run) for each in (point, *former)]


def _by_former_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by the names that identities of before have, where those had the value."""
    order = options.get("order")
    former = {"order": "unmask"} if order in ("confidence", "random") else {}
    return {former.get(name, name): value for name, value in options.items()}


def point_key(point: Point, *without: str) -> str:
    """Return a key, equal for points with the same fields apart from those of `without`."""
    return json.dumps(_plain(point.model_dump(exclude=set(without))))


def asked_of(measuring: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with an effect on numbers: all but the paths of folders and, for exact
    timing, the settings of sampling; least times only where there are any, so that identities of
    before stay."""
    asked = dict(measuring)
    unused = [*MODEL_SOURCES, *(name for name in LEAST if not asked.get(name))]
    if asked["mode"] == "exact":
        unused += SAMPLING if asked.get("tolerance") is None else ["nodes"]
    elif asked.get("tolerance", 0) is None:
        asked["tolerance"] = SAMPLED_TOLERANCE
    return {name: value for name, value in asked.items() if name not in unused}


def _plain(value: Any) -> Any:
    """The same value with whole floats as integers: 0 and 0.0 ask for the same temperature."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
