"""The reading of a sweep file: all points and settings are checked before anything runs."""

import sys
import warnings
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from dlm_bench.errors import ConfigError, counted, did_you_mean
from dlm_bench.models.backbones import known_config
from dlm_bench.models.device import Device, check_graphs, default_dtype, find_device, item_bytes
from dlm_bench.models.own import Config
from dlm_bench.results.identity import identity
from dlm_bench.results.record import Graphs, Mode, Point
from dlm_bench.results.where import ALIASES, check_keys, conditions, holds
from dlm_bench.sweep.expand import Expansion, pair_key
from dlm_bench.sweep.file import File, Group, find_sweep, read_file
from dlm_bench.sweep.kernel_check import Choice, Faults, read_faults
from dlm_bench.sweep.mistakes import Mistakes
from dlm_bench.timing.settings import (
    DEFAULTS,
    OF_WHOLE_DECODES,
    MeasureSettings,
    check_whole_decodes,
)

SETTINGS = fields(MeasureSettings)
OPTION = "sampler."  # begins the name of a sampler's option among settings


class Measuring(BaseModel):
    """All settings of a sweep that affect a number.

    `MeasureSettings` explains those of a single measurement.
    kernels: the implementation of each operation chosen by the user.
    folders: paths of models in Hugging Face's format, by backbone.
    checkpoints: the file of each checkpoint, by the label in the points.
    random_weights: build these models with random weights.
    """

    model_config = ConfigDict(frozen=True)

    mode: Mode = DEFAULTS.mode
    warmup: int = DEFAULTS.warmup
    repeats: int = DEFAULTS.repeats
    nodes: int = DEFAULTS.nodes
    tolerance: float | None = DEFAULTS.tolerance
    max_seconds: float = DEFAULTS.max_seconds
    min_warmup: float = DEFAULTS.min_warmup
    min_time: float = DEFAULTS.min_time
    soak: float = DEFAULTS.soak
    seed: int = DEFAULTS.seed
    graphs: Graphs = DEFAULTS.graphs
    kernels: dict[str, str] = {}
    folders: dict[str, str] = {}
    checkpoints: dict[str, str] = {}
    random_weights: bool = False

    def settings_of(self, point: Point) -> MeasureSettings:
        """Return the settings that `measure_point` takes for a point."""
        settings = {each.name: getattr(self, each.name) for each in SETTINGS}
        return MeasureSettings(**settings | {"seed": self.seed_of(point)})

    def seed_of(self, point: Point) -> int:
        """Return the seed of a point: its own, or that of all points."""
        return self.seed if point.seed is None else point.seed


class Sweep(BaseModel):
    """A valid sweep: the points in the order of the file, and the settings for measuring them.

    provenance: of each backbone and sampler together (see `expand.provenance`).
    timeout: seconds for a point. memory_limit: bytes for a process. None for no limit.
    traces, prompts: the file of each trace, and of prompts, by the label in the points.
    stand_ins, left_out: by operation with a kernel that failed the check, the reason for another
        kernel, or for points without a record (see `kernel_check`).
    """

    model_config = ConfigDict(frozen=True)

    name: str
    points: list[Point]
    measuring: Measuring = Measuring()
    provenance: dict[str, dict[str, str]] = {}
    timeout: float | None = None
    memory_limit: int | None = None
    traces: dict[str, str] = {}
    prompts: dict[str, str] = {}
    stand_ins: dict[str, str] = {}
    left_out: dict[str, str] = {}

    def options_of(self, point: Point) -> dict[str, int | float | str]:
        """Return the options to build a point's sampler with."""
        return with_trace_file(point.options, self.traces)

    def config_of(self, point: Point) -> Config | None:
        """Return the configuration of a point's model; None if the shape is unknown."""
        folder = self.measuring.folders.get(point.backbone, "")
        return known_config(point.backbone, point.size, folder)

    def provenance_of(self, point: Point) -> dict[str, str]:
        """Return the provenance of a point's backbone and sampler; empty for this project's own."""
        return self.provenance.get(pair_key(point.backbone, point.sampler), {})


def with_trace_file(
    options: Mapping[str, int | float | str], traces: Mapping[str, str]
) -> dict[str, int | float | str]:
    """Return a point's options with the file of the trace, if there is any, instead of the
    label."""
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
    settings: Mapping[str, Any] | None = None,
    only: str | None = None,
    base_folder: str | Path | None = None,
    on_this_machine: bool = True,
) -> Sweep:
    """Read and check a sweep file, given by path or by the name of a shipped file.

    Arguments override the keys of the file; an item of `kernels` overrides the file's for the same
    operation. `settings` are values for keys of the file by name, for all groups, and, as
    `sampler.NAME`, for an option of each sampler that has it; `only` has conditions on the points
    to keep (see `results.where`). Kernels that failed in the file `kernel_check` are not used (see
    `kernels.without`). Paths of traces, prompts and models are relative to `base_folder`, by
    default the file's folder. With on_this_machine=False the sweep is only predicted: device,
    kernels and limits are not checked against this machine.

    Raises ConfigError with a line for each mistake: place, field, value and allowed values.
    """
    overrides = {
        "device": device,
        "mode": mode,
        "graphs": graphs,
        "timeout": timeout,
        "memory_limit": memory_limit,
    }
    path = find_sweep(path)
    given = {name: value for name, value in overrides.items() if value is not None}
    given = {**(settings or {}), **given}
    options = {
        key.removeprefix(OPTION): given.pop(key) for key in [*given] if key.startswith(OPTION)
    }
    file, mistakes = read_file(path, given)
    file.kernels |= kernels or {}
    faults = None if kernel_check is None else read_faults(kernel_check)
    choice = _settle_device(file, mistakes, on_this_machine, faults)
    file.kernels = choice.kernels
    base_folder = path.absolute().parent if base_folder is None else Path(base_folder)
    for name in OF_WHOLE_DECODES:
        value = getattr(file, name)
        mistakes.check(partial(check_whole_decodes, name, value, file.mode))
    expansion = Expansion(file, base_folder, mistakes, options)
    for number, group in enumerate(file.lines):
        if number not in mistakes.broken:
            expansion.add(number, group)
    _note_useless_exclusions(file, expansion, mistakes)
    for name in sorted(expansion.without_use):
        known = {option for point in expansion.points for option in point.options}
        mistakes.add(f"{OPTION}{name}: no sampler here has this option{did_you_mean(name, known)}")
    mistakes.end()
    if expansion.impossible:
        count = counted(len(expansion.impossible), "point")
        warnings.warn(
            f"{count} left out that cannot be (skip_impossible), as {expansion.impossible[0]}",
            stacklevel=2,
        )
    measuring = Measuring(
        **file.model_dump(include=set(Measuring.model_fields) - {"seed"}),
        seed=file.seed[0],
        folders=expansion.folders,
        checkpoints=expansion.checkpoints,
    )
    return Sweep(
        name=file.name,
        points=_kept(_once_each(expansion.points, measuring), only, path),
        measuring=measuring,
        provenance=expansion.provenance,
        timeout=file.timeout,
        memory_limit=file.memory_limit,
        traces=expansion.traces,
        prompts=expansion.prompts,
        stand_ins=choice.stand_ins,
        left_out=choice.left_out,
    )


def _once_each(points: list[Point], measuring: Measuring) -> list[Point]:
    """Return the points without those asked for again, be it by another group, whose seed of its
    own may be that of the sweep."""
    asked = measuring.model_dump()
    found: dict[str, Point] = {}
    for point in points:
        found.setdefault(identity(point, asked, hardware=""), point)
    return list(found.values())


def _kept(points: list[Point], only: str | None, path: Path) -> list[Point]:
    """Return the points that meet the conditions. Raises ConfigError if there is none."""
    kept = points
    if only is not None:
        asked = conditions(only, "--only")
        check_keys(asked, list({key: 0 for point in points for key in point.facts()}), "--only")
        kept = [point for point in points if holds(asked, point.facts())]
    if not kept:
        why = "none is left" if only is None else f"--only: {only!r} matches none"
        raise ConfigError(f"sweep file {str(path)!r}: {why} of {counted(len(points), 'point')}")
    return kept


def _note_useless_exclusions(file: File, expansion: Expansion, mistakes: Mistakes) -> None:
    """Note keys of `[[exclude]]` tables that no point has."""
    known = {*Point.model_fields, *Group.model_fields} - {"options"}
    known |= {key for group in file.lines for key in group.model_extra or {}}
    known |= {key for point in expansion.points for key in point.options}
    for number, table in enumerate(file.exclude):
        for key in [key for key in table if ALIASES.get(key, key) not in known]:
            hint = did_you_mean(key, known)
            mistakes.add(
                f"exclude[{number}]: {key}: no such field of a point{hint}", "exclude", number, key
            )


def has_device(path: str | Path, device: str | None = None) -> bool:
    """Return False for a GPU that this machine lacks, as asked for by `device` or else by a sweep
    file.

    An unknown device gives True: `load_sweep` reports the mistake. Raises ConfigError for an
    unreadable file.
    """
    asked = read_file(find_sweep(path), {})[0].device if device is None else device
    try:
        find_device(asked)
    except ConfigError:
        return not asked.startswith("cuda")  # what is no device at all is told by `load_sweep`
    return True


def _settle_device(
    file: File, mistakes: Mistakes, on_this_machine: bool, faults: Faults | None
) -> Choice:
    """Spell out a file's device and dtypes, note requests that they cannot meet, and choose the
    kernels."""

    def spell_out() -> None:
        device = find_device(file.device, must_exist=on_this_machine)
        if device.type == "meta":
            raise ConfigError("device: 'meta' has no weights to decode with; allowed: cpu, cuda")
        file.device = str(device)

    valid = mistakes.check(spell_out)
    if not valid:
        file.device = "cpu"
    device = find_device(file.device, must_exist=False)
    usual = [default_dtype(device.type)]
    file.dtype = _known_dtypes(file.dtype or usual, mistakes) or usual
    for number, group in enumerate(file.lines):
        if group.dtype is not None:
            group.dtype = _known_dtypes(group.dtype, mistakes, "lines", number) or usual
    choice = Choice(file.kernels, {}, {})
    if on_this_machine and valid:
        mistakes.check(lambda: check_graphs(file.graphs, device.type))
        mistakes.check(lambda: _check_limit(file, device))
        # On a CPU every operation has its plain implementation.
        if device.type != "cpu" or file.kernels or faults is not None:
            from dlm_bench.sweep.kernels import choose  # with torch

            chosen: list[Choice] = []
            if mistakes.check(lambda: chosen.append(choose(file, faults))):
                (choice,) = chosen
    return choice


def _known_dtypes(names: list[str], mistakes: Mistakes, *where: Any) -> list[str]:
    """Return the dtypes that there are, and note the others."""
    return [name for name in names if mistakes.check(partial(item_bytes, name), *where)]


def _check_limit(file: File, device: Device) -> None:
    if file.memory_limit is not None and (device.type != "cpu" or sys.platform != "linux"):
        raise ConfigError(
            f"memory_limit: is not allowed on {device.type} under {sys.platform}; only Linux "
            "limits the memory of a process, and only a CPU's"
        )
