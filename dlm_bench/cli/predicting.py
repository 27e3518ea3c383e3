"""What decoding must cost, before any of it is run (`cost`)."""

import argparse
from pathlib import Path
from typing import Any

from dlm_bench.cli.arguments import Commands
from dlm_bench.errors import ConfigError

DECODE: dict[str, Any] = {"size": "1.3b", "length": 8192, "tokens_per_step": 8, "block_size": 32}


def add(subparsers: Commands) -> None:
    """Add the grammar of these commands."""
    parser = subparsers.add_parser(
        "cost",
        help="what decoding must cost",
        description="FLOPs, memory, roofline bounds: of one decode by each method, or of a sweep.",
    )
    # What a sweep's file says has no default here, so that it is known not to be asked for.
    parser.add_argument("--size", help=f"model size (default: {DECODE['size']})")
    parser.add_argument("-L", "--length", type=int, help=f"default: {DECODE['length']}")
    for name in ("tokens_per_step", "block_size"):
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, help=f"default: {DECODE[name]}"
        )
    parser.add_argument(
        "--sweep",
        type=Path,
        metavar="FILE.toml",
        help="instead: each point of a sweep, a file or a name such as paper",
    )
    parser.add_argument(
        "--hardware", default="h100-sxm", help="a GPU (default: h100-sxm), measured"
    )
    parser.add_argument("--format", default="text", help="text (default), markdown or latex")
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
