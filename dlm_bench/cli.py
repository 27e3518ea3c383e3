"""The command line. It parses and prints; torch is imported inside the commands that need it."""

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import NoReturn

from dlm_bench.errors import ConfigError, DlmBenchError

EXAMPLES = """\
examples:
  dlm-bench run diffumamba block-cache --size small --length 4096 --mode sampled
  dlm-bench sweep bench/sweeps/quick.toml --dry-run
  dlm-bench sweep bench/sweeps/quick.toml --output results/quick.jsonl
  dlm-bench plot results/quick.jsonl --output plots/
  dlm-bench fit results/quick.jsonl --sampler full
  dlm-bench cost --size 1.3b --length 32768 --hardware h200

exit codes: 0 ok, 2 wrong usage or configuration, 3 some points failed
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; a user's mistake is one line on stderr and a 2."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _one_line_warning
            code = args.command(args)
        sys.stdout.flush()
        return code
    except DlmBenchError as error:
        print(f"dlm-bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dlm-bench: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="dlm-bench",
        description="A throughput benchmark for diffusion language models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=_Parser)

    run = commands.add_parser("run", help="measure one point", description="Measure one point.")
    run.add_argument("backbone", help="a backbone (see dlm-bench list)")
    run.add_argument("sampler", help="a sampler (see dlm-bench list)")
    run.add_argument("-L", "--length", type=int, required=True, help="tokens to generate")
    run.add_argument("--size", default="small", help="model size (default: %(default)s)")
    run.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a sampler's option, e.g. tokens_per_step=16 or commit=fused; may be repeated",
    )
    run.add_argument("--batch", type=int, default=1, help="sequences at once (default: 1)")
    run.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    run.add_argument("--dtype", help="default: float32 on a CPU, else bfloat16")
    run.add_argument(
        "--mode", default="exact", help="exact: whole decodes; sampled: a few passes, integrated"
    )
    run.add_argument("--warmup", type=int, default=3, help="untimed runs (default: 3)")
    run.add_argument("--repeats", type=int, default=5, help="timed runs (default: 5)")
    run.add_argument("--nodes", type=int, default=5, help="sampled: places timed per role")
    run.add_argument("--seed", type=int, default=0, help="of weights and tokens (default: 0)")
    run.add_argument("--output", type=Path, metavar="FILE.jsonl", help="append the record here")
    run.add_argument("--json", action="store_true", help="print the record as JSON")
    run.set_defaults(command=_run)

    sweep = commands.add_parser(
        "sweep", help="measure the points of a TOML file", description="Measure many points."
    )
    sweep.add_argument("file", type=Path, metavar="FILE.toml", help="see bench/sweeps/")
    sweep.add_argument(
        "--output",
        type=Path,
        metavar="FILE.jsonl",
        help="append the records here (default: results/NAME.jsonl)",
    )
    sweep.add_argument("--device", help="instead of the file's")
    sweep.add_argument("--dry-run", action="store_true", help="print the points and their NFE")
    sweep.set_defaults(command=_sweep)

    fit = commands.add_parser(
        "fit",
        help="fit the latency law to results",
        description="Fit per-pass latency = a L^2 + b L + c, all >= 0, to each line of results.",
    )
    _add_results(fit)
    fit.add_argument("--sampler", help="only this sampler's lines")
    fit.set_defaults(command=_fit)

    plot = commands.add_parser(
        "plot", help="draw figures", description="Draw figures, PDF and PNG."
    )
    _add_results(plot)
    plot.add_argument("--figure", default="all", help="throughput, latency or all (default)")
    plot.add_argument("--sampler", help="latency: only this sampler's lines")
    plot.add_argument(
        "--output", type=Path, default=Path("plots"), metavar="DIR", help="default: plots/"
    )
    plot.set_defaults(command=_plot)

    cost = commands.add_parser(
        "cost", help="what decoding must cost", description="FLOPs, memory, roofline bounds."
    )
    cost.add_argument("--size", default="1.3b", help="model size (default: %(default)s)")
    cost.add_argument("-L", "--length", type=int, default=8192, help="default: %(default)s")
    cost.add_argument("--tokens-per-step", type=int, default=8, help="default: %(default)s")
    cost.add_argument("--block-size", type=int, default=32, help="default: %(default)s")
    cost.add_argument("--hardware", default="h100-sxm", help="a GPU (default: h100-sxm), measured")
    cost.add_argument("--format", default="text", help="text (default), markdown or latex")
    cost.set_defaults(command=_cost)

    env = commands.add_parser(
        "env", help="show hardware, versions and kernels", description="What numbers depend on."
    )
    env.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    env.set_defaults(command=_env)

    names = commands.add_parser(
        "list", help="show backbones, sizes, samplers and options", description="What there is."
    )
    names.set_defaults(command=_list)
    parser.set_defaults(command=None)
    return parser


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS.jsonl", help="one or more results files"
    )


def _run(args: argparse.Namespace) -> int:
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
    model = build_model(args.backbone, args.size, args.device, dtype, args.seed)
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


def _sweep(args: argparse.Namespace) -> int:
    from dlm_bench.execute import run_sweep
    from dlm_bench.results.store import append_record, check_writable
    from dlm_bench.sweep import load_sweep
    from dlm_bench.terminal import print_plan, print_throughput, sweep_progress

    sweep = load_sweep(args.file, device=args.device)
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


def _fit(args: argparse.Namespace) -> int:
    from dlm_bench.results.store import load_results
    from dlm_bench.terminal import print_fits

    print_fits(load_results(*args.results), args.sampler)
    return 0


def _plot(args: argparse.Namespace) -> int:
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


def _cost(args: argparse.Namespace) -> int:
    from dlm_bench.analysis.cost_table import cost_report
    from dlm_bench.analysis.roofline import find_hardware

    names = ("size", "length", "tokens_per_step", "block_size")
    options = {name: getattr(args, name) for name in names}
    print(cost_report(find_hardware(args.hardware), style=args.format, **options))
    return 0


def _env(args: argparse.Namespace) -> int:
    from dlm_bench.kernels import chosen_kernels
    from dlm_bench.models.factory import parse_device
    from dlm_bench.timing.environment import environment

    device = parse_device(args.device)
    for name, value in environment(device.type, device.index or 0).items():
        print(f"{name:17} {value}")
    for name, value in chosen_kernels(device.type).items():
        print(f"{'kernel ' + name:17} {value}")
    return 0


def _list(args: argparse.Namespace) -> int:
    from dlm_bench.terminal import print_names

    print_names()
    return 0


def _one_line_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"dlm-bench: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
