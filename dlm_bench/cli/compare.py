"""`compare`: find the points slower in a results file than in another."""

import argparse

from dlm_bench.cli.verdicts import check_format, print_report
from dlm_bench.compare.match import compare_files


def compare(args: argparse.Namespace) -> int:
    """Compare two results files; 1 if head has a regression."""
    check_format(args.format)

    report = compare_files(
        args.base,
        args.head,
        threshold=args.threshold,
        run_spread=args.run_spread,
        allow_different_environment=args.allow_different_environment,
    )
    return print_report(report, args)
