"""`table`: print a table of results."""

import argparse
import re

from dlm_bench.analysis import tables
from dlm_bench.analysis.speedup import usual_reference
from dlm_bench.analysis.waiting import waiting_table
from dlm_bench.cli.fit import fit_table
from dlm_bench.cli.parser.table import TABLES
from dlm_bench.cli.terminal import print_table
from dlm_bench.errors import ConfigError, unknown
from dlm_bench.results.selection import selected
from dlm_bench.results.series import labelled, series_of
from dlm_bench.results.store import frame_of
from dlm_bench.results.table import FORMATS, Table


def table(args: argparse.Namespace) -> int:
    """Print a table, and the gaps on stderr."""
    if args.table not in TABLES:
        raise unknown("table", args.table, TABLES)
    if args.format not in FORMATS:
        raise unknown("format", args.format, FORMATS)
    print_table(_table(args, _lengths(args)), args.format)
    return 0


def _table(args: argparse.Namespace, at: list[int]) -> Table:
    if args.reference is not None and args.table != "speedup":
        raise ConfigError(f"--reference: is not allowed with table {args.table}")
    if at and args.table == "fit":
        raise ConfigError("--at: is not allowed with table fit; a law needs all lengths")
    frame = frame_of(selected(args.results, args.label, args.where))
    if args.table == "batch":
        return tables.batch_table(frame, at)
    if args.table == "waiting":
        return waiting_table(frame, at)
    if args.table == "fit":
        return fit_table(frame)
    series = labelled(series_of(frame))
    if args.table == "throughput":
        return tables.throughput_table(series, at)
    return tables.speedup_table(series, frame, at, args.reference or usual_reference(frame))


def _lengths(args: argparse.Namespace) -> list[int]:
    """Return the lengths of --at; an empty list for all."""
    if args.at is None:
        return []
    parts = args.at.split(",")
    if not all(re.fullmatch(r"\s*0*[1-9][0-9]{0,9}\s*", part) for part in parts):
        raise ConfigError(
            f"--at: {args.at!r} is not allowed; must be lengths in tokens such as 65536,131072"
        )
    return [int(part) for part in parts]
