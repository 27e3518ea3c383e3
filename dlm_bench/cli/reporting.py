"""Put results into a report (`report`) and into tables (`table`)."""

import argparse
import gc
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dlm_bench.cli.arguments import Commands, add_results

if TYPE_CHECKING:
    from dlm_bench.results.record import Record
    from dlm_bench.results.table import Table

TABLES = ("speedup", "throughput", "batch", "fit")


def add(subparsers: Commands) -> None:
    """Add the grammar of these commands."""
    parser = subparsers.add_parser(
        "report",
        help="write an HTML report of results",
        description="One HTML file with interactive figures, tables, environments and failures. "
        "It needs no network.",
    )
    add_results(parser)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="default: %(default)s",
    )
    parser.set_defaults(command=report)

    parser = subparsers.add_parser(
        "table",
        help="print a table of results",
        description="Throughput, also against batch, speed-up over a backbone, or latency laws: a "
        "row a line.",
    )
    parser.add_argument("table", metavar="|".join(TABLES), help="what to tell")
    add_results(parser)
    parser.add_argument(
        "--at", metavar="LENGTH[,LENGTH...]", help="only these lengths (not for fit)"
    )
    parser.add_argument(
        "--reference", metavar="BACKBONE", help="speedup: over this one (default: diffutran)"
    )
    parser.add_argument(
        "--format", default="text", help="text (default), markdown, latex (booktabs) or csv"
    )
    parser.set_defaults(command=table)


def report(args: argparse.Namespace) -> int:
    """Write the report of the results and print its path."""
    from dlm_bench.report import build_report
    from dlm_bench.results.files import write_file

    with _no_collector():
        records, skipped = _read(args.results)
        page = build_report(records, [str(path) for path in args.results], skipped)
    write_file(args.output, page, "report")
    print(args.output)
    return 0


@contextmanager
def _no_collector() -> Iterator[None]:
    """Without the garbage collector: nearly all that a report makes lives until its end, and to
    look at it again and again takes a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read(paths: list[Path]) -> "tuple[list[Record], list[str]]":
    """The records of the files, and what is said of lines that are none; it is warned of too."""
    from dlm_bench.results.store import read_records

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = [record for path in paths for record in read_records(path)]
    for each in caught:
        warnings.warn(each.message, stacklevel=2)
    return records, [str(each.message) for each in caught]


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
    """The lengths of --at, none for all."""
    from dlm_bench.errors import ConfigError

    if args.at is None:
        return []
    parts = args.at.split(",")
    if not all(re.fullmatch(r"\s*0*[1-9][0-9]{0,9}\s*", part) for part in parts):
        raise ConfigError(
            f"--at: {args.at!r} is not allowed; must be lengths in tokens such as 65536,131072"
        )
    return [int(part) for part in parts]
