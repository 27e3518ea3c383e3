"""A sweep: the points of a file, checked whole before anything runs."""

import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from dlm_bench.errors import LARGEST_SEED, ConfigError, check_int
from dlm_bench.models.backbones import known, origin_of
from dlm_bench.models.config import BACKBONES, SIZES, model_config
from dlm_bench.plugins import package_of
from dlm_bench.results.record import Graphs, Mode, Point
from dlm_bench.sweep_file import File, Line, as_list, read_file

if TYPE_CHECKING:
    import torch


# Settings that say how a model is built and not how it is measured.
BUILDING = ("folders", "random_weights")


class Measuring(BaseModel):
    """How the points of a sweep are measured: the settings that a number depends on.

    folders: where the models of Hugging Face's format are, by the name of the backbone;
    random_weights: they are built with random weights instead of their own.
    """

    model_config = ConfigDict(frozen=True)

    mode: Mode = "exact"
    warmup: int = 3
    repeats: int = 5
    nodes: int = 9
    tolerance: float = 0.01
    max_seconds: float = 30.0
    seed: int = 0
    graphs: Graphs = "auto"
    kernels: dict[str, str] = {}
    folders: dict[str, str] = {}
    random_weights: bool = False


class Sweep(BaseModel):
    """A valid sweep: the points in the order of the file, and how to measure them.

    origins: what `origins_of` says of each backbone and sampler together, where it says something.
    timeout: seconds that a point may take; memory_limit: bytes that its process may use; None
    for no limit. traces: the file of each trace that points name by its label.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    points: list[Point]
    measuring: Measuring = Measuring()
    origins: dict[str, dict[str, str]] = {}
    timeout: float | None = None
    memory_limit: int | None = None
    traces: dict[str, str] = {}

    def options_of(self, point: Point) -> dict[str, int | float | str]:
        """What the sampler of a point is built with."""
        return with_trace_file(point.options, self.traces)

    def origin_of(self, point: Point) -> dict[str, str]:
        """What the point's backbone and sampler are, where they are not this project's own."""
        return self.origins.get(_way(point.backbone, point.sampler), {})


def with_trace_file(
    options: Mapping[str, int | float | str], traces: Mapping[str, str]
) -> dict[str, int | float | str]:
    """A point's options with the file of its trace, if it has one, in place of the label."""
    label = options.get("trace")
    return {**options, "trace": traces[str(label)]} if label in traces else dict(options)


def _way(backbone: str, sampler: str) -> str:
    return f"{backbone} {sampler}"


def load_sweep(
    path: str | Path,
    *,
    device: str | None = None,
    mode: str | None = None,
    graphs: str | None = None,
    timeout: float | None = None,
    memory_limit: str | None = None,
    kernels: Mapping[str, str] | None = None,
    beside: str | Path | None = None,
    here: bool = True,
) -> Sweep:
    """Read and check a sweep file; what is given here overrides the file's, and each of `kernels`
    the file's of the same operation. Traces are named relative to `beside`, or else to the folder
    that the file is in. With here=False the sweep is one to predict: its device, and the kernels
    and limits that it asks for, need not be there.

    Raises ConfigError naming the field, the value and what is allowed.
    """
    instead = {
        "device": device,
        "mode": mode,
        "graphs": graphs,
        "timeout": timeout,
        "memory_limit": memory_limit,
    }
    file = read_file(path, {name: value for name, value in instead.items() if value is not None})
    from dlm_bench.models.factory import default_dtype, parse_device, parse_dtype

    try:
        place = parse_device(file.device, here=here)
        if place.type == "meta":
            raise ConfigError("device: 'meta' has no weights to decode with; allowed: cpu, cuda")
        file.device = str(place)
        file.dtype = file.dtype if file.dtype is not None else default_dtype(place)
        dtype = parse_dtype(file.dtype)
        file.kernels |= kernels or {}
        if here:
            _check_place(file, place, dtype)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    points: dict[str, Point] = {}
    traces: dict[str, str] = {}
    folders: dict[str, str] = {}
    origins: dict[str, dict[str, str]] = {}
    beside = Path(path).absolute().parent if beside is None else Path(beside)
    for number, line in enumerate(file.lines):
        try:
            for point in _expand(file, line, beside, traces, folders, origins):
                points[point.model_dump_json()] = point
        except ConfigError as error:
            raise ConfigError(f"{path}: lines[{number}]: {error}") from None
    return Sweep(
        name=file.name,
        points=list(points.values()),
        measuring=Measuring(
            **file.model_dump(include=set(Measuring.model_fields)), folders=folders
        ),
        origins=origins,
        timeout=file.timeout,
        memory_limit=file.memory_limit,
        traces=traces,
    )


def _check_place(file: File, place: "torch.device", dtype: "torch.dtype") -> None:
    """Raise ConfigError for what a file asks of its device and that cannot do."""
    from dlm_bench.kernels.choice import choose_kernels
    from dlm_bench.timing.graphs import check_graphs

    check_graphs(file.graphs, place)
    if file.memory_limit is not None and (place.type != "cpu" or sys.platform != "linux"):
        raise ConfigError(
            f"memory_limit: is not allowed on {place.type} under {sys.platform}; only Linux "
            "limits the memory of a process, and only a CPU's"
        )
    sizes = {*file.size, *(size for line in file.lines for size in line.size or ())}
    for size in sizes & SIZES.keys():
        choose_kernels(place, dtype, model_config("diffutran", size).head_dim, file.kernels)


def origins_of(backbone: str, sampler: str, random_weights: bool) -> dict[str, str]:
    """What a backbone and a sampler are, by these kinds, where they are not this project's own:
    packages with their versions, or digests of what is in a folder. Raises ConfigError for a
    backbone or sampler that is not there, or a folder without the weights."""
    from dlm_bench.samplers import SAMPLERS

    found = {
        "backbone": origin_of(known(backbone), random_weights),
        "sampler": package_of("sampler", sampler, SAMPLERS),
    }
    return {kind: origin for kind, origin in found.items() if origin}


def _expand(
    file: File,
    line: Line,
    beside: Path,
    traces: dict[str, str],
    folders: dict[str, str],
    origins: dict[str, dict[str, str]],
) -> list[Point]:
    """The points of a line: the product of all its lists, lengths running fastest, then prompts
    and batches. Traces are named relative to `beside`. `traces`, `folders` and `origins`, as Sweep
    and Measuring have them, get what the line adds."""
    from dlm_bench.kernels.choice import check_unmask_kernels
    from dlm_bench.samplers import SAMPLERS, build_sampler
    from dlm_bench.samplers.denoising import AcceptingSampler

    axes = {key: as_list(value) for key, value in (line.model_extra or {}).items()}
    for key, values in axes.items():
        if not values:
            raise ConfigError(f"{key}: an empty list is not allowed")
    points = []
    names = itertools.product(line.size or file.size, line.backbone, line.sampler)
    batches, prompts = line.batch or file.batch, line.prompt_len or file.prompt_len
    lengths = line.lengths or file.lengths
    check_int("seed", file.seed, minimum=0, maximum=LARGEST_SEED - (max(batches) - 1))
    for (size, backbone, name), *values in itertools.product(names, *axes.values()):
        asked: dict[str, Any] = dict(zip(axes, values, strict=True))
        if name in SAMPLERS and isinstance(asked.get("trace"), str) and asked["trace"]:
            asked["trace"] = str(beside / asked["trace"])
        sampler = build_sampler(name, **asked)
        if isinstance(sampler, AcceptingSampler) and sampler.trace:
            traces[str(sampler.options()["trace"])] = asked["trace"]
        sampler.check_backbone(backbone)
        found = known(backbone)
        if found.folder:
            other = folders.setdefault(found.name, found.folder)
            if other != found.folder:
                raise ConfigError(f"backbone: {found.name!r} is {other!r} and {found.folder!r}")
            if line.size is None:
                size = found.default_size  # the size of the others says nothing of a folder
        found.check_size(size)
        if backbone not in BACKBONES:
            check_unmask_kernels(file.kernels)
        origin = origins_of(backbone, name, file.random_weights)
        if origin:
            origins[_way(found.name, name)] = origin
        for batch, prompt_len, length in itertools.product(batches, prompts, lengths):
            sampler.check_timed(length, prompt_len)
            sampler.check_supports(found.name, found.supports, length, prompt_len)
            found.check_length(length, prompt_len)
            point = Point(
                backbone=found.name,
                size=size,
                sampler=name,
                options=sampler.options(),
                length=length,
                batch=batch,
                prompt_len=prompt_len,
                dtype=file.dtype or "",
                device=file.device,
            )
            points.append(point)
    return points
