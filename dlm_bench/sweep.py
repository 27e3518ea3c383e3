"""A sweep file: lines of points in TOML, checked whole before anything runs."""

import difflib
import itertools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError

from dlm_bench.errors import LARGEST_BATCH, LARGEST_SEED, LONGEST, ConfigError
from dlm_bench.models.config import model_config
from dlm_bench.results.record import Graphs, Mode, Point


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


Names = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
Lengths = Annotated[list[Annotated[PositiveInt, Field(le=LONGEST)]], Field(min_length=1)]


class _Line(BaseModel):
    """One [[lines]] table. Keys that are not fields are options of the sampler; lists multiply."""

    model_config = ConfigDict(extra="allow", strict=True)

    backbone: Names
    sampler: Names
    size: Names | None = None
    lengths: Lengths | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]  # also the default results file's
    size: Names
    lengths: Lengths
    device: str = "cpu"
    dtype: str | None = None
    mode: Mode = "exact"
    warmup: Annotated[int, Field(ge=0)] = 3
    repeats: PositiveInt = 5
    nodes: Annotated[int, Field(ge=2)] = 5
    batch: Annotated[PositiveInt, Field(le=LARGEST_BATCH)] = 1
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    graphs: Graphs = "auto"
    kernels: dict[str, str] = {}
    lines: Annotated[list[_Line], Field(min_length=1)]


class Sweep(BaseModel):
    """A valid sweep: the points in the order of the file, and how to measure them."""

    model_config = ConfigDict(frozen=True)

    name: str
    points: list[Point]
    mode: Mode
    warmup: int
    repeats: int
    nodes: int
    seed: int
    graphs: Graphs = "auto"
    kernels: dict[str, str] = {}


def load_sweep(
    path: str | Path,
    *,
    device: str | None = None,
    graphs: str | None = None,
    kernels: Mapping[str, str] | None = None,
) -> Sweep:
    """Read and check a sweep file; `device` and `graphs` override the file's, and each of
    `kernels` the file's of the same operation.

    Raises ConfigError naming the field, the value and what is allowed.
    """
    try:
        content = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"sweep file {str(path)!r}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"sweep file {str(path)!r}: not valid TOML: {error}") from None
    if device is not None:
        content["device"] = device
    if graphs is not None:
        content["graphs"] = graphs
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error)}") from None
    from dlm_bench.kernels.choice import choose_kernels
    from dlm_bench.models.factory import default_dtype, parse_device, parse_dtype
    from dlm_bench.timing.graphs import check_graphs

    try:
        place = parse_device(file.device)
        if place.type == "meta":
            raise ConfigError("device: 'meta' has no weights to decode with; allowed: cpu, cuda")
        file.device = str(place)
        file.dtype = file.dtype if file.dtype is not None else default_dtype(place)
        dtype = parse_dtype(file.dtype)
        file.kernels |= kernels or {}
        check_graphs(file.graphs, place)
        for size in {*file.size, *(size for line in file.lines for size in line.size or ())}:
            choose_kernels(place, dtype, model_config("diffutran", size).head_dim, file.kernels)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    points: dict[str, Point] = {}
    for number, line in enumerate(file.lines):
        try:
            for point in _expand(file, line):
                points[point.model_dump_json()] = point
        except ConfigError as error:
            raise ConfigError(f"{path}: lines[{number}]: {error}") from None
    shared = file.model_dump(include=set(Sweep.model_fields))
    return Sweep(points=list(points.values()), **shared)


def _expand(file: _File, line: _Line) -> list[Point]:
    """The points of a line: the product of all its lists, lengths running fastest."""
    from dlm_bench.samplers import build_sampler

    axes = {key: _as_list(value) for key, value in (line.model_extra or {}).items()}
    for key, values in axes.items():
        if not values:
            raise ConfigError(f"{key}: an empty list is not allowed")
    points = []
    names = itertools.product(line.size or file.size, line.backbone, line.sampler)
    for (size, backbone, name), *values in itertools.product(names, *axes.values()):
        sampler = build_sampler(name, **dict(zip(axes, values, strict=True)))
        sampler.check_backbone(backbone)
        model_config(backbone, size)
        for length in line.lengths or file.lengths:
            point = Point(
                backbone=backbone,
                size=size,
                sampler=name,
                options=sampler.options(),
                length=length,
                batch=file.batch,
                dtype=file.dtype or "",
                device=file.device,
            )
            points.append(point)
    return points


def _explain(error: ValidationError) -> str:
    """The first thing wrong with a file, as one line."""
    first: Any = error.errors()[0]
    place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])[1:]
    if first["type"] == "extra_forbidden":
        allowed = list(_File.model_fields)
        close = difflib.get_close_matches(place, allowed, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return f"{place}: no such key{hint}; allowed: {', '.join(allowed)}"
    if first["type"] == "missing":
        return f"{place}: missing; every sweep needs it"
    return f"{place}: {first['input']!r} is not allowed; {first['msg'].lower()}"
