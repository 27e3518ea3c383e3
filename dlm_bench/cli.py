"""The command line's grammar; what the commands do is in commands.py."""

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import NoReturn

from dlm_bench import commands
from dlm_bench.errors import DlmBenchError

EXAMPLES = """\
examples:
  dlm-bench run diffumamba block-cache --size small --length 4096 --mode sampled
  dlm-bench sweep bench/sweeps/quick.toml --dry-run
  dlm-bench sweep bench/sweeps/quick.toml --output results/quick.jsonl --resume
  dlm-bench plot results/quick.jsonl --output plots/
  dlm-bench fit results/quick.jsonl --sampler full
  dlm-bench cost --size 1.3b --length 32768 --hardware h200

exit codes: 0 ok, 2 wrong usage or configuration, 3 some points failed or were skipped
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
    subparsers = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=_Parser)

    run = subparsers.add_parser("run", help="measure one point", description="Measure one point.")
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
    _add_cuda(run)
    run.add_argument("--seed", type=int, default=0, help="of weights and tokens (default: 0)")
    run.add_argument("--output", type=Path, metavar="FILE.jsonl", help="append the record here")
    run.add_argument("--json", action="store_true", help="print the record as JSON")
    run.set_defaults(command=commands.run)

    sweep = subparsers.add_parser(
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
    _add_cuda(sweep)
    sweep.add_argument("--dry-run", action="store_true", help="print the points and their NFE")
    sweep.add_argument(
        "--resume", action="store_true", help="run only what the output file does not hold"
    )
    sweep.add_argument(
        "--retry-failed", action="store_true", help="with --resume: run again what failed, too"
    )
    sweep.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="give a point up after this long"
    )
    sweep.add_argument(
        "--memory-limit", metavar="SIZE", help="memory a point may use on a CPU, as in 8GiB (Linux)"
    )
    sweep.set_defaults(command=commands.sweep)

    fit = subparsers.add_parser(
        "fit",
        help="fit the latency law to results",
        description="Fit per-pass latency = a L^2 + b L + c, all >= 0, to each line of results.",
    )
    _add_results(fit)
    fit.add_argument("--sampler", help="only this sampler's lines")
    fit.set_defaults(command=commands.fit)

    plot = subparsers.add_parser(
        "plot", help="draw figures", description="Draw figures, PDF and PNG."
    )
    _add_results(plot)
    plot.add_argument("--figure", default="all", help="throughput, latency or all (default)")
    plot.add_argument("--sampler", help="latency: only this sampler's lines")
    plot.add_argument(
        "--output", type=Path, default=Path("plots"), metavar="DIR", help="default: plots/"
    )
    plot.set_defaults(command=commands.plot)

    cost = subparsers.add_parser(
        "cost", help="what decoding must cost", description="FLOPs, memory, roofline bounds."
    )
    cost.add_argument("--size", default="1.3b", help="model size (default: %(default)s)")
    cost.add_argument("-L", "--length", type=int, default=8192, help="default: %(default)s")
    cost.add_argument("--tokens-per-step", type=int, default=8, help="default: %(default)s")
    cost.add_argument("--block-size", type=int, default=32, help="default: %(default)s")
    cost.add_argument("--hardware", default="h100-sxm", help="a GPU (default: h100-sxm), measured")
    cost.add_argument("--format", default="text", help="text (default), markdown or latex")
    cost.set_defaults(command=commands.cost)

    env = subparsers.add_parser(
        "env", help="show hardware, versions and kernels", description="What numbers depend on."
    )
    env.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    env.add_argument("--dtype", help="default: float32 on a CPU, else bfloat16")
    env.add_argument("--size", default="1.3b", help="whose attention heads (default: %(default)s)")
    _add_kernels(env)
    env.set_defaults(command=commands.env)

    names = subparsers.add_parser(
        "list", help="show backbones, sizes, samplers and options", description="What there is."
    )
    names.set_defaults(command=commands.list)
    parser.set_defaults(command=None)
    return parser


def _add_cuda(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--graphs",
        metavar="auto|require|off",
        help="CUDA graphs, one a kind of pass: where it can be captured (auto, the default), or "
        "an error where it cannot, or none",
    )
    _add_kernels(parser)


def _add_kernels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--attention", metavar="NAME", help="insist on it, e.g. cudnn, flash or flash-attn"
    )
    parser.add_argument(
        "--kernel",
        action="append",
        default=[],
        metavar="OPERATION=NAME",
        help="insist on an implementation (dlm-bench env shows them); may be repeated",
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS.jsonl", help="one or more results files"
    )


def _one_line_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"dlm-bench: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
