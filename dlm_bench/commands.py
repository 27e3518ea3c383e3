"""What each command does. They are thin, and import torch only when they run."""

import argparse
import sys
from pathlib import Path

from dlm_bench.errors import ConfigError, first_line


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
    from dlm_bench.models.factory import build_model, default_dtype, parse_device
    from dlm_bench.results.identity import identity
    from dlm_bench.results.store import append_record, check_writable
    from dlm_bench.samplers import build_sampler
    from dlm_bench.timing.runner import measure

    sampler = build_sampler(args.sampler, **dict(map(_option, args.option)))
    sampler.check_backbone(args.backbone)
    dtype = default_dtype(parse_device(args.device)) if args.dtype is None else args.dtype
    sampler.schedule(args.length)  # a wrong length is known before the weights are drawn
    if args.output:
        check_writable(args.output)
    forced = _kernels(args)
    model = build_model(args.backbone, args.size, args.device, dtype, args.seed, kernels=forced)
    settings = {
        name: getattr(args, name) for name in ("mode", "warmup", "repeats", "nodes", "seed")
    }
    settings["graphs"] = "auto" if args.graphs is None else args.graphs
    record = measure(model, sampler, args.length, batch=args.batch, **settings)
    # A sweep that asks for the same finds this record when it resumes.
    asked = settings | {"kernels": forced}
    record.identity = identity(record.point, asked, record.environment["hardware"])
    if args.output:
        append_record(args.output, record)
    if args.json:
        print(record.model_dump_json())
    else:
        from dlm_bench.terminal import print_record

        print_record(record)
    return 0


def _option(text: str) -> tuple[str, int | float | str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"--option: {text!r} is not allowed; must be NAME=VALUE")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _kernels(args: argparse.Namespace) -> dict[str, str]:
    """The kernels that --attention and --kernel insist on, by operation."""
    forced: dict[str, str] = {}
    asked = [] if args.attention is None else [f"attention={args.attention}"]
    for text in asked + args.kernel:
        operation, equals, name = text.partition("=")
        if not equals or not operation:
            raise ConfigError(f"--kernel: {text!r} is not allowed; must be OPERATION=NAME")
        if forced.setdefault(operation, name) != name:
            raise ConfigError(
                f"--kernel: {text!r} is not allowed; {operation} is {forced[operation]!r} already"
            )
    return forced


def sweep(args: argparse.Namespace) -> int:
    """Measure the points of a file in worker processes; 3 if any has no ok record."""
    from dlm_bench.execute import Executor
    from dlm_bench.plan import make_plan
    from dlm_bench.results.store import append_record, check_writable
    from dlm_bench.terminal import SweepProgress, print_found, print_plan, print_throughput

    if args.retry_failed and not args.resume:
        raise ConfigError("--retry-failed: is not allowed without --resume")
    names = ("device", "graphs", "timeout", "memory_limit")
    overrides = {name: getattr(args, name) for name in names} | {"kernels": _kernels(args)}
    with Executor() as executor:
        # This process stays without torch, whose memory and threads belong to the workers.
        plan = (
            make_plan(args.file, **overrides)
            if args.dry_run
            else executor.plan(args.file, **overrides)
        )
        output = args.output or Path("results") / f"{plan.sweep.name}.jsonl"
        found = plan.found_in(output) if args.resume else {}
        if args.dry_run:
            print_plan(plan.sweep)
        if args.resume:
            print_found(plan, found, output, args.retry_failed)
        if args.dry_run:
            return 0
        check_writable(output)
        if args.retry_failed:
            found = {key: record for key, record in found.items() if record.status == "ok"}
        records = [*found.values()]
        try:
            with SweepProgress(plan, found) as progress:
                for index, record, seconds in executor.run(plan, records[:], progress.begin):
                    append_record(output, record)
                    records.append(record)
                    progress.end(index, record, seconds)
        except KeyboardInterrupt:
            kept = len(records) - len(found)
            print(
                f"dlm-bench: interrupted; {kept} records were appended to {output}", file=sys.stderr
            )
            return 130
    print_throughput(records)
    failed = [record for record in records if record.status != "ok"]
    print(f"{len(records) - len(found)} records appended to {output}")
    if failed:
        print(
            f"dlm-bench: {len(failed)} of {len(records)} points failed or were skipped",
            file=sys.stderr,
        )
    return 3 if failed else 0


def fit(args: argparse.Namespace) -> int:
    """Fit the latency law to each line of the results and print it."""
    from dlm_bench.results.store import load_results
    from dlm_bench.terminal import print_fits

    print_fits(load_results(*args.results), args.sampler)
    return 0


def plot(args: argparse.Namespace) -> int:
    """Draw the figures that the records allow, and name those that they do not."""
    from dlm_bench.errors import ResultsError, unknown
    from dlm_bench.figures import FIGURES, save
    from dlm_bench.results.store import load_results

    if args.figure not in (*FIGURES, "all"):
        raise unknown("--figure", args.figure, (*FIGURES, "all"))
    frame = load_results(*args.results)
    problems, drawn = [], False
    for name, draw in FIGURES.items():
        if args.figure not in (name, "all"):
            continue
        options = {"sampler": args.sampler} if name == "latency" and args.sampler else {}
        try:
            figure = draw(frame, **options)
        except ResultsError as error:
            problems.append(f"figure {name!r}: {error}")
            continue
        drawn = True
        for path in save(figure, args.output / name):
            print(path)
    if not drawn:
        raise ResultsError(problems[0])
    for problem in problems:
        print(f"dlm-bench: not drawn: {problem}", file=sys.stderr)
    return 0


def cost(args: argparse.Namespace) -> int:
    """Print what decoding must cost."""
    from dlm_bench.analysis.cost_table import cost_report
    from dlm_bench.analysis.roofline import find_hardware

    names = ("size", "length", "tokens_per_step", "block_size")
    options = {name: getattr(args, name) for name in names}
    print(cost_report(find_hardware(args.hardware), style=args.format, **options))
    return 0


def env(args: argparse.Namespace) -> int:
    """Print what numbers depend on, and which kernels a model would run with."""
    from dlm_bench.kernels.choice import choose_kernels
    from dlm_bench.models.config import model_config
    from dlm_bench.models.factory import default_dtype, parse_device, parse_dtype
    from dlm_bench.timing.environment import environment

    device = parse_device(args.device)
    dtype = parse_dtype(default_dtype(device) if args.dtype is None else args.dtype)
    head_dim = model_config("diffutran", args.size).head_dim
    kernels = choose_kernels(device, dtype, head_dim, _kernels(args))
    facts = environment(device.type, device.index or 0)
    facts |= {f"kernel {operation}": name for operation, name in kernels.named().items()}
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}} {value}")
    return 0


def list(args: argparse.Namespace) -> int:
    """Print all backbones, sizes, samplers and options."""
    from dlm_bench.terminal import print_names

    print_names()
    return 0
