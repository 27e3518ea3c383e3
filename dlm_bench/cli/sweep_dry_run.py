"""`sweep --dry-run`: the points and the time of a sweep, nothing measured."""

import argparse
from pathlib import Path
from typing import Any

from dlm_bench.cli.sweep_results import find_records
from dlm_bench.cli.terminal import print_grid
from dlm_bench.cost.flops import deciding
from dlm_bench.cost.hardware import Hardware
from dlm_bench.cost.roofline import find_hardware
from dlm_bench.errors import ConfigError, counted
from dlm_bench.results.labels import value_text
from dlm_bench.results.record import ORDINARY
from dlm_bench.results.table import MISSING
from dlm_bench.samplers import build_sampler
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape, run_lengths
from dlm_bench.sweep.budget import Prediction, predict
from dlm_bench.sweep.cost import sweep_seconds_text
from dlm_bench.sweep.launch.task import parts_of
from dlm_bench.sweep.load import Sweep, has_device, load_sweep
from dlm_bench.sweep.memory import gigabytes, lack_of_memory, point_memory
from dlm_bench.sweep.plan import Plan
from dlm_bench.sweep.progress import duration
from dlm_bench.sweep.run import Executor
from dlm_bench.timing.host import machine_memory


def dry_run(args: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Print the points, and the predictions asked for."""
    on_slurm = args.launcher == "slurm"
    # The machine that submits may have neither the GPU nor the kernels that the jobs find.
    here = not on_slurm and has_device(
        args.file, args.device or overrides["settings"].get("device")
    )
    sweep = load_sweep(args.file, on_this_machine=here, **overrides)
    # Before anything is printed.
    hardware = None if args.hardware is None else find_hardware(args.hardware)
    _print_plan(sweep, _memory_there(sweep, hardware, here), args.runs)
    if on_slurm:
        print("kernels, graphs and limits are checked by the jobs")
    elif not here:
        print(
            f"device {sweep.points[0].device!r} is not here: its kernels, graphs and limits were "
            "not checked"
        )
    elif sweep.memory_limit is not None:
        print("no worker was started: what it needs of the memory limit by itself shows in a run")
    if not (on_slurm or args.resume or args.budget or hardware):
        return 0
    from dlm_bench.sweep.planning import make_plan  # with torch, which takes seconds

    plan = make_plan(args.file, on_this_machine=here, **overrides)
    check_budget(args, plan)
    output = args.output or Path("results") / f"{plan.sweep.name}.jsonl"
    plans = [plan.of_run(run) for run in range(1, args.runs + 1)]
    found = find_records(args, plans, output) if args.resume else []
    done = {each.key_of(record) for each in plans for record in found}
    left_of_runs = [
        [i for i, name in enumerate(each.identities()) if name not in done] for each in plans
    ]
    left = [index for each in left_of_runs for index in each]
    if on_slurm:
        jobs = sum(len(parts_of(plan, each, args.points_per_job)) for each in left_of_runs)
        print(f"{counted(jobs, 'job')} for {counted(len(left), 'point')}")
    if hardware is not None:
        print(sweep_seconds_text(plan.part(left), hardware))
    if args.budget is not None:
        if not here:
            raise ConfigError("--budget: with --dry-run it measures, and needs the device here")
        with Executor() as executor:
            there = {name: each for p in plans for name, each in p.best_of(found).items()}
            estimate = predict(executor, plan, there, runs=args.runs)
            _print_prediction(estimate, args.budget)
    return 0


def check_budget(args: argparse.Namespace, plan: Plan) -> None:
    """Raise ConfigError for a budget of a sweep without sampling."""
    if args.budget is not None and plan.sweep.measuring.mode == "exact":
        raise ConfigError("--budget: is not allowed with mode 'exact'; only sampling can stop")


def _print_prediction(estimate: Prediction, budget: float) -> None:
    """Print the predicted time of a sweep."""
    print(
        f"estimated time: {duration(estimate.least)} (all points are within the tolerance at "
        f"once) to {duration(estimate.most)} (all take max_seconds); budget: {duration(budget)}; "
        f"by a pilot run of {estimate.series} series"
    )


def _memory_there(sweep: Sweep, hardware: Hardware | None, here: bool) -> int | None:
    """Return the bytes of the hardware asked for, or of this machine's device; None if unknown."""
    if hardware is not None:
        return int(hardware.memory) or None
    if not here:
        return None
    if sweep.points[0].device == "cpu":  # without torch
        found = (machine_memory(), sweep.memory_limit)
        return min((size for size in found if size is not None), default=None)
    from dlm_bench.sweep.planning import device_memory  # with torch, which takes seconds

    return device_memory(sweep)


def _passes_of(sampler: Sampler, shape: DecodeShape, seed: int) -> tuple[str, int]:
    """Return the NFE of a decode as the plan shows it, and its query tokens: those expected where
    the seed decides."""
    passes = run_lengths(shape.length, sampler.planned(shape, seed))
    expected = sampler.expected_passes(shape)
    if expected is None:
        return f"{passes.forward_passes:,}", passes.query_tokens
    query_tokens = round(passes.query_tokens / passes.forward_passes * expected)
    return f"{expected:,.1f} expected", query_tokens


def _print_plan(sweep: Sweep, memory: int | None, runs: int) -> None:
    """Print the points of a sweep with their NFE and least memory; none of them runs."""
    titles = ["backbone", "size", "dtype", "weights", "seed", "sampler", "options"]
    words = len(titles)
    titles += ["length", "prompt", "batch", "NFE", "token passes", "GB"]
    rows, too_large = [], list[str]()
    counts: dict[object, tuple[str, int]] = {}
    for point in sweep.points:
        sampler = build_sampler(point.sampler, **sweep.options_of(point))
        shape = DecodeShape(point.length, point.prompt_len, point.batch)
        decode = deciding(sampler, shape, sweep.measuring.seed_of(point))
        key = (sampler, *decode)
        if key not in counts:  # all backbones share them, and the passes take long to list
            counts[key] = _passes_of(sampler, *decode)
        forward_passes, query_tokens = counts[key]
        needed = point_memory(sweep, point)
        if lack_of_memory(needed, memory):
            too_large.append(point.describe())
        most = "" if sampler.is_fixed and not point.stop_at_eos else "up to "
        short = {"tokens_per_step": "p", "block_size": "B"}
        options = (item for item in point.options.items() if item not in ORDINARY)
        of_file = f" of {point.prompts.partition('@')[0]}" if point.prompts else ""
        rows.append(
            [
                point.backbone,
                point.size,
                point.dtype,
                point.weights or "random",
                "" if point.seed is None else str(point.seed),
                point.sampler,
                " ".join(f"{short.get(name, name)}={value_text(value)}" for name, value in options),
                f"{point.length:,}",
                f"{point.prompt_len:,}{of_file}",
                f"{point.batch:,}",
                f"{most}{forward_passes}",
                f"{most}{query_tokens:,}",
                MISSING if needed is None else gigabytes(needed.total),
            ]
        )
    common = {
        title: rows[0][column]
        for column, title in enumerate(titles[:-3])
        if title != "length" and len({row[column] for row in rows}) == 1
    }
    kept = [column for column, title in enumerate(titles) if title not in common]
    usual = {"prompt": "0", "batch": "1", "options": "", "weights": "random", "seed": ""}
    shared = [
        f"{title} {text}"
        for title, text in common.items()
        if title != "dtype" and usual.get(title) != text
    ]
    shared += [common["dtype"]] if "dtype" in common else []
    print(f"{sweep.name}: {', '.join([*shared, sweep.points[0].device])}")
    cells = [[row[column] for column in kept] for row in (titles, *rows)]
    print_grid(cells[0], cells[1:], sum(column < words for column in kept))
    times = f" in each of {runs} runs" if runs > 1 else ""
    points = f"{counted(len(sweep.points), 'point')}{times}"
    print(f"{points}, {sweep.measuring.mode}; nothing is recorded")
    print("GB: the least memory of weights, caches and activations")
    if too_large and memory is not None:
        print(
            f"{counted(len(too_large), 'point')} cannot fit in {gigabytes(memory)} GB and will be "
            "skipped"
        )
