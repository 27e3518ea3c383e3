"""What each command does. They are thin, and import torch only when they run."""

import argparse
import sys
from pathlib import Path

from dlm_bench.errors import ConfigError


def run(args: argparse.Namespace) -> int:
    from dlm_bench.execute import is_out_of_memory

    try:
        return _measure(args)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(f"dlm-bench: out of memory: {str(error).splitlines()[0]}", file=sys.stderr)
        return 3


def _measure(args: argparse.Namespace) -> int:
    from dlm_bench.models.factory import build_model, default_dtype, parse_device
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
    record = measure(
        model,
        sampler,
        args.length,
        mode=args.mode,
        warmup=args.warmup,
        repeats=args.repeats,
        batch=args.batch,
        seed=args.seed,
        nodes=args.nodes,
        graphs="auto" if args.graphs is None else args.graphs,
    )
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
    from dlm_bench.execute import run_sweep
    from dlm_bench.results.store import append_record, check_writable
    from dlm_bench.sweep import load_sweep
    from dlm_bench.terminal import print_plan, print_throughput, sweep_progress

    sweep = load_sweep(args.file, device=args.device, graphs=args.graphs, kernels=_kernels(args))
    if args.dry_run:
        print_plan(sweep)
        return 0
    output = args.output or Path("results") / f"{sweep.name}.jsonl"
    check_writable(output)
    records = []
    with sweep_progress(sweep) as advance:
        for record in run_sweep(sweep):
            append_record(output, record)
            records.append(record)
            advance(record)
    print_throughput(records)
    failed = [record for record in records if record.status != "ok"]
    print(f"{len(records)} records appended to {output}")
    if failed:
        print(f"dlm-bench: {len(failed)} of {len(records)} points failed", file=sys.stderr)
    return 3 if failed else 0


def fit(args: argparse.Namespace) -> int:
    from dlm_bench.results.store import load_results
    from dlm_bench.terminal import print_fits

    print_fits(load_results(*args.results), args.sampler)
    return 0


def plot(args: argparse.Namespace) -> int:
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
    from dlm_bench.terminal import print_names

    print_names()
    return 0
