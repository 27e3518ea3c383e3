"""What decoding must cost, before any of it is run (`cost`)."""

import argparse

from dlm_bench.commands.arguments import Commands


def add(subparsers: Commands) -> None:
    """Add the grammar of these commands."""
    parser = subparsers.add_parser(
        "cost", help="what decoding must cost", description="FLOPs, memory, roofline bounds."
    )
    parser.add_argument("--size", default="1.3b", help="model size (default: %(default)s)")
    parser.add_argument("-L", "--length", type=int, default=8192, help="default: %(default)s")
    parser.add_argument("--tokens-per-step", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--block-size", type=int, default=32, help="default: %(default)s")
    parser.add_argument(
        "--hardware", default="h100-sxm", help="a GPU (default: h100-sxm), measured"
    )
    parser.add_argument("--format", default="text", help="text (default), markdown or latex")
    parser.set_defaults(command=cost)


def cost(args: argparse.Namespace) -> int:
    """Print what decoding must cost."""
    from dlm_bench.analysis.cost_table import cost_report
    from dlm_bench.analysis.roofline import find_hardware

    names = ("size", "length", "tokens_per_step", "block_size")
    options = {name: getattr(args, name) for name in names}
    print(cost_report(find_hardware(args.hardware), style=args.format, **options))
    return 0
