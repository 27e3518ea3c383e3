"""`table`: print a table of results."""

import argparse
import re
import sys
from typing import TYPE_CHECKING

from dlm_bench.cli.arguments import Commands, add_command, add_results

if TYPE_CHECKING:
    from dlm_bench.results.table import Table

TABLES = ("speedup", "throughput", "batch", "fit")
EXAMPLE = "dlm-bench table speedup results/quick.jsonl --at 2048,8192 --format latex"


def add(subparsers: Commands) -> None:
    """Add the grammar of this command."""
    parser = add_command(
        subparsers,
        "table",
        "print a table of results",
        "Print the speedup over a backbone, the throughput by length or by batch, or the\n"
        "fitted latency laws, with a row for each series.",
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
        metavar="BACKBONE",
        help="speedup: divide by the throughput of this backbone (default: diffutran)",
    )
    parser.add_argument(
        "--format",
        default="text",
        help="print text (default), markdown, latex (booktabs) or csv",
    )
    parser.set_defaults(command=table)


def table(args: argparse.Namespace) -> int:
    """Print a table; what was asked for and is not in it is named on stderr."""
    from dlm_bench.errors import ResultsError, unknown
    from dlm_bench.results.table import FORMATS

    if args.table not in TABLES:
        raise unknown("table", args.table, TABLES)
    if args.format not in FORMATS:
        raise unknown("format", args.format, FORMATS)
    from dlm_bench.streams import screen_width

    made = _table(args, _lengths(args))
    if not made.rows:
        raise ResultsError(made.notes[0])
    print(made.render(args.format, screen_width()))
    for note in made.notes:
        print(f"dlm-bench: {note}", file=sys.stderr)
    return 0


def _table(args: argparse.Namespace, at: list[int]) -> "Table":
    from dlm_bench.analysis import tables
    from dlm_bench.errors import ConfigError
    from dlm_bench.results import series
    from dlm_bench.results.store import load_results

    if args.reference is not None and args.table != "speedup":
        raise ConfigError(f"--reference: is not allowed with table {args.table}")
    if at and args.table == "fit":
        raise ConfigError("--at: is not allowed with table fit; a law needs all lengths")
    frame = load_results(*args.results)
    if args.table == "batch":
        return tables.batch_table(frame, at)
    lines = series.labelled(series.lines(frame))
    if args.table == "throughput":
        return tables.throughput_table(lines, at)
    if args.table == "fit":
        return tables.fit_table(lines)
    return tables.speedup_table(lines, frame, at, args.reference or tables.REFERENCE)


def _lengths(args: argparse.Namespace) -> list[int]:
    """Return the lengths of --at; an empty list for all."""
    from dlm_bench.errors import ConfigError

    if args.at is None:
        return []
    parts = args.at.split(",")
    if not all(re.fullmatch(r"\s*0*[1-9][0-9]{0,9}\s*", part) for part in parts):
        raise ConfigError(
            f"--at: {args.at!r} is not allowed; must be lengths in tokens such as 65536,131072"
        )
    return [int(part) for part in parts]
