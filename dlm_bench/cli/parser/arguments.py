"""Arguments shared by commands."""

import argparse
import dataclasses
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

from dlm_bench.cli.parser.base import Parser
from dlm_bench.errors import seconds_of, share_of
from dlm_bench.results.record import FORMER_OPTIONS
from dlm_bench.samplers import SAMPLERS, allowed_names
from dlm_bench.samplers.acceptance.options import unused_options


def add_length(parser: argparse.ArgumentParser, default: int | None = None) -> None:
    """Add the tokens to generate, required without a default."""
    parser.add_argument(
        "-L",
        "--length",
        "--output-len",
        type=int,
        required=default is None,
        metavar="TOKENS",
        help="generate this many tokens a sequence"
        + ("" if default is None else f" (default: {default})"),
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add device and precision of the passes."""
    parser.add_argument(
        "--device",
        default="auto",
        help="run on auto (default: CUDA if there is a GPU, else the CPU), cpu, cuda or cuda:N",
    )
    parser.add_argument(
        "--dtype",
        help="run in float32, bfloat16 or float16 (default: float32 on a CPU, else bfloat16)",
    )


def add_cuda(parser: argparse.ArgumentParser) -> None:
    """Add how passes run on a GPU."""
    parser.add_argument(
        "--graphs",
        metavar="auto|require|off",
        help="use CUDA graphs: capture the passes that can be (auto, default), fail where one "
        "cannot (require), or use none (off)",
    )
    add_kernels(parser)


def add_kernels(parser: argparse.ArgumentParser) -> None:
    """Add required implementations."""
    parser.add_argument(
        "--attention",
        metavar="NAME",
        help="require this attention kernel, as cudnn or flash-attn-4 (default: by hardware)",
    )
    parser.add_argument(
        "--kernel",
        action="append",
        default=[],
        metavar="OPERATION=NAME",
        help="require an implementation (see dlm-bench env); may be repeated",
    )


def add_random_weights(parser: argparse.ArgumentParser) -> None:
    """Add the choice of random weights for the model of a folder."""
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="hf:FOLDER only: draw random weights instead of loading the folder's",
    )


def add_sampler_options(parser: Parser) -> None:
    """Add the options of the samplers for `sampler_options`: each by name, and all as
    `-o NAME=VALUE`."""
    parser.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set an option of the sampler, a plug-in's too, as commit=fused; may be repeated",
    )
    group = parser.add_argument_group("options of the sampler")
    values: dict[str, dict[str, str]] = {}
    for sampler, kind in SAMPLERS.items():
        names, unused = allowed_names(sampler), unused_options(kind)
        for field in dataclasses.fields(kind):
            if field.name in unused:
                continue
            takes = _takes(field.default, names.get(field.name, ()))
            values.setdefault(field.name, {})[sampler] = takes
    for name, of in values.items():
        flag = f"--{name.replace('_', '-')}"
        if flag not in parser._option_string_actions:  # a command may have it as its own
            help = f"set {name} of {'; of '.join(_with_values(of))}"
            group.add_argument(flag, dest=f"sampler_{name}", metavar="VALUE", help=help)
    for former in FORMER_OPTIONS:
        group.add_argument(f"--{former}", dest=f"sampler_{former}", help=argparse.SUPPRESS)


def _takes(default: object, names: tuple[str, ...]) -> str:
    """Say what an option takes: its default, among all names where it takes a name."""
    if not names:
        return f" (default: {'none' if default == '' else default})"
    usual, *others, last = names
    return f" to {', '.join([f'{usual} (default)', *others])} or {last}"


def _with_values(values: dict[str, str]) -> Iterator[str]:
    """The samplers of an option, and behind those alike what it takes."""
    for takes, samplers in groupby(values, key=values.__getitem__):
        yield f"{', '.join(samplers)}{takes}"


def add_prompt_len(parser: argparse.ArgumentParser, how: str) -> None:
    """Add the tokens of a prompt."""
    parser.add_argument(
        "--prompt-len",
        "--input-len",
        type=int,
        default=0,
        metavar="TOKENS",
        help=f"decode after a random prompt of this many tokens (default: 0){how}",
    )


def add_prompts(parser: argparse.ArgumentParser, how: str) -> None:
    """Add the file of prompts."""
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE.jsonl",
        help='decode after prompts of this file, lines as {"text": "..."} or {"tokens": [1, 2]}, '
        f"or of this package's (shipped){how} (default: random prompts)",
    )


def add_stop_at_eos(parser: argparse.ArgumentParser) -> None:
    """Add the end of a decode with its texts."""
    parser.add_argument(
        "--stop-at-eos",
        action="store_true",
        help="end a sequence at its end of text, and the decode with the block in which the last "
        "one ends, found by a first, untimed decode; throughput is of the tokens up to there",
    )


def add_conditions(parser: argparse.ArgumentParser) -> None:
    """Add the conditions of each point."""
    group = parser.add_argument_group("conditions of each point")
    group.add_argument(
        "--require",
        metavar="idle,unthrottled",
        help="fail a point where other work uses the machine (idle), or where clocks were held "
        "down (unthrottled) (default: flag the record only)",
    )
    group.add_argument(
        "--retry-throttled",
        type=int,
        default=0,
        metavar="TRIES",
        help="measure a point with clocks held down again, up to this often (default: 0)",
    )
    group.add_argument(
        "--cooldown",
        type=partial(seconds_of, "--cooldown"),
        metavar="TIME",
        help="rest this long before each try, as 30s (default: no rest)",
    )
    group.add_argument(
        "--lock-clocks",
        metavar="MHZ|base",
        help="lock the SM clocks of the GPUs while the command runs, which takes root (default: "
        "leave them)",
    )


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add the results files to read, and the choice of their records."""
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS.jsonl", help="read these results files"
    )
    parser.add_argument(
        "--where",
        metavar="CONDITIONS",
        help="take the records that meet these conditions only, as 'length>=4096 backbone=diffu*': "
        "KEY OP VALUE with = != < <= > >=, globs for names (default: all)",
    )
    parser.add_argument(
        "--label",
        metavar="NAME[,NAME...]",
        help="name each file, as before,after, and show the files as series of their own (default: "
        "records of all files together)",
    )


def add_table_format(parser: argparse.ArgumentParser) -> None:
    """Add the format of a table."""
    parser.add_argument(
        "--format",
        default="text",
        metavar="text|markdown|latex|csv|tidy",
        help="print the table in this format; latex uses booktabs, tidy is CSV with a line a "
        "number (default: text)",
    )


def add_verdicts(parser: argparse.ArgumentParser) -> None:
    """Add the options of a comparison."""
    parser.add_argument(
        "--threshold",
        type=partial(share_of, "--threshold"),
        default="5%",
        metavar="SHARE",
        help="fail for a slowdown above this, as 5%% or 0.05 (default: 5%%)",
    )
    parser.add_argument(
        "--suite-threshold",
        type=partial(share_of, "--suite-threshold"),
        metavar="SHARE",
        help="judge the geometric mean over all points, too, and fail for a slowdown above this, "
        "as 1.5%% (default: show the mean alone)",
    )
    parser.add_argument(
        "--false-alarms",
        type=partial(share_of, "--false-alarms"),
        default="0.2%",
        metavar="SHARE",
        help="allow this chance of any false alarm, all points together (default: 0.2%%)",
    )
    parser.add_argument(
        "--format",
        default="text",
        metavar="text|markdown|json|github|github-action-benchmark",
        help="print the verdicts in this format (default: text)",
    )
    parser.add_argument(
        "--fail-on",
        metavar="NAMES",
        help="fail for these, a list of slower, newly-failing (exit code 1), missing, undecided "
        "(exit code 3), or none (default: slower,newly-failing)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="fail for all names of --fail-on",
    )
