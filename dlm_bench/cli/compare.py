"""`compare`: find the points slower in results files than in another."""

import argparse

from dlm_bench.cli.verdicts import check_options, print_reports
from dlm_bench.compare.match import compare_all


def compare(args: argparse.Namespace) -> int:
    """Compare results files with a base; 1 if a head has a regression."""
    check_options(args, len(args.head))
    reports = compare_all(
        args.base,
        args.head,
        threshold=args.threshold,
        false_alarms=args.false_alarms,
        suite_threshold=args.suite_threshold,
        run_spread=args.run_spread,
        allow_different_environment=args.allow_different_environment,
    )
    return print_reports(reports, args)
