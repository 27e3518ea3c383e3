"""`cost`: predict what decoding must cost."""

import argparse
from pathlib import Path
from typing import Any

from dlm_bench.cli.arguments import Commands, add_command, add_length
from dlm_bench.errors import ConfigError

DECODE: dict[str, Any] = {"size": "1.3b", "length": 8192, "tokens_per_step": 8, "block_size": 32}
EXAMPLE = "dlm-bench cost --size 1.3b --length 32768 --hardware h200"


def add(subparsers: Commands) -> None:
    """Add the grammar of this command."""
    parser = add_command(
        subparsers,
        "cost",
        "predict what decoding must cost",
        "Predict FLOPs, memory traffic and the roofline bound of a decode by each method,\n"
        "or of every point of a sweep, without running it.",
        EXAMPLE,
    )
    # What a sweep's file says has no default here, so that it is known not to be asked for.
    parser.add_argument("--size", help=f"model size (default: {DECODE['size']})")
    add_length(parser, DECODE["length"])
    parser.add_argument(
        "--tokens-per-step",
        type=int,
        metavar="TOKENS",
        help=f"unmask this many tokens a pass (default: {DECODE['tokens_per_step']})",
    )
    parser.add_argument(
        "--block-size",
        type=int,
        metavar="TOKENS",
        help=f"decode in blocks of this many tokens (default: {DECODE['block_size']})",
    )
    parser.add_argument(
        "--sweep",
        type=Path,
        metavar="FILE.toml",
        help="predict each point of this file instead, or of a shipped sweep such as paper",
    )
    parser.add_argument(
        "--hardware",
        default="h100-sxm",
        metavar="NAME|measured",
        help="predict for this GPU, or calibrate this machine (measured) (default: h100-sxm)",
    )
    parser.add_argument("--format", default="text", help="print text (default), markdown or latex")
    parser.set_defaults(command=cost)


def cost(args: argparse.Namespace) -> int:
    """Print what decoding must cost."""
    from dlm_bench.cost.roofline import find_hardware
    from dlm_bench.cost.table import cost_report
    from dlm_bench.sweep.floor import sweep_report
    from dlm_bench.sweep.load import load_sweep

    asked = {name: getattr(args, name) for name in DECODE if getattr(args, name) is not None}
    if args.sweep is None:
        hardware = find_hardware(args.hardware)
        print(cost_report(hardware, style=args.format, **(DECODE | asked)))
        return 0
    for name in asked:
        raise ConfigError(f"--{name.replace('_', '-')}: is not allowed with --sweep, which says it")
    sweep = load_sweep(args.sweep, here=False)
    print(sweep_report(sweep, find_hardware(args.hardware), args.format))
    return 0
