"""`import`: turn the results of other engines' benchmarks into records."""

import argparse
import dataclasses

from dlm_bench.errors import counted
from dlm_bench.results.imported import Asked, imported
from dlm_bench.results.store import append_record, check_writable


def import_results(args: argparse.Namespace) -> int:
    """Append the records of all files, once all are read."""
    names = [field.name for field in dataclasses.fields(Asked)]
    asked = Asked(**{name: getattr(args, name) for name in names})
    records = [record for path in args.files for record in imported(path, asked)]
    check_writable(args.output)
    for record in records:
        append_record(args.output, record)
        speed = record.tokens_per_second
        told = record.message if speed is None else f"{speed:,.1f} tokens/s"
        print(f"{record.point.describe()}: {told}")
    print(f"{counted(len(records), 'record')} appended to {args.output}")
    return 0
