"""Arguments of `cost`."""

from pathlib import Path
from typing import Any

from dlm_bench.cli.parser.arguments import add_length
from dlm_bench.cli.parser.base import Commands, add_command

DECODE: dict[str, Any] = {"size": "1.3b", "length": 8192, "tokens_per_step": 8, "block_size": 32}
EXAMPLE = "dlm-bench cost --size 1.3b --length 32768 --hardware h200"


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
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
    parser.add_argument(
        "--format",
        default="text",
        metavar="text|markdown|latex",
        help="print tables in this format (default: text)",
    )
