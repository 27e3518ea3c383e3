"""`sweep --dry-run`: the points of a sweep and what they take, none of them measured."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlm_bench.cli.sweep_results import find_records
from dlm_bench.errors import ConfigError, counted

if TYPE_CHECKING:
    from dlm_bench.cost.hardware import Hardware
    from dlm_bench.results.record import Record
    from dlm_bench.sweep.plan import Plan
    from dlm_bench.sweep.run import Executor


def dry_run(args: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Print the points, and what is asked for besides."""
    from dlm_bench.cli.terminal import print_plan
    from dlm_bench.sweep.load import device_is_here, load_sweep

    on_slurm = args.launcher == "slurm"
    # The machine that submits may have neither the GPU nor the kernels that the jobs find.
    here = not on_slurm and device_is_here(args.file, args.device)
    sweep = load_sweep(args.file, here=here, **overrides)
    hardware = _hardware(args)  # before anything is printed
    print_plan(sweep)
    if on_slurm:
        print("kernels, graphs and limits are checked by the jobs")
    elif not here:
        print(
            f"device {sweep.points[0].device!r} is not here: its kernels, graphs and limits were "
            "not checked"
        )
    elif sweep.memory_limit is not None:
        print("the memory limit was not checked: a worker says what it needs by itself")
    if not (on_slurm or args.resume or args.budget or hardware):
        return 0
    from dlm_bench.sweep.launch.task import parts_of
    from dlm_bench.sweep.plan import make_plan  # with torch, which takes seconds
    from dlm_bench.sweep.run import Executor

    plan = make_plan(args.file, here=here, **overrides)
    check_budget(args, plan)
    output = args.output or Path("results") / f"{plan.sweep.name}.jsonl"
    found = find_records(args, plan, output) if args.resume else {}
    left = [i for i, name in enumerate(plan.identities()) if name not in found]
    if on_slurm:
        jobs = len(parts_of(plan, left, args.points_per_job))
        print(f"{counted(jobs, 'job')} for {counted(len(left), 'point')}")
    if hardware is not None:
        from dlm_bench.sweep.cost import sweep_seconds_text

        print(sweep_seconds_text(plan.part(left), hardware))
    if args.budget is not None:
        if not here:
            raise ConfigError("--budget: with --dry-run it measures, and needs the device here")
        with Executor() as executor:
            _predict(executor, plan, found, args.budget)
    return 0


def _hardware(args: argparse.Namespace) -> "Hardware | None":
    if args.hardware is None:
        return None
    from dlm_bench.cost.roofline import find_hardware

    return find_hardware(args.hardware)


def check_budget(args: argparse.Namespace, plan: "Plan") -> None:
    """Raise ConfigError for a budget of a sweep without sampling."""
    if args.budget is not None and plan.sweep.measuring.mode == "exact":
        raise ConfigError("--budget: is not allowed with mode 'exact'; only sampling can stop")


def _predict(executor: "Executor", plan: "Plan", found: "dict[str, Record]", budget: float) -> None:
    """Measure each line of a sweep once and print what its points will take."""
    from dlm_bench.sweep.budget import predict
    from dlm_bench.sweep.progress import duration

    estimate = predict(executor, plan, found)
    print(
        f"estimated time: {duration(estimate.least)} (all points are within the tolerance at "
        f"once) to {duration(estimate.most)} (all take max_seconds); budget: {duration(budget)}; "
        f"by a pilot run of {counted(estimate.lines, 'group')}"
    )
