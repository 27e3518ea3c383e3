"""Arguments that several commands take."""

import argparse
from pathlib import Path

from dlm_bench.errors import ConfigError

Commands = argparse._SubParsersAction


def add_cuda(parser: argparse.ArgumentParser) -> None:
    """How passes run on a GPU."""
    parser.add_argument(
        "--graphs",
        metavar="auto|require|off",
        help="CUDA graphs, one a kind of pass: where it can be captured (auto, the default), or "
        "an error where it cannot, or none",
    )
    add_kernels(parser)


def add_kernels(parser: argparse.ArgumentParser) -> None:
    """Which implementations to insist on."""
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


def add_random_weights(parser: argparse.ArgumentParser) -> None:
    """Whether a folder's model is built without the folder's weights."""
    parser.add_argument(
        "--random-weights", action="store_true", help="with hf:FOLDER: instead of the folder's"
    )


def add_options(parser: argparse.ArgumentParser, how: str) -> None:
    """The options of a sampler, which `option_of` reads."""
    parser.add_argument(
        "-o", "--option", action="append", default=[], metavar="NAME=VALUE", help=how
    )


def add_prompt_len(parser: argparse.ArgumentParser, how: str) -> None:
    """The tokens of a prompt."""
    parser.add_argument(
        "--prompt-len",
        type=int,
        default=0,
        metavar="TOKENS",
        help=f"of a random prompt before them, {how} (default: 0)",
    )


def add_results(parser: argparse.ArgumentParser) -> None:
    """The results files to read."""
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS.jsonl", help="one or more results files"
    )


def forced_kernels(args: argparse.Namespace) -> dict[str, str]:
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
