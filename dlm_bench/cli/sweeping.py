"""Measure many points (`sweep`)."""

import argparse
import sys
import time
import warnings
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlm_bench.cli.arguments import (
    Commands,
    add_cuda,
    forced_kernels,
    warn_of_random_acceptance,
)
from dlm_bench.cli.launching import add_launcher, check_launcher
from dlm_bench.errors import (
    ConfigError,
    DlmBenchError,
    LostPointWarning,
    TornLineWarning,
    seconds_of,
)
from dlm_bench.signals import exit_code

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from dlm_bench.results.record import Record
    from dlm_bench.sweep.load import Sweep
    from dlm_bench.sweep.plan import Plan
    from dlm_bench.sweep.progress import SweepProgress
    from dlm_bench.sweep.run import Executor
    from dlm_bench.sweep.sharing import Result, Shared


def add(subparsers: Commands) -> None:
    """Add the grammar of this command."""
    parser = subparsers.add_parser(
        "sweep", help="measure the points of a TOML file", description="Measure many points."
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE.toml", help="a file, or a shipped sweep such as quick"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.jsonl",
        help="append the records here (default: results/NAME.jsonl)",
    )
    parser.add_argument("--device", help="instead of the file's")
    parser.add_argument("--mode", help="exact, sampled or auto, instead of the file's")
    parser.add_argument(
        "--budget",
        type=partial(seconds_of, "--budget"),
        metavar="TIME",
        help="spend this long, as in 10m, where the stated error is largest; with --dry-run, "
        "predict what the sweep takes",
    )
    add_cuda(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print the points and their NFE; measure nothing"
    )
    parser.add_argument(
        "--hardware", metavar="GPU", help="with --dry-run: predict what the sweep takes on this GPU"
    )
    parser.add_argument(
        "--resume", action="store_true", help="run only what the output file does not hold"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="with --resume: run again what failed, too"
    )
    parser.add_argument(
        "--timeout",
        type=partial(seconds_of, "--timeout"),
        metavar="TIME",
        help="give a point up after this long, as 90s, 10m or 2h",
    )
    parser.add_argument(
        "--memory-limit", metavar="SIZE", help="memory a point may use on a CPU, as in 8GiB (Linux)"
    )
    add_launcher(parser)
    parser.set_defaults(command=sweep)


def sweep(args: argparse.Namespace) -> int:
    """Measure the points of a file in worker processes; 3 if any has no ok record."""
    from dlm_bench.cli.launching import conclude, sweep_on_slurm
    from dlm_bench.results.claims import Claims
    from dlm_bench.results.store import check_writable, size_of
    from dlm_bench.sweep.file import find_sweep
    from dlm_bench.sweep.launch.multi_gpu import gpu_places
    from dlm_bench.sweep.run import Executor
    from dlm_bench.sweep.sharing import Shared

    _check_together(args)
    names = ("device", "mode", "graphs", "timeout", "memory_limit")
    overrides = {name: getattr(args, name) for name in names} | {"kernels": forced_kernels(args)}
    if args.launcher == "slurm":
        return sweep_on_slurm(args, overrides)
    args.file = find_sweep(args.file)
    if args.dry_run:
        return _dry_run(args, overrides)
    # A record that another sweep writes while this one starts is of the same study.
    start = None if args.output is None else size_of(args.output)
    with Executor() as executor:
        # This process stays without torch, whose memory and threads belong to the workers.
        plan = executor.plan(args.file, **overrides)
        _check_budget(args, plan)
        places = gpu_places(plan) if args.launcher == "local" else []
        output = args.output or Path("results") / f"{plan.sweep.name}.jsonl"
        start = size_of(output) if start is None else start
        _warn_of_random_weights(plan.sweep)
        check_writable(output)
        found = [*_found(args, plan, output).values()]
        with Claims(output) as claims:
            shared = Shared(plan, output, start, claims, found)
            records, interrupt = _run_all(executor, plan, found, shared, args.budget, places)
    if interrupt is not None:
        appended = f"{shared.appended} records were appended to {output}"
        print(f"dlm-bench: interrupted; {appended}", file=sys.stderr)
        return exit_code(interrupt)
    return conclude(plan, records, shared.appended, output)


def _check_together(args: argparse.Namespace) -> None:
    """Raise ConfigError for arguments that do not go together."""
    check_launcher(args)
    if args.retry_failed and not args.resume:
        raise ConfigError("--retry-failed: is not allowed without --resume")
    if args.hardware is not None and not args.dry_run:
        raise ConfigError("--hardware: is not allowed without --dry-run")


def _warn_of_random_weights(sweep: "Sweep") -> None:
    measuring = sweep.measuring
    trained = set() if measuring.random_weights else measuring.folders.keys()
    for point in sweep.points:
        if "accept" in point.options and point.backbone not in trained:
            warn_of_random_acceptance(str(point.options["accept"]))
            return


def _check_budget(args: argparse.Namespace, plan: "Plan") -> None:
    if args.budget is not None and plan.sweep.measuring.mode == "exact":
        raise ConfigError("--budget: is not allowed with mode 'exact'; only sampling can stop")


def _found(args: argparse.Namespace, plan: "Plan", output: Path) -> "dict[str, Record]":
    """The records that count as done, after a line about what the results file holds."""
    from dlm_bench.cli.terminal import print_found
    from dlm_bench.sweep.resume import others_in

    records = _records_in(output) if output.is_file() else []
    found = plan.best_of(records)
    if not args.resume:
        if found:
            print(
                f"{len(found)} of {len(plan.sweep.points)} points are in {output} already and are "
                "measured again; --resume measures only what is not there"
            )
        return {}
    print_found(plan, found, output, args.retry_failed)
    for text in others_in(plan, records, found):
        print(text)
    if args.retry_failed:
        return {key: record for key, record in found.items() if record.status == "ok"}
    return found


def _records_in(output: Path) -> "list[Record]":
    """The records of a results file; a line that cannot be read costs nothing but its point, which
    is measured again."""
    from dlm_bench.results.store import read_records

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = read_records(output)
    for each in caught:
        if issubclass(each.category, LostPointWarning):
            warnings.warn(f"{each.message}; not taken for done", TornLineWarning, stacklevel=2)
        else:
            warnings.warn(str(each.message), each.category, stacklevel=2)
    return records


def _dry_run(args: argparse.Namespace, overrides: "dict[str, Any]") -> int:
    """Print the points, and what is asked for besides."""
    from dlm_bench.cli.terminal import print_plan
    from dlm_bench.sweep.load import device_is_here, load_sweep
    from dlm_bench.sweep.run import Executor

    here = device_is_here(args.file, args.device)
    sweep = load_sweep(args.file, here=here, **overrides)
    print_plan(sweep)
    if not here:
        print(
            f"device {sweep.points[0].device!r} is not here: its kernels, graphs and limits were "
            "not checked"
        )
    if not args.resume and args.budget is None and args.hardware is None:
        return 0
    from dlm_bench.sweep.plan import make_plan  # with torch, which takes seconds

    plan = make_plan(args.file, here=here, **overrides)
    _check_budget(args, plan)
    output = args.output or Path("results") / f"{plan.sweep.name}.jsonl"
    found = _found(args, plan, output) if args.resume else {}
    if args.hardware is not None:
        from dlm_bench.cost.roofline import find_hardware
        from dlm_bench.sweep.cost import sweep_seconds_text

        left = [i for i, name in enumerate(plan.identities()) if name not in found]
        print(sweep_seconds_text(plan.part(left), find_hardware(args.hardware)))
    if args.budget is not None:
        if not here:
            raise ConfigError("--budget: with --dry-run it measures, and needs the device here")
        with Executor() as executor:
            _predict(executor, plan, found, args.budget)
    return 0


def _run_all(
    executor: "Executor",
    plan: "Plan",
    found: "list[Record]",
    shared: "Shared",
    budget: float | None,
    places: "list[dict[str, str]]",
) -> "tuple[list[Record], KeyboardInterrupt | None]":
    """The records found and those of what was still to do, and what interrupted it: in a worker at
    each of these places, or in one if there are none."""
    from dlm_bench.cli.terminal import print_throughput
    from dlm_bench.sweep.progress import SweepProgress
    from dlm_bench.sweep.sharing import run_shared

    records = found[:]
    done = {record.identity for record in found}

    try:
        workers = len(places) or 1
        with SweepProgress(plan, done, workers, budget) as progress, ExitStack() as ending:
            run = _way_to_run(executor, plan, records, shared, progress, budget, places)

            def wait(count: int) -> None:
                progress.tell(f"waiting for {count} points that another sweep of this file is at")

            results = ending.enter_context(closing(run_shared(run, shared, wait)))
            for (index, record, seconds), own in results:
                # In this order: an interrupt comes most likely while the disk is waited for, when
                # the record is in the file.
                records.append(record)
                if own:
                    shared.append(index, record)
                progress.end(index, record, seconds)
    except KeyboardInterrupt as interrupt:
        return records, interrupt
    except DlmBenchError:  # such as a full disk: what was measured is shown all the same
        if len(records) > len(found):
            print_throughput(records)
        raise
    return records, None


def _way_to_run(
    executor: "Executor",
    plan: "Plan",
    records: "list[Record]",
    shared: "Shared",
    progress: "SweepProgress",
    budget: float | None,
    places: "list[dict[str, str]]",
) -> "Callable[[], Generator[Result, None, None]]":
    """What measures the points that have no record among these, which get more."""
    from dlm_bench.sweep.budget import run_within
    from dlm_bench.sweep.launch.multi_gpu import run_on

    if places:
        executor.stop()  # its worker, which made the plan, holds a GPU
        fleet = [executor.at(place) for place in places]
        return partial(run_on, fleet, plan, records, progress.begin, shared.free)
    if budget is None:
        return partial(executor.run, plan, records, progress.begin, wanted=shared.free)
    begun = time.monotonic()

    def within_budget() -> "Generator[Result, None, None]":
        left = budget - (time.monotonic() - begun)
        return run_within(
            left,
            executor,
            plan,
            records,
            progress.begin,
            wanted=shared.free,
            wanted_again=shared.free_again,
            improve=progress.improve,
        )

    return within_budget


def _predict(executor: "Executor", plan: "Plan", found: "dict[str, Record]", budget: float) -> None:
    """Look at each line of a sweep once and say what its points will take."""
    from dlm_bench.sweep.budget import predict
    from dlm_bench.sweep.progress import duration

    told = predict(executor, plan, found)
    print(
        f"{duration(told.least)} to {duration(told.most)} without a budget, by one round of the "
        f"shortest point of {told.lines} lines: as points are within the tolerance at once, or "
        f"sampled for all of max_seconds; the budget is {duration(budget)}"
    )
