"""Arguments of `export`."""

from pathlib import Path

from dlm_bench.cli.parser.arguments import add_results
from dlm_bench.cli.parser.base import Commands, add_command

EXAMPLE = """\
dlm-bench export results/quick.jsonl --columns backbone,length,tokens_per_second"""


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "export",
        "write records as CSV, Parquet or SQLite",
        "Write a row a record, with every field, option and derived number as a column.",
        EXAMPLE,
    )
    add_results(parser)
    parser.add_argument(
        "--format",
        default="csv",
        metavar="csv|parquet|sqlite",
        help="write this format; parquet needs pyarrow, sqlite has the table `records` (default: "
        "csv)",
    )
    parser.add_argument(
        "--columns",
        metavar="NAME[,NAME...]",
        help="write these columns in this order, as length,tokens_per_second,environment.*; globs "
        "(default: all but lists and nested fields)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write this file (default: CSV to stdout)"
    )
