"""The points of a sweep's groups: the product of all their lists."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dlm_bench.errors import MAX_SEED, ConfigError, check_int
from dlm_bench.models.backbones import FOLDER, BackboneInfo, backbone_info
from dlm_bench.models.own import OWN
from dlm_bench.plugins.entry_points import package_of
from dlm_bench.results.record import Point
from dlm_bench.results.where import ALIASES, is_like
from dlm_bench.samplers import SAMPLERS, build_sampler, options_of, with_models_defaults
from dlm_bench.samplers.ends import check_ends
from dlm_bench.samplers.former import renamed
from dlm_bench.samplers.prompt import Prompts
from dlm_bench.samplers.prompt_file import find_prompts, prompts_of
from dlm_bench.sweep.file import File, Group, as_list, no_option
from dlm_bench.sweep.mistakes import Mistakes
from dlm_bench.training.stated import check_holds, checkpoint_label


def pair_key(backbone: str, sampler: str) -> str:
    """Return the key of a backbone and a sampler together."""
    return f"{backbone} {sampler}"


def provenance(backbone: str, sampler: str, random_weights: bool) -> dict[str, str]:
    """Return the packages with versions, or the digests of folders, of a backbone and a sampler
    from elsewhere; this project's own are left out.

    Raises ConfigError for an unknown backbone or sampler, or a folder without the weights.
    """
    found = {
        "backbone": backbone_info(backbone).provenance(random_weights),
        "sampler": package_of("sampler", sampler, SAMPLERS),
    }
    return {kind: origin for kind, origin in found.items() if origin}


@dataclass(frozen=True)
class _Model:
    """A model that a group asks for. checkpoint: the path as written, empty for none. seed: None
    for that of the sweep."""

    size: str
    backbone: str
    dtype: str
    checkpoint: str
    seed: int | None


class Expansion:
    """The points of the groups added so far: lengths run fastest, then prompts and batches.

    traces, prompts, folders, checkpoints, provenance: as in Sweep and Measuring.
    Paths in a group are relative to `base_folder`. `options` take the place of the groups' own for
    each sampler that has them.
    """

    def __init__(
        self, file: File, base_folder: Path, mistakes: Mistakes, options: Mapping[str, Any]
    ) -> None:
        self._file, self._base_folder, self._mistakes = file, base_folder, mistakes
        self._options = {name: as_list(value) for name, value in options.items()}
        self.without_use = set(options)  # of no sampler so far
        self.points: list[Point] = []
        self.impossible: list[str] = []  # the reason against each point that cannot be
        self.traces: dict[str, str] = {}
        self.prompts: dict[str, str] = {}
        self.folders: dict[str, str] = {}
        self.checkpoints: dict[str, str] = {}
        self.provenance: dict[str, dict[str, str]] = {}

    def add(self, number: int, group: Group) -> None:
        """Add the points of the group of this number, or note the mistakes there."""
        file, where = self._file, ("lines", number)
        axes = {key: as_list(value) for key, value in (group.model_extra or {}).items()}
        for key in [key for key, values in axes.items() if not values]:
            self._mistakes.add(f"lines[{number}]: {key}: an empty list is not allowed", *where, key)
            del axes[key]
        axes |= self._options
        for model, name, *values in itertools.product(
            self._models(number, group), group.sampler, *axes.values()
        ):
            asked = self._of_sampler(name, dict(zip(axes, values, strict=True)))
            if not excluded(file.exclude, vars(model) | {"sampler": name} | asked):
                self._add(number, group, model, name, asked)

    def _of_sampler(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the options without those for other samplers than this one."""
        known: list[str] = []
        with suppress(ConfigError):  # an unknown sampler, which is noted where it is built
            known = options_of(name)
        self.without_use -= {*known}
        others = self._options.keys() - known
        return {option: value for option, value in asked.items() if option not in others}

    def _models(self, number: int, group: Group) -> list[_Model]:
        """Return the models of a group, or note a seed that is too large for the batches."""
        file = self._file
        seeds = group.seed or file.seed
        most = MAX_SEED - (max(group.batch or file.batch) - 1)
        for seed in seeds:
            check = partial(check_int, "seed", seed, minimum=0, maximum=most)
            self._mistakes.check(check, "lines", number)
        own_seeds: Sequence[int | None] = seeds if group.seed or seeds[1:] else [None]
        axes = (group.size or file.size, group.backbone, group.dtype or file.dtype or [])
        return [_Model(*each) for each in itertools.product(*axes, group.checkpoint, own_seeds)]

    def _add(
        self, number: int, group: Group, model: _Model, name: str, asked: dict[str, Any]
    ) -> None:
        """Add the points of a model, a sampler of this name and a choice of options."""
        size, backbone = model.size, model.backbone
        file, where = self._file, ("lines", number)
        if backbone.startswith(FOLDER):
            path = Path(backbone.removeprefix(FOLDER)).expanduser()
            backbone = f"{FOLDER}{self._base_folder / path}"
        found: list[BackboneInfo] = []
        self._mistakes.check(lambda: found.append(backbone_info(backbone)), *where)
        sampler = self._sampler(where, name, asked, found[0] if found else None)
        if not found:
            return
        (info,) = found
        if info.folder and group.size is None:
            size = info.default_size  # the size of the others says nothing of a folder
        checks = [lambda: info.check_size(size), lambda: self._one_folder(info)]
        if backbone not in OWN and file.kernels:
            from dlm_bench.sweep.kernels import check_unmask_kernels  # with torch

            checks.append(lambda: check_unmask_kernels(file.kernels))
        shapes = list(
            itertools.product(
                group.batch or file.batch,
                group.prompt_len or file.prompt_len,
                group.lengths or file.lengths,
            )
        )
        if sampler is not None:

            def check_model() -> None:
                sampler.check_backbone(backbone)
                if model.checkpoint:
                    check_holds(self._base_folder / model.checkpoint, backbone, size)

            if file.skip_impossible and (why := _why_not(check_model)):
                self.impossible += [why] * len(shapes)
                return
            checks += [check_model, lambda: self._origin(backbone, info.name, name)]
        stop_at_eos = file.stop_at_eos if group.stop_at_eos is None else group.stop_at_eos
        if stop_at_eos:
            checks.append(lambda: check_ends(info, size))
        prompts: list[Prompts | None] = []
        checks.append(lambda: prompts.append(self._prompts(group, info, size)))
        if self._mistakes.any(checks, *where) or sampler is None:
            return
        (drawn,) = prompts

        def check(batch: int, length: int, prompt_len: int) -> None:
            sampler.check_batch(batch)
            sampler.check_timed(length, prompt_len)
            sampler.check_supports(info.name, info.supports, length, prompt_len)
            info.check_length(length, prompt_len)

        def points() -> None:
            for batch, prompt_len, length in shapes:
                if drawn is not None and not prompt_len:
                    first = file.seed[0] if model.seed is None else model.seed
                    prompt_len = drawn.shortest(range(first, first + batch))
                place = partial(check, batch, length, prompt_len)
                if file.skip_impossible and (why := _why_not(place)):
                    self.impossible.append(why)
                    continue
                place()
                point = Point(
                    backbone=info.name,
                    size=size,
                    sampler=name,
                    options=sampler.options(),
                    length=length,
                    batch=batch,
                    prompt_len=prompt_len,
                    prompts=drawn.label if drawn else "",
                    stop_at_eos=stop_at_eos,
                    dtype=model.dtype,
                    device=file.device,
                    weights=self._label(model.checkpoint),
                    seed=model.seed,
                )
                if not excluded(file.exclude, point.facts()):
                    self.points.append(point)

        self._mistakes.check(points, *where)

    def _sampler(
        self, where: Sequence[Any], name: str, asked: dict[str, Any], model: BackboneInfo | None
    ) -> Any:
        """Build the sampler of a group; None if an option is wrong, with all mistakes noted."""
        options, allowed = dict(asked), list[str]()
        if not self._mistakes.check(lambda: allowed.extend(options_of(name)), *where):
            return None
        options = renamed(options, allowed)
        unknown = [option for option in options if option not in allowed]
        for option in unknown:
            self._mistakes.note(no_option(option, name, allowed), *where)
            del options[option]
        if name in SAMPLERS and isinstance(asked.get("trace"), str) and asked["trace"]:
            options["trace"] = str(self._base_folder / asked["trace"])
        defaults = dict[str, Any]()
        if model is not None and not self._mistakes.check(
            lambda: defaults.update(with_models_defaults(name, options, model)), *where
        ):
            return None
        options = defaults or options
        trace, wrong = options.get("trace"), bool(unknown)
        while True:
            try:
                sampler = build_sampler(name, **options)
            except ConfigError as error:
                self._mistakes.note(error, *where)
                # Without it, what else is wrong can be seen.
                if error.field not in options:
                    return None
                del options[error.field]
                wrong = True
                continue
            if wrong:
                return None
            if name in SAMPLERS and trace:
                self.traces[str(sampler.options()["trace"])] = str(trace)
            return sampler

    def _prompts(self, group: Group, info: BackboneInfo, size: str) -> Prompts | None:
        """Read the file of a group's prompts; None without one. Raises ConfigError."""
        asked = self._file.prompts if group.prompts is None else group.prompts
        if not asked:
            return None
        path = find_prompts(asked, self._base_folder)
        found = prompts_of(path, info, size)
        self.prompts[found.label] = str(path)
        return found

    def _label(self, checkpoint: str) -> str:
        """Take note of a checkpoint, and return the label; an empty text for none."""
        path = str(self._base_folder / checkpoint)
        known = {file: label for label, file in self.checkpoints.items()}
        if checkpoint and path not in known:  # a large file takes seconds to read
            known[path] = checkpoint_label(path)
            self.checkpoints[known[path]] = path
        return known[path] if checkpoint else ""

    def _one_folder(self, found: BackboneInfo) -> None:
        """Take note of a folder. Raises ConfigError for a second folder of the same name."""
        if found.folder:
            other = self.folders.setdefault(found.name, found.folder)
            if other != found.folder:
                raise ConfigError(f"backbone: {found.name!r} is {other!r} and {found.folder!r}")

    def _origin(self, backbone: str, called: str, sampler: str) -> None:
        found = provenance(backbone, sampler, self._file.random_weights)
        if found:
            self.provenance[pair_key(called, sampler)] = found


def excluded(tables: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> bool:
    """Decide if a point with these fields, maybe not all of them, is in an `[[exclude]]` table: its
    field of each key has a value of the key, globs for names."""
    return any(
        table
        and all(
            (key := ALIASES.get(name, name)) in facts
            and any(is_like(facts[key], each) for each in as_list(value))
            for name, value in table.items()
        )
        for table in tables
    )


def _why_not(check: Callable[[], object]) -> str:
    """Return the reason against a point; an empty text if there is none."""
    try:
        check()
    except ConfigError as error:
        return str(error)
    return ""
