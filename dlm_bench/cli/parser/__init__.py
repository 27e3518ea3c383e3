"""The parser of the command line, put together from the commands' parsers.

The commands import torch, pandas or matplotlib; help waits for none of these.
"""

import argparse
from collections.abc import Sequence

from dlm_bench.cli.parser import (
    ab,
    check,
    compare,
    cost,
    env,
    export,
    fit,
    history,
    import_results,
    plot,
    profile,
    report,
    run,
    stats,
    sweep,
    table,
    trace,
)
from dlm_bench.cli.parser import list as list_names
from dlm_bench.cli.parser.base import HelpFormatter, Parser
from dlm_bench.errors import did_you_mean
from dlm_bench.version import __version__

EXAMPLES = """\
examples:
  dlm-bench run diffumamba block-cache --size small --length 4096 --mode sampled
  dlm-bench sweep quick --dry-run
  dlm-bench sweep quick --output results/quick.jsonl --resume
  dlm-bench trace diffumamba block-cache -L 256 --checkpoint w.safetensors \\
    --output trace.json
  dlm-bench plot results/quick.jsonl --output plots/
  dlm-bench fit results/quick.jsonl --sampler full
  dlm-bench report results/quick.jsonl --output report.html
  dlm-bench table speedup results/quick.jsonl --at 2048,8192 --format latex
  dlm-bench export results/quick.jsonl --format sqlite --output quick.db
  dlm-bench compare results/main.jsonl results/change.jsonl --format markdown
  dlm-bench ab --base origin/main ci --budget 5m
  dlm-bench check diffumamba block-cache --size tiny
  dlm-bench profile diffumamba block-cache -L 4096 --role denoise
  dlm-bench cost --size 1.3b --length 32768 --hardware h200
  dlm-bench cost --sweep paper --hardware h100-sxm

durations: 90s, 10m, 2h, or a number of seconds
shares:    5% or 0.05

exit codes:
  0  ok
  1  a regression was proven
  2  wrong usage, configuration or file
  3  points failed or were skipped (compare, ab: --fail-on)
  70 internal error
  130, 143  interrupted by SIGINT, SIGTERM
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line. Raises SystemExit after help or a wrong usage."""
    parser = build_parser()
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        of_command: Parser = args.parser
        options = [option.lstrip("-") for option in of_command._option_string_actions]
        hint = did_you_mean(unknown[0].partition("=")[0].lstrip("-"), options)
        hint = hint.replace(" '", " '--")
        if not hint and hasattr(args, "option"):
            hint = "; an option of a plug-in's sampler is -o NAME=VALUE"
        of_command.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    if args.command is None and args.print_completion is None:
        parser.print_help()
        parser.exit()
    if args.print_completion is not None:
        args.command = "completion"
    return args


def build_parser() -> Parser:
    """Build the parser of all commands."""
    parser = Parser(
        prog="dlm-bench",
        description="A throughput benchmark for diffusion language models.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"dlm-bench {__version__}",
        help="print the version",
    )
    parser.add_argument(
        "--print-completion",
        choices=("bash", "zsh", "tcsh"),
        metavar="SHELL",
        help="print the completion script of bash, zsh or tcsh (see docs/install.md)",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=Parser)
    reading = (fit, plot, table, stats, report, export, history, import_results)
    others = (compare, ab, profile, cost, check, env, list_names)
    for module in (run, sweep, trace, *reading, *others):
        module.add(subparsers)
    parser.set_defaults(command=None, parser=parser)
    return parser
