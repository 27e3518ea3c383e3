"""`sweep`: measure the points of a file."""

import argparse
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from dlm_bench.cli.arguments import forced_kernels, settings_of
from dlm_bench.cli.conditions import clocks_locked, conditions_of
from dlm_bench.cli.sweep_dry_run import check_budget, dry_run
from dlm_bench.cli.sweep_results import (
    conclude,
    find_records,
    print_throughput,
    warn_of_random_weights,
)
from dlm_bench.cli.sweep_slurm import sweep_on_slurm
from dlm_bench.errors import (
    MAX_RUNS,
    MAX_SEED,
    ConfigError,
    DlmBenchError,
    check_int,
    unknown,
)
from dlm_bench.results.claims import Claims
from dlm_bench.results.record import Record
from dlm_bench.results.store import check_writable, size_of
from dlm_bench.signals import at_interrupt
from dlm_bench.sweep.budget import run_within
from dlm_bench.sweep.file import find_sweep
from dlm_bench.sweep.launch.multi_gpu import gpu_environments, run_on
from dlm_bench.sweep.launch.slurm import slurm_options
from dlm_bench.sweep.plan import Plan
from dlm_bench.sweep.progress import SweepProgress
from dlm_bench.sweep.run import Executor
from dlm_bench.sweep.sharing import Result, Shared, run_shared

LAUNCHERS = ("local", "slurm")


def sweep(args: argparse.Namespace) -> int:
    """Measure the points of a file in worker processes; 3 if any has no ok record."""
    _check_together(args)
    conditions = conditions_of(args)
    slurm = slurm_options(args.slurm)
    names = ("device", "mode", "graphs", "timeout", "memory_limit")
    overrides = {name: getattr(args, name) for name in names} | {"kernels": forced_kernels(args)}
    overrides |= {"only": args.only, "settings": settings_of(args.set)}
    if args.kernel_check is not None:
        overrides["kernel_check"] = str(args.kernel_check.absolute())
    args.file = find_sweep(args.file)
    if args.dry_run:
        return dry_run(args, overrides)
    if args.launcher == "slurm":
        return sweep_on_slurm(args, slurm, overrides)
    # A record that another sweep writes while this one starts is of the same study.
    start = None if args.output is None else size_of(args.output)
    with ExitStack() as ending:
        ending.enter_context(conditions.for_workers())
        executor = ending.enter_context(Executor())
        # This process stays without torch, whose memory and threads belong to the workers.
        plan = executor.plan(args.file, **overrides)
        check_budget(args, plan)
        ending.enter_context(clocks_locked(args, plan.sweep.points[0].device))
        if args.lock_clocks is not None:
            executor.stop()  # its worker began before the lock, which records are to tell
        places = gpu_environments(plan) if args.launcher == "local" else []
        output = args.output or Path("results") / f"{plan.sweep.name}.jsonl"
        start = size_of(output) if start is None else start
        warn_of_random_weights(plan.sweep)
        check_writable(output)
        plans = [plan.of_run(run, args.shuffle) for run in range(1, args.runs + 1)]
        found = find_records(args, plans, output)
        records, shares = found[:], list[Shared]()
        end = None if args.budget is None else time.monotonic() + args.budget
        kept = at_interrupt(lambda: f"{_appended(shares)} records were appended to {output}")
        with kept, Claims(output) as claims:
            for each in plans:
                shares.append(Shared(each, output, start, claims, found))
                budget = None if end is None else _share(end, args.runs + 1 - each.run)
                _run_all(executor, each, records, shares[-1], budget, places, args.runs)
                executor.stop()  # the next run has fresh workers
    return conclude(plans, records, _appended(shares), output)


def _appended(shares: list[Shared]) -> int:
    return sum(shared.appended for shared in shares)


def _share(end: float, runs: int) -> float:
    """Return the seconds for a run, the first of `runs` that are left until `end`."""
    return (end - time.monotonic()) / runs


def _check_launcher(args: argparse.Namespace) -> None:
    """Raise ConfigError for a wrong combination of arguments."""
    if args.launcher is not None and args.launcher not in LAUNCHERS:
        raise unknown("--launcher", args.launcher, LAUNCHERS)
    if args.launcher is not None and args.budget is not None:
        raise ConfigError(
            "--budget: is not allowed with --launcher; a budget schedules the points of a single "
            "worker"
        )
    if args.points_per_job is not None and args.points_per_job < 1:
        raise ConfigError(
            f"--points-per-job: {args.points_per_job} is not allowed; must be an integer >= 1"
        )
    if args.launcher == "slurm" and args.kernel_check is not None:
        # Which kernel stands in is known on the GPU, and the jobs are made without one.
        raise ConfigError(
            "--kernel-check: is not allowed with --launcher slurm; choose the kernels of the jobs "
            "by --kernel OPERATION=NAME"
        )
    asked = (args.require, args.retry_throttled, args.cooldown, args.lock_clocks)
    if args.launcher == "slurm" and any(asked):
        raise ConfigError(
            "--require, --retry-throttled, --cooldown and --lock-clocks are not allowed with "
            "--launcher slurm; --slurm setup=COMMAND runs a command in each job"
        )
    if args.launcher is not None and args.shuffle is not None:
        raise ConfigError(
            "--shuffle: is not allowed with --launcher, which has an order for several workers"
        )
    given = {
        "--slurm": args.slurm,
        "--points-per-job": args.points_per_job,
        "--no-wait": args.no_wait,
    }
    for name, value in given.items():
        if value and args.launcher != "slurm":
            raise ConfigError(f"{name}: is not allowed without --launcher slurm")


def _check_together(args: argparse.Namespace) -> None:
    """Raise ConfigError for a wrong combination of arguments."""
    _check_launcher(args)
    if args.retry_failed and not args.resume:
        raise ConfigError("--retry-failed: is not allowed without --resume")
    if args.hardware is not None and not args.dry_run:
        raise ConfigError("--hardware: is not allowed without --dry-run")
    check_int("--runs", args.runs, minimum=1, maximum=MAX_RUNS)
    if args.shuffle is not None:
        check_int("--shuffle", args.shuffle, minimum=0, maximum=MAX_SEED)


def _run_all(
    executor: Executor,
    plan: Plan,
    records: list[Record],
    shared: Shared,
    budget: float | None,
    places: list[dict[str, str]],
    runs: int,
) -> None:
    """Measure the points without a record in `records`, in a worker on each of these GPUs, or in a
    single worker without GPUs, and add their records."""
    done, before = {record.identity for record in records}, len(records)

    try:
        workers = len(places) or 1
        progress = SweepProgress(plan, done, workers, budget, runs)
        with progress, ExitStack() as ending:
            run = _way_to_run(executor, plan, records, shared, progress, budget, places)

            def wait(count: int) -> None:
                progress.tell(f"waiting for {count} points that another sweep of this file is at")

            results = ending.enter_context(closing(run_shared(run, shared, wait)))
            for (index, record, seconds), own in results:
                # In this order: an interrupt comes most likely while the disk is waited for, when
                # the record is in the file.
                records.append(record)
                if own and not places:  # of several workers each writes its own
                    shared.append(index, record)
                progress.end(index, record, seconds)
    except DlmBenchError:  # such as a full disk: what was measured is shown all the same
        if len(records) > before:
            print_throughput(records)
        raise


def _way_to_run(
    executor: Executor,
    plan: Plan,
    records: list[Record],
    shared: Shared,
    progress: SweepProgress,
    budget: float | None,
    places: list[dict[str, str]],
) -> Callable[[], Generator[Result, None, None]]:
    """Return the function to measure the points without a record in `records`, a growing list."""
    if places:
        executor.stop()  # its worker, which made the plan, holds a GPU

        def on_all() -> Generator[Result, None, None]:
            # At each call others: their end is for good.
            fleet = [executor.at(place) for place in places]
            return run_on(fleet, plan, records, progress.begin, shared.claim, shared.append)

        return on_all
    if budget is None:
        return partial(executor.run, plan, records, progress.begin, wanted=shared.claim)
    begun = time.monotonic()

    def within_budget() -> Generator[Result, None, None]:
        left = budget - (time.monotonic() - begun)
        return run_within(
            left,
            executor,
            plan,
            records,
            progress.begin,
            wanted=shared.claim,
            wanted_again=shared.claim_again,
            improve=progress.improve,
        )

    return within_budget
