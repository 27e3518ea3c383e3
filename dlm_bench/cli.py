"""The command line: its parser, put together from the commands, and their exit codes."""

import argparse
import os
import sys
import warnings
from typing import NoReturn

from dlm_bench.commands import (
    comparing,
    drawing,
    measuring,
    predicting,
    reporting,
    telling,
    tracing,
)
from dlm_bench.errors import DlmBenchError, LostPointWarning

EXAMPLES = """\
examples:
  dlm-bench run diffumamba block-cache --size small --length 4096 --mode sampled
  dlm-bench sweep bench/sweeps/quick.toml --dry-run
  dlm-bench sweep bench/sweeps/quick.toml --output results/quick.jsonl --resume
  dlm-bench trace diffumamba block-cache --threshold 0.9 --checkpoint w.safetensors -L 256 \\
    --output t.json
  dlm-bench plot results/quick.jsonl --output plots/
  dlm-bench fit results/quick.jsonl --sampler full
  dlm-bench report results/quick.jsonl --output report.html
  dlm-bench table speedup results/quick.jsonl --at 2048,8192 --format latex
  dlm-bench compare results/main.jsonl results/change.jsonl --format markdown
  dlm-bench ab --base origin/main bench/sweeps/ci.toml --budget 5m
  dlm-bench cost --size 1.3b --length 32768 --hardware h200
  dlm-bench cost --sweep bench/sweeps/paper.toml --hardware h100-sxm

exit codes: 0 ok, 1 a regression was found, 2 wrong usage, configuration or results,
  3 some points failed or were skipped
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
            lost = _show_warnings()
            code = args.command(args)
        sys.stdout.flush()
        return 3 if lost and code == 0 else code
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
    for module in (measuring, tracing, drawing, reporting, comparing, predicting, telling):
        module.add(subparsers)
    parser.set_defaults(command=None)
    return parser


def _show_warnings() -> list[Warning | str]:
    """Print each warning once, as one line, whatever PYTHONWARNINGS says; return the list that gets
    those which a command that only reads must not exit with 0 after."""
    lost: list[Warning | str] = []

    def one_line(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        print(f"dlm-bench: warning: {message}", file=sys.stderr)
        if issubclass(category, LostPointWarning):
            lost.append(message)

    warnings.resetwarnings()
    for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", quiet)
    warnings.showwarning = one_line
    return lost


if __name__ == "__main__":
    sys.exit(main())
