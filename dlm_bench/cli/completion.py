"""`--print-completion`: print a shell's completion script."""

import argparse
from pathlib import Path

import shtab

from dlm_bench.cli.parser import build_parser
from dlm_bench.cost.hardware import HARDWARE
from dlm_bench.cost.roofline import MEASURED
from dlm_bench.figures import NAMES
from dlm_bench.models.device import ITEM_BYTES
from dlm_bench.models.own import OWN, own_sizes
from dlm_bench.samplers import SAMPLERS
from dlm_bench.sweep.file import shipped

_GPUS = (*HARDWARE, MEASURED)
_WORDS: dict[str, tuple[str, ...]] = {
    "backbone": OWN,
    "reference": OWN,
    "sampler": tuple(SAMPLERS),
    "size": tuple(dict.fromkeys(size for backbone in OWN for size in own_sizes(backbone))),
    "device": ("auto", "cpu", "cuda"),
    "dtype": tuple(ITEM_BYTES),
    "figure": (*NAMES, "all"),
    "hardware": _GPUS,
    "predict": _GPUS,
}
_SWEEPS = {
    "bash": "_dlm_bench_sweep_file",
    "zsh": "_dlm_bench_sweep_file",
    "tcsh": "f",
}


def completion(args: argparse.Namespace) -> int:
    """Print the completion script of the shell asked for."""
    parser = build_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for command in commands.choices.values():
        for action in command._actions:
            _complete(action)
    names = " ".join(shipped())
    sweeps = {
        "bash": f'_dlm_bench_sweep_file() {{ compgen -W "{names}" -- "$1"; compgen -f -- "$1"; }}',
        "zsh": f"_dlm_bench_sweep_file() {{ compadd {names}; _files }}",
    }
    shell = args.print_completion
    print(shtab.complete(parser, shell, preamble=sweeps.get(shell, "")))
    return 0


def _complete(action: argparse.Action) -> None:
    """Complete an argument with paths, or with the allowed words."""
    metavar = str(action.metavar)
    if action.type is Path or action.dest == "sampler_trace":
        is_sweep = action.dest in ("file", "sweep")
        paths = shtab.DIRECTORY if metavar == "DIR" else shtab.FILE
        action.complete = _SWEEPS if is_sweep else paths  # type: ignore[attr-defined]
    elif "|" in metavar and metavar.islower():
        action.choices = metavar.split("|")
    elif action.dest in _WORDS:
        action.choices = _WORDS[action.dest]
