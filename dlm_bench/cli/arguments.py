"""Arguments that several commands take."""

import argparse
import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from dlm_bench.errors import ConfigError, did_you_mean

Option = int | float | str


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which has `--debug` and `--quiet`.

    later: adds arguments when this parser is about to parse, for those that take time to find out.
    """

    later: Callable[["Parser"], None] | None = None

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show the traceback of an error",
        )
        self.add_argument(
            "--quiet",
            action="store_true",
            default=argparse.SUPPRESS,
            help="print results and errors only: no progress, notes or warnings",
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.later is not None:
            later, self.later = self.later, None
            later(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [] if action.choices is None else list(map(str, action.choices))
        if choices and value not in choices:
            hint = did_you_mean(str(value), choices)
            raise argparse.ArgumentError(
                action, f"{value!r} is not known{hint}; allowed: {', '.join(choices)}"
            )


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help with the metavar once for all names of an option, as from Python 3.13 on."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


Commands = argparse._SubParsersAction


def add_command(
    subparsers: Commands, name: str, help: str, description: str, example: str
) -> Parser:
    """Add the parser of a command, whose help ends with an example."""
    parser: Parser = subparsers.add_parser(
        name,
        help=help,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=HelpFormatter,
    )
    return parser


def add_length(parser: argparse.ArgumentParser, default: int | None = None) -> None:
    """Add the tokens to generate, which must be given where there is no default."""
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
    """Add where and in which precision passes run."""
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
    """Add the implementations that are required."""
    parser.add_argument(
        "--attention",
        metavar="NAME",
        help="require this attention kernel, as cudnn, flash or flash-attn (default: by hardware)",
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
    """Add the options of the samplers, which `sampler_options` reads: each by its name, and all as
    `-o NAME=VALUE`."""
    parser.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set an option of the sampler, a plug-in's too, as commit=fused; may be repeated",
    )
    parser.later = _add_each_sampler_option


def _add_each_sampler_option(parser: Parser) -> None:
    from dlm_bench.samplers import SAMPLERS

    group = parser.add_argument_group("options of the sampler")
    defaults: dict[str, dict[str, object]] = {}
    for sampler, kind in SAMPLERS.items():
        for field in dataclasses.fields(kind):
            defaults.setdefault(field.name, {})[sampler] = field.default
    for name, of in defaults.items():
        flag = f"--{name.replace('_', '-')}"
        if flag not in parser._option_string_actions:  # a command may have it as its own
            default = next(iter(of.values()))
            help = (
                f"set {name} of {', '.join(of)}"
                + f" (default: {'none' if default == '' else default})"
            )
            group.add_argument(flag, dest=f"sampler_{name}", metavar="VALUE", help=help)


def sampler_options(args: argparse.Namespace) -> dict[str, Option]:
    """Return the options of the sampler that were given. Raises ConfigError for a text that is
    none, and for an option with two values."""
    found: dict[str, Option] = {}
    for name, value in map(_option_of, args.option):
        if name in found:
            raise ConfigError(f"--option: {name} is given twice; give it once")
        found[name] = value
    for key, text in vars(args).items():
        name = key.removeprefix("sampler_")
        if name != key and text is not None:
            if name in found:
                flag = f"--{name.replace('_', '-')}"
                raise ConfigError(f"--option: {name} is given by {flag}, too; give it once")
            found[name] = _value_of(text)
    return found


def _option_of(text: str) -> tuple[str, Option]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"--option: {text!r} is not allowed; must be NAME=VALUE")
    return name, _value_of(value)


def _value_of(text: str) -> Option:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def warn_of_random_acceptance(rule: str) -> None:
    """Warn that a rule which accepts by confidence says nothing of random weights."""
    warnings.warn(
        f"accept={rule} on random weights: they are sure of nothing, so a pass unmasks about one "
        "token; give trained weights, or a trace of theirs (dlm-bench trace)",
        stacklevel=2,
    )


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


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add the results files to read."""
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS.jsonl", help="read these results files"
    )


def forced_kernels(args: argparse.Namespace) -> dict[str, str]:
    """Return the kernels that --attention and --kernel require, by operation."""
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
