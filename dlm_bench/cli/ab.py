"""`ab`: measure two revisions alternately on this machine and compare them."""

import argparse
import sys
from pathlib import Path

from dlm_bench.cli.verdicts import check_options, print_report
from dlm_bench.compare.ab.checkouts import checkouts
from dlm_bench.compare.ab.comparison import comparison_of, matched_points
from dlm_bench.compare.ab.rounds import ABRun, run_ab
from dlm_bench.compare.ab.sides import Side
from dlm_bench.results.store import append_record, check_writable
from dlm_bench.sweep.file import find_sweep


def ab(args: argparse.Namespace) -> int:
    """Measure two revisions alternately and compare them; 1 if head has a regression."""
    threshold, budget = args.threshold, args.budget
    check_options(args)

    outputs = [args.output / f"{name}.jsonl" for name in ("base", "head")] if args.output else []
    for output in outputs:
        check_writable(output)

    kept = [0, 0]

    def after_round(run: ABRun) -> None:
        for which, output in enumerate(outputs):
            for record in run.records[which][kept[which] :]:
                append_record(output, record)
            kept[which] = len(run.records[which])
        open_points = len(run.test.undecided)
        print(
            f"round {run.rounds}: {open_points} of {len(run.test.verdicts)} points "
            f"undecided after {run.seconds:.0f} of {budget:.0f} s",
            file=sys.stderr,
        )

    with checkouts(args.base, args.head, Path.cwd()) as both:
        sweep = find_sweep(args.sweep)
        sides = Side(both[0]), Side(both[1])
        matched = matched_points(sides, sweep)
        run = run_ab(
            sides,
            matched.pairs,
            budget=budget,
            threshold=threshold,
            false_alarms=args.false_alarms,
            suite_threshold=args.suite_threshold,
            after_round=after_round,
        )
        report = comparison_of(run, matched, both, threshold)
    return print_report(report, args)
