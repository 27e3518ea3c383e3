"""`list`: show backbones, sizes, samplers, options, figures and sweeps."""

import argparse
import dataclasses

from dlm_bench import samplers
from dlm_bench.cli.terminal import print_grid
from dlm_bench.cost.flops import parameter_count
from dlm_bench.errors import ConfigError
from dlm_bench.figures import NAMES
from dlm_bench.models.backbones import FOLDER, backbone_info
from dlm_bench.models.config import BACKBONES, SIZES, model_config
from dlm_bench.models.own import OWN, backbone_passes
from dlm_bench.models.presets import PRESETS, SHIPPED, preset, preset_sizes
from dlm_bench.plugins import entry_points
from dlm_bench.samplers.acceptance.options import unused_options
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.streams import folded
from dlm_bench.sweep.file import shipped


def list(args: argparse.Namespace) -> int:
    """Print backbones with their parameter counts, samplers with their options and defaults."""
    rows = []
    for backbone in BACKBONES:
        counts = (parameter_count(model_config(backbone, size)) for size in SIZES)
        rows.append([backbone, *(f"{count / 1e6:,.1f}" for count in counts)])
    print("Parameters (million)")
    print_grid(["backbone", *SIZES], rows)
    print()
    presets = [[backbone, _sizes(backbone)] for backbone in PRESETS]
    print_grid(["backbone of the field", "sizes, with parameters in billions"], presets, words=2)
    kinds = samplers.SAMPLERS.items()
    print()
    shipped_rules = [
        [backbone, sampler, " ".join(f"{name}={value}" for name, value in rule.items())]
        for backbone, rules in SHIPPED.items()
        for sampler, rule in rules.items()
    ]
    print_grid(["backbone", "sampler", "accept=shipped stands for"], shipped_rules, words=3)
    print()
    print_grid(["sampler", "decodes with"], [[name, _backbones(kind)] for name, kind in kinds], 2)
    print()
    options = [[name, _options(kind)] for name, kind in kinds]
    print_grid(["sampler", "options and their defaults"], options, words=2)
    print()
    _print_plugins()
    for line in (
        f"{FOLDER}FOLDER is a backbone, too: a local model of Hugging Face's (docs/plugins.md)",
        f"figures: {' '.join(NAMES)}",
        f"sweeps: {' '.join(shipped())}",
    ):
        print(folded(line))
    return 0


def _backbones(kind: type[Sampler]) -> str:
    return " ".join(b for b in OWN if kind.requires in backbone_passes(b))


def _sizes(backbone: str) -> str:
    counts = {size: parameter_count(preset(backbone, size)) for size in preset_sizes(backbone)}
    return ", ".join(
        size if size == "tiny" else f"{size} {count / 1e9:.2f}" for size, count in counts.items()
    )


def _options(kind: type[Sampler]) -> str:
    unused = unused_options(kind)
    fields = [field for field in dataclasses.fields(kind) if field.name not in unused]
    return " ".join(f"{field.name}={field.default}" for field in fields)


def _print_plugins() -> None:
    """Print the plug-ins of other packages, with the reason for unusable ones."""
    rows = []
    for plugin in (*entry_points.announced("backbone"), *entry_points.announced("sampler")):
        try:
            if plugin.kind == "backbone":
                found = backbone_info(plugin.name)
                details = [" ".join(found.sizes), " ".join(found.supports)]
            else:
                kind = samplers.sampler_class(plugin.name)
                details = [_options(kind), kind.requires]
        except ConfigError as error:
            details = [f"not usable: {error}", ""]
        rows.append([plugin.kind, plugin.name, plugin.package, *details])
    if rows:
        print_grid(["plug-in", "name", "package", "sizes or options", "passes"], rows, words=5)
        print()
