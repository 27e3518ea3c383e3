"""Arguments of `stats`."""

from dlm_bench.cli.parser.arguments import add_results, add_table_format
from dlm_bench.cli.parser.base import Commands, add_command

EXAMPLE = "dlm-bench stats results/quick.jsonl --where 'length=2048' --percentiles 50,90"


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "stats",
        "show mean, scatter and percentiles of times",
        "Print milliseconds of decodes, first blocks, prefill and passes by role: number, mean,\n"
        "standard deviation and percentiles over all repeats and runs of each point.",
        EXAMPLE,
    )
    add_results(parser)
    parser.add_argument(
        "--percentiles",
        default="50,90,99",
        metavar="P[,P...]",
        help="show these percentiles in percent (default: %(default)s)",
    )
    add_table_format(parser)
