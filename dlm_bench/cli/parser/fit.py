"""Arguments of `fit`."""

from dlm_bench.cli.parser.arguments import add_results
from dlm_bench.cli.parser.base import Commands, add_command

EXAMPLE = "dlm-bench fit results/quick.jsonl --sampler full"


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "fit",
        "fit the latency law to results",
        "Fit the latency of a pass, a L^2 + b L + c with all coefficients >= 0, to each\n"
        "series of results.",
        EXAMPLE,
    )
    add_results(parser)
    parser.add_argument("--sampler", metavar="NAME", help="fit this sampler only (default: all)")
