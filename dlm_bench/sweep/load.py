"""A sweep: the points of a file, checked whole before anything runs."""

import sys
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from itertools import product
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from dlm_bench.errors import ConfigError
from dlm_bench.models.own import OWN, own_config, own_sizes
from dlm_bench.models.place import Place, check_graphs, default_dtype, find_place, item_bytes
from dlm_bench.results.identity import point_key
from dlm_bench.results.record import Graphs, Mode, Point
from dlm_bench.sweep.expand import Expansion, pair_key
from dlm_bench.sweep.file import File, find_sweep, read_file
from dlm_bench.sweep.kernel_check import Choice, Faults, read_faults, without
from dlm_bench.sweep.mistakes import Mistakes
from dlm_bench.timing.settings import DEFAULTS, MeasureSettings

SETTINGS = fields(MeasureSettings)


class Measuring(BaseModel):
    """All settings of a sweep that a number depends on.

    Those of one measurement are explained in `MeasureSettings`.
    kernels: the implementation of each operation that is not left to the program.
    folders: where the models of Hugging Face's format are, by the name of the backbone.
    random_weights: they are built with random weights instead of their own.
    """

    model_config = ConfigDict(frozen=True)

    mode: Mode = DEFAULTS.mode
    warmup: int = DEFAULTS.warmup
    repeats: int = DEFAULTS.repeats
    nodes: int = DEFAULTS.nodes
    tolerance: float = DEFAULTS.tolerance
    max_seconds: float = DEFAULTS.max_seconds
    seed: int = DEFAULTS.seed
    graphs: Graphs = DEFAULTS.graphs
    kernels: dict[str, str] = {}
    folders: dict[str, str] = {}
    random_weights: bool = False

    def of_a_point(self) -> MeasureSettings:
        """Return the settings that `measure_point` takes."""
        return MeasureSettings(**{each.name: getattr(self, each.name) for each in SETTINGS})


class Sweep(BaseModel):
    """A valid sweep: the points in the order of the file, and how to measure them.

    origins: what `origins_of` says of each backbone and sampler together, where it says something.
    timeout: seconds that a point may take; memory_limit: bytes that its process may use; None
    for no limit. traces: the file of each trace that points name by its label.
    stand_ins, left_out: of operations whose kernel failed its check, the reason for another kernel,
    or for points without a record (see `kernel_check`).
    """

    model_config = ConfigDict(frozen=True)

    name: str
    points: list[Point]
    measuring: Measuring = Measuring()
    origins: dict[str, dict[str, str]] = {}
    timeout: float | None = None
    memory_limit: int | None = None
    traces: dict[str, str] = {}
    stand_ins: dict[str, str] = {}
    left_out: dict[str, str] = {}

    def options_of(self, point: Point) -> dict[str, int | float | str]:
        """Return the options that the sampler of a point is built with."""
        return with_trace_file(point.options, self.traces)

    def provenance_of(self, point: Point) -> dict[str, str]:
        """Return the origin of a point's backbone and sampler, if they are not this project's."""
        return self.origins.get(pair_key(point.backbone, point.sampler), {})


def with_trace_file(
    options: Mapping[str, int | float | str], traces: Mapping[str, str]
) -> dict[str, int | float | str]:
    """A point's options with the file of its trace, if it has one, in place of the label."""
    label = options.get("trace")
    return {**options, "trace": traces[str(label)]} if label in traces else dict(options)


def load_sweep(
    path: str | Path,
    *,
    device: str | None = None,
    mode: str | None = None,
    graphs: str | None = None,
    timeout: float | None = None,
    memory_limit: str | None = None,
    kernels: Mapping[str, str] | None = None,
    kernel_check: str | Path | None = None,
    beside: str | Path | None = None,
    here: bool = True,
) -> Sweep:
    """Read and check a sweep file, given by its path or by the name of one that is shipped.

    Arguments override the keys of the file, and each of `kernels` the file's of the same operation.
    Kernels that failed in the file `kernel_check` are not used (see `kernel_check.without`).
    Traces and folders of models are named relative to `beside`, or else to the folder that the file
    is in. With here=False the sweep is one to predict: its device, and the kernels and limits that
    it asks for, need not be there.

    Raises ConfigError with a line for each mistake: its place, the field, the value and what is
    allowed.
    """
    instead = {
        "device": device,
        "mode": mode,
        "graphs": graphs,
        "timeout": timeout,
        "memory_limit": memory_limit,
    }
    path = find_sweep(path)
    given = {name: value for name, value in instead.items() if value is not None}
    file, mistakes = read_file(path, given)
    file.kernels |= kernels or {}
    there = _check_place(file, mistakes, here)
    choice = Choice(file.kernels, {}, {})
    if kernel_check is not None:
        faults = read_faults(kernel_check)
        if there:
            choice = _choose(file, faults)
            file.kernels = choice.kernels
    beside = path.absolute().parent if beside is None else Path(beside)
    expansion = Expansion(file, beside, mistakes)
    for number, line in enumerate(file.lines):
        if number not in mistakes.broken:
            expansion.add(number, line)
    mistakes.end()
    return Sweep(
        name=file.name,
        points=list({point_key(point): point for point in expansion.points}.values()),
        measuring=Measuring(
            **file.model_dump(include=set(Measuring.model_fields)), folders=expansion.folders
        ),
        origins=expansion.origins,
        timeout=file.timeout,
        memory_limit=file.memory_limit,
        traces=expansion.traces,
        stand_ins=choice.stand_ins,
        left_out=choice.left_out,
    )


def device_is_here(path: str | Path, device: str | None = None) -> bool:
    """Recognise a device that is here: False only for a GPU that a sweep file, or `device` instead,
    asks for and this machine lacks. Raises ConfigError for a file that cannot be read."""
    asked = read_file(find_sweep(path), {})[0].device if device is None else device
    try:
        find_place(asked)
    except ConfigError:
        return not asked.startswith("cuda")  # what is no device at all is told by `load_sweep`
    return True


def _check_place(file: File, mistakes: Mistakes, here: bool) -> bool:
    """Spell out a file's device and dtype, and note what it asks of them and they cannot do. Return
    True if the device is here and can do all that."""

    def device() -> None:
        place = find_place(file.device, here=here)
        if place.type == "meta":
            raise ConfigError("device: 'meta' has no weights to decode with; allowed: cpu, cuda")
        file.device = str(place)

    there = mistakes.check(device)
    if not there:
        file.device = "cpu"
    place = find_place(file.device, here=False)
    if file.dtype is None or not mistakes.check(lambda: item_bytes(file.dtype or "")):
        file.dtype = default_dtype(place.type)
    if not (here and there):
        return False
    checks = (_check_graphs, _check_limit, _check_kernels)
    return not mistakes.any([partial(check, file, place) for check in checks])


def _check_graphs(file: File, place: Place) -> None:
    check_graphs(file.graphs, place.type)


def _check_limit(file: File, place: Place) -> None:
    if file.memory_limit is not None and (place.type != "cpu" or sys.platform != "linux"):
        raise ConfigError(
            f"memory_limit: is not allowed on {place.type} under {sys.platform}; only Linux "
            "limits the memory of a process, and only a CPU's"
        )


def _check_kernels(file: File, place: Place) -> None:
    if place.type == "cpu" and not file.kernels:  # every operation has its plain implementation
        return
    from dlm_bench.kernels.choice import choose_kernels
    from dlm_bench.models.factory import parse_device, parse_dtype

    device, dtype = parse_device(str(place)), parse_dtype(file.dtype or "")
    for head_dim in _head_dims(file):
        choose_kernels(device, dtype, head_dim, file.kernels)


def _choose(file: File, faults: Faults) -> Choice:
    from dlm_bench.models.factory import parse_device, parse_dtype

    device, dtype = parse_device(file.device), parse_dtype(file.dtype or "")
    return without(faults, device, dtype, _head_dims(file), file.kernels)


def _head_dims(file: File) -> set[int]:
    """The widths of the heads of attention in this project's backbones."""
    found = set()
    for line in file.lines:
        for backbone, size in product(line.backbone, line.size or file.size):
            if backbone in OWN and size in own_sizes(backbone):
                found.add(own_config(backbone, size).head_dim)
    return found
