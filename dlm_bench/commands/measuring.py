"""Measure: one point (`run`) or many (`sweep`)."""

import argparse
import sys
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dlm_bench.commands.arguments import (
    Commands,
    add_cuda,
    add_prompt_len,
    add_random_weights,
    add_sampler_options,
    forced_kernels,
    sampler_options,
    warn_of_random_acceptance,
)
from dlm_bench.commands.launching import add_launcher, check_launcher
from dlm_bench.errors import ConfigError, DlmBenchError, first_line, seconds_of, share_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlm_bench.execute import Executor
    from dlm_bench.plan import Plan
    from dlm_bench.protocols import Model
    from dlm_bench.results.record import Record
    from dlm_bench.sweep import Sweep


def add(subparsers: Commands) -> None:
    """Add the grammar of these commands."""
    parser = subparsers.add_parser(
        "run", help="measure one point", description="Measure one point."
    )
    parser.add_argument(
        "backbone", help="a backbone (see dlm-bench list), or hf:FOLDER (docs/plugins.md)"
    )
    parser.add_argument("sampler", help="a sampler (see dlm-bench list)")
    parser.add_argument("-L", "--length", type=int, required=True, help="tokens to generate")
    parser.add_argument("--size", help="model size (default: small, or the checkpoint's)")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="trained weights (dlm_bench.save_checkpoint), instead of random ones",
    )
    add_random_weights(parser)
    add_sampler_options(parser)
    parser.add_argument("--batch", type=int, default=1, help="sequences at once (default: 1)")
    add_prompt_len(parser, "timed apart")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--dtype", help="default: float32 on a CPU, else bfloat16")
    parser.add_argument(
        "--mode",
        default="exact",
        help="exact: whole decodes; sampled: a few passes, integrated; auto: exact where "
        "that takes at most --max-seconds",
    )
    parser.add_argument("--warmup", type=int, default=3, help="untimed runs (default: 3)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs (default: 5)")
    parser.add_argument(
        "--tolerance",
        type=partial(share_of, "--tolerance"),
        default="1%",
        metavar="SHARE",
        help="sampled: relative error to reach, as 1%% or 0.01 (default: 1%%)",
    )
    parser.add_argument(
        "--max-seconds",
        type=partial(seconds_of, "--max-seconds"),
        default="30s",
        metavar="TIME",
        help="sampled: give up on --tolerance after this long, as 30s or 2m (default: 30s)",
    )
    parser.add_argument(
        "--nodes", type=int, default=9, help="sampled: most places timed along a schedule (9)"
    )
    add_cuda(parser)
    parser.add_argument("--seed", type=int, default=0, help="of weights and tokens (default: 0)")
    parser.add_argument("--output", type=Path, metavar="FILE.jsonl", help="append the record here")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
    parser.set_defaults(command=run)

    parser = subparsers.add_parser(
        "sweep", help="measure the points of a TOML file", description="Measure many points."
    )
    parser.add_argument("file", type=Path, metavar="FILE.toml", help="see bench/sweeps/")
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
    parser.add_argument("--dry-run", action="store_true", help="print the points and their NFE")
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


def run(args: argparse.Namespace) -> int:
    """Measure one point in this process and print its record; 3 if memory ran out."""
    from dlm_bench.jobs import is_out_of_memory

    try:
        return _measure(args)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(f"dlm-bench: out of memory: {first_line(error)}", file=sys.stderr)
        return 3


def _measure(args: argparse.Namespace) -> int:
    from dlm_bench.expand import origins_of
    from dlm_bench.models.place import default_dtype, find_place
    from dlm_bench.results.identity import identity
    from dlm_bench.results.store import append_record, check_writable
    from dlm_bench.samplers import build_sampler
    from dlm_bench.timing.runner import measure

    sampler = build_sampler(args.sampler, **sampler_options(args))
    device = find_place(args.device)
    dtype = default_dtype(device.type) if args.dtype is None else args.dtype
    # What is wrong with these is known before the weights are drawn.
    sampler.check_timed(args.length, args.prompt_len)
    sampler.check_backbone(args.backbone, args.length, args.prompt_len)
    if args.output:
        check_writable(args.output)
    forced = forced_kernels(args)
    model = model_of(args, dtype, forced)
    if not sampler.known and not model.checkpoint:
        warn_of_random_acceptance(str(sampler.options()["accept"]))
    settings = {
        name: getattr(args, name)
        for name in ("mode", "warmup", "repeats", "nodes", "tolerance", "max_seconds", "seed")
    }
    settings["graphs"] = "auto" if args.graphs is None else args.graphs
    place = {"batch": args.batch, "prompt_len": args.prompt_len}
    record = measure(model, sampler, args.length, **place, **settings)
    # A sweep that asks for the same finds this record when it resumes.
    asked = settings | {"kernels": forced}
    if args.checkpoint is not None:  # no sweep asks for that
        asked["checkpoint"] = model.checkpoint
    origin = origins_of(args.backbone, args.sampler, args.random_weights)
    record.identity = identity(record.point, asked, record.environment["hardware"], origin)
    try:
        if args.output:
            append_record(args.output, record)
    finally:  # what was measured is shown even where it cannot be kept
        _show(record, args.json)
    return 0


def _show(record: "Record", as_json: bool) -> None:
    if as_json:
        print(record.model_dump_json())
    else:
        from dlm_bench.terminal import print_record

        print_record(record)


def model_of(args: argparse.Namespace, dtype: str, forced: dict[str, str]) -> "Model":
    """The model with random weights, or those of --checkpoint if it is what was asked for."""
    from dlm_bench.models.checkpoint import checkpoint_config, load_checkpoint
    from dlm_bench.models.factory import build_model

    if args.checkpoint is None:
        return build_model(
            args.backbone,
            args.size,
            args.device,
            dtype,
            args.seed,
            kernels=forced,
            random_weights=args.random_weights,
        )
    config = checkpoint_config(args.checkpoint)
    for name, asked in (("backbone", args.backbone), ("size", args.size)):
        found = getattr(config, name)
        if asked not in (None, found):
            raise ConfigError(
                f"{name}: {asked!r} is not allowed; checkpoint {str(args.checkpoint)!r} holds "
                f"{found!r}"
            )
    return load_checkpoint(args.checkpoint, args.device, dtype, kernels=forced)


def sweep(args: argparse.Namespace) -> int:
    """Measure the points of a file in worker processes; 3 if any has no ok record."""
    from dlm_bench.commands.launching import conclude, sweep_on_slurm
    from dlm_bench.execute import Executor
    from dlm_bench.launch.fleet import gpu_places
    from dlm_bench.plan import make_plan
    from dlm_bench.results.store import check_writable
    from dlm_bench.sweep import load_sweep
    from dlm_bench.terminal import print_found, print_plan

    check_launcher(args)
    if args.retry_failed and not args.resume:
        raise ConfigError("--retry-failed: is not allowed without --resume")
    names = ("device", "mode", "graphs", "timeout", "memory_limit")
    overrides = {name: getattr(args, name) for name in names} | {"kernels": forced_kernels(args)}
    budget = args.budget
    if args.launcher == "slurm":
        return sweep_on_slurm(args, overrides)
    if args.dry_run and not args.resume and budget is None and args.launcher is None:
        print_plan(load_sweep(args.file, **overrides))
        return 0
    with Executor() as executor:
        # This process stays without torch, whose memory and threads belong to the workers.
        plan = (
            make_plan(args.file, **overrides)
            if args.dry_run
            else executor.plan(args.file, **overrides)
        )
        if budget is not None and plan.sweep.measuring.mode == "exact":
            raise ConfigError("--budget: is not allowed with mode 'exact'; only sampling can stop")
        places = gpu_places(plan) if args.launcher == "local" else []
        output = args.output or Path("results") / f"{plan.sweep.name}.jsonl"
        found = plan.found_in(output) if args.resume else {}
        if args.dry_run:
            print_plan(plan.sweep)
        if args.resume:
            print_found(plan, found, output, args.retry_failed)
        if args.retry_failed:
            found = {key: record for key, record in found.items() if record.status == "ok"}
        if args.dry_run:
            if budget is not None:
                _predict(executor, plan, found, budget)
            return 0
        _warn_of_random_weights(plan.sweep)
        check_writable(output)
        records, finished = _run_all(executor, plan, [*found.values()], output, budget, places)
    if not finished:
        appended = f"{len(records) - len(found)} records were appended to {output}"
        print(f"dlm-bench: interrupted; {appended}", file=sys.stderr)
        return 130
    return conclude(plan, records, len(found), output)


def _warn_of_random_weights(sweep: "Sweep") -> None:
    measuring = sweep.measuring
    trained = set() if measuring.random_weights else measuring.folders.keys()
    for point in sweep.points:
        if "accept" in point.options and point.backbone not in trained:
            warn_of_random_acceptance(str(point.options["accept"]))
            return


def _run_all(
    executor: "Executor",
    plan: "Plan",
    found: "list[Record]",
    output: Path,
    budget: float | None,
    places: "list[dict[str, str]]",
) -> "tuple[list[Record], bool]":
    """The records found and those of what was still to do, and whether all of it was done: in a
    worker at each of these places, or in one if there are none."""
    from dlm_bench.budget import run_within
    from dlm_bench.launch.fleet import run_on
    from dlm_bench.progress import SweepProgress
    from dlm_bench.results.store import append_record
    from dlm_bench.terminal import print_throughput

    records = found[:]
    try:
        done = {record.identity for record in found}
        with SweepProgress(plan, done, workers=len(places) or 1) as progress, ExitStack() as ending:
            if places:
                executor.stop()  # its worker, which made the plan, holds a GPU
                fleet = [executor.at(place) for place in places]
                results: Iterator[tuple[int, Record, float]] = ending.enter_context(
                    closing(run_on(fleet, plan, found, progress.begin))
                )
            elif budget is None:
                results = executor.run(plan, found, progress.begin)
            else:
                results = run_within(budget, executor, plan, found, progress.begin)
            for index, record, seconds in results:
                # In this order: an interrupt comes most likely while the disk is waited for, when
                # the record is in the file.
                records.append(record)
                append_record(output, record)
                progress.end(index, record, seconds)
    except KeyboardInterrupt:
        return records, False
    except DlmBenchError:  # such as a full disk: what was measured is shown all the same
        if len(records) > len(found):
            print_throughput(records)
        raise
    return records, True


def _predict(executor: "Executor", plan: "Plan", found: "dict[str, Record]", budget: float) -> None:
    """Look at each line of a sweep once and say what its points will take."""
    from dlm_bench.budget import predict
    from dlm_bench.progress import duration

    told = predict(executor, plan, found)
    print(
        f"{duration(told.least)} to {duration(told.most)} without a budget, by one round of the "
        f"shortest point of {told.lines} lines: as points are within the tolerance at once, or "
        f"sampled for all of max_seconds; the budget is {duration(budget)}"
    )
