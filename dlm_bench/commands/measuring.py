"""Measure: one point (`run`) or many (`sweep`)."""

import argparse
import sys
from pathlib import Path

from dlm_bench.commands.arguments import Commands, add_cuda, forced_kernels
from dlm_bench.errors import ConfigError, first_line


def add(subparsers: Commands) -> None:
    """Add the grammar of these commands."""
    parser = subparsers.add_parser(
        "run", help="measure one point", description="Measure one point."
    )
    parser.add_argument("backbone", help="a backbone (see dlm-bench list)")
    parser.add_argument("sampler", help="a sampler (see dlm-bench list)")
    parser.add_argument("-L", "--length", type=int, required=True, help="tokens to generate")
    parser.add_argument("--size", default="small", help="model size (default: %(default)s)")
    parser.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a sampler's option, e.g. tokens_per_step=16 or commit=fused; may be repeated",
    )
    parser.add_argument("--batch", type=int, default=1, help="sequences at once (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--dtype", help="default: float32 on a CPU, else bfloat16")
    parser.add_argument(
        "--mode", default="exact", help="exact: whole decodes; sampled: a few passes, integrated"
    )
    parser.add_argument("--warmup", type=int, default=3, help="untimed runs (default: 3)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs (default: 5)")
    parser.add_argument("--nodes", type=int, default=5, help="sampled: places timed per role")
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
    add_cuda(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the points and their NFE")
    parser.add_argument(
        "--resume", action="store_true", help="run only what the output file does not hold"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="with --resume: run again what failed, too"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="give a point up after this long"
    )
    parser.add_argument(
        "--memory-limit", metavar="SIZE", help="memory a point may use on a CPU, as in 8GiB (Linux)"
    )
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
    forced = forced_kernels(args)
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


def sweep(args: argparse.Namespace) -> int:
    """Measure the points of a file in worker processes; 3 if any has no ok record."""
    from dlm_bench.execute import Executor
    from dlm_bench.plan import make_plan
    from dlm_bench.results.store import append_record, check_writable
    from dlm_bench.terminal import SweepProgress, print_found, print_plan, print_throughput

    if args.retry_failed and not args.resume:
        raise ConfigError("--retry-failed: is not allowed without --resume")
    names = ("device", "graphs", "timeout", "memory_limit")
    overrides = {name: getattr(args, name) for name in names} | {"kernels": forced_kernels(args)}
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
