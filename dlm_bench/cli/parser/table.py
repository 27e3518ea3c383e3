"""Arguments of `table`."""

from dlm_bench.cli.parser.arguments import add_results, add_table_format
from dlm_bench.cli.parser.base import Commands, add_command

TABLES = ("speedup", "throughput", "batch", "waiting", "fit")


EXAMPLE = "dlm-bench table speedup results/quick.jsonl --at 2048,8192 --format latex"


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "table",
        "print a table of results",
        "Print the speedup over a backbone, the throughput by length or by batch, the passes\n"
        "a block and the sequences that wait in a batch, or the fitted latency laws.",
        EXAMPLE,
    )
    parser.add_argument("table", metavar="|".join(TABLES), help="print this table")
    add_results(parser)
    parser.add_argument(
        "--at",
        metavar="LENGTH[,LENGTH...]",
        help="show these lengths in tokens only; not for fit (default: all)",
    )
    parser.add_argument(
        "--reference",
        metavar="BACKBONE|twin",
        help="speedup: divide by the throughput of this backbone, or of the autoregressive model "
        "of the same shape (default: diffutran; twin where only the field's models are there)",
    )
    add_table_format(parser)
