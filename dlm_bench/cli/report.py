"""`report`: write results into an HTML file."""

import argparse
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from dlm_bench.report import build_report
from dlm_bench.results.files import write_file
from dlm_bench.results.record import Record
from dlm_bench.results.selection import selected


def report(args: argparse.Namespace) -> int:
    """Write the report of the results and print the path."""
    with _no_collector():
        records, skipped = _read(args)
        page = build_report(records, [str(path) for path in args.results], skipped)
    write_file(args.output, page, "report")
    print(args.output)
    return 0


@contextmanager
def _no_collector() -> Iterator[None]:
    """Switch the garbage collector off: nearly all objects of a report live until its end, and
    scanning them again and again takes a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read(args: argparse.Namespace) -> tuple[list[Record], list[str]]:
    """Return the records of the files, and the warnings about other lines after showing these."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = selected(args.results, args.label, args.where)
    for each in caught:
        warnings.warn(each.message, stacklevel=2)
    return records, [str(each.message) for each in caught]
