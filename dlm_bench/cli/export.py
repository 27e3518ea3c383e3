"""`export`: write records as CSV, Parquet or an SQLite table."""

import argparse
import importlib.util
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas

from dlm_bench.errors import ConfigError, counted, unknown
from dlm_bench.results.files import replacing, write_file
from dlm_bench.results.flat import chosen_columns, flat_frame
from dlm_bench.results.selection import selected

FORMATS = ("csv", "parquet", "sqlite")
TABLE = "records"  # of a database


def export(args: argparse.Namespace) -> int:
    """Write the chosen columns of the records, a row a record."""
    if args.format not in FORMATS:
        raise unknown("--format", args.format, FORMATS)
    if args.format != "csv" and args.output is None:
        raise ConfigError(f"--output: is needed with --format {args.format}, which is no text")
    if args.format == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("--format: parquet needs pyarrow; pip install pyarrow, or choose sqlite")
    frame = flat_frame(selected(args.results, args.label, args.where))
    frame = frame[chosen_columns(map(str, frame.columns), args.columns)]
    if args.output is None:
        print(frame.to_csv(index=False, lineterminator="\n"), end="")
        return 0
    _write(frame, args.format, args.output)
    print(f"{counted(len(frame), 'record')} in {args.output}")
    return 0


def _write(frame: pandas.DataFrame, form: str, path: Path) -> None:
    if form == "csv":
        write_file(path, frame.to_csv(index=False, lineterminator="\n"), "export")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "export") as beside:
        if form == "parquet":
            frame.to_parquet(beside, index=False)
        else:
            with closing(sqlite3.connect(beside)) as database, database:
                frame.to_sql(TABLE, database, index=False)
