"""`ab`: measure two revisions, environments or settings alternately and compare them."""

import argparse
import os
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from dlm_bench.cli.arguments import settings_of
from dlm_bench.cli.verdicts import check_options, print_report
from dlm_bench.compare.ab.checkouts import Checkout, checkouts, installed
from dlm_bench.compare.ab.comparison import comparison_of, matched_points
from dlm_bench.compare.ab.rounds import SIDES, ABRun, run_ab
from dlm_bench.compare.ab.sides import MEASUREMENT_SETTINGS, Side
from dlm_bench.errors import ConfigError
from dlm_bench.results.store import append_record, check_writable
from dlm_bench.sweep.file import find_sweep
from dlm_bench.sweep.worker.process import WORKER


def ab(args: argparse.Namespace) -> int:
    """Measure two revisions alternately and compare them; 1 if head has a regression."""
    threshold, budget = args.threshold, args.budget
    check_options(args)
    commands = [_command(args, name) for name in SIDES]
    overrides = [_overrides(args, name) for name in SIDES]
    sources = _sources(args, commands[0] != commands[1] or overrides[0] != overrides[1])

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

    with sources as plain:
        sweep = find_sweep(args.sweep)
        both = _labelled(plain[0], args), _labelled(plain[1], args)
        sides = (
            Side(both[0], commands[0], overrides[0]),
            Side(both[1], commands[1], overrides[1]),
        )
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


def _sources(
    args: argparse.Namespace, differ: bool
) -> AbstractContextManager[tuple[Checkout, Checkout]]:
    """Return the checkouts asked for; without a revision or repository this dlm-bench, twice."""
    if args.base is None and args.head is None and not differ:
        raise ConfigError(
            "--base: base and head are the same; give --base REV, or another --base-python or "
            "--base-set than head's"
        )
    if args.base is None and args.head is None and args.repo is None:
        return nullcontext(installed())
    return checkouts(args.base, args.head, args.repo or Path.cwd())


def _command(args: argparse.Namespace, name: str) -> tuple[str, ...]:
    """Return the command of a side's worker. Raises ConfigError for a Python that is none."""
    python = getattr(args, f"{name}_python")
    if python is None:
        return WORKER
    found = shutil.which(os.path.expanduser(python))
    if found is None:
        raise ConfigError(f"--{name}-python: {python!r} is no program; give the path of a Python")
    return (os.path.abspath(found), *WORKER[1:])


def _overrides(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Return the settings of a side as overrides of the sweep file. Raises ConfigError."""
    option, kernels, plain = f"--{name}-set", {}, []
    for text in getattr(args, f"{name}_set"):
        key, _, value = text.partition("=")
        if key.startswith("kernels.") and value:
            kernels[key.removeprefix("kernels.")] = value
        else:
            plain.append(text)
    settings = settings_of(plain, option)
    for key in settings.keys() & MEASUREMENT_SETTINGS | settings.keys() & {"repeats"}:
        raise ConfigError(f"{option}: {key} is not allowed; ab plans the repeats of both sides")
    found = {"settings": settings, "kernels": kernels}
    return {key: value for key, value in found.items() if value}


def _labelled(checkout: Checkout, args: argparse.Namespace) -> Checkout:
    python = getattr(args, f"{checkout.name}_python")
    more = [*([python] if python else []), *getattr(args, f"{checkout.name}_set")]
    return replace(checkout, label=", ".join([checkout.label, *more]))
