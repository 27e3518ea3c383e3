"""Values of the arguments shared by commands."""

import argparse
import warnings
from typing import Any

from dlm_bench.errors import ConfigError

Option = int | float | str


def sampler_options(args: argparse.Namespace) -> dict[str, Option]:
    """Return the sampler's options on the command line. Raises ConfigError for a text other than
    NAME=VALUE, and for an option with two values."""
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
    """Warn of a rule of acceptance by confidence with random weights."""
    warnings.warn(
        f"accept={rule} on random weights: the number of passes means nothing, whatever the "
        "prompts; such weights are about as sure of any token as of the others, so a pass unmasks "
        "the fewest tokens that the rule allows, or by a loose limit most of a block; give trained "
        "weights, or a trace of theirs (dlm-bench trace)",
        stacklevel=2,
    )


def forced_kernels(args: argparse.Namespace) -> dict[str, str]:
    """Return the kernels required by --attention and --kernel, by operation."""
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


def settings_of(texts: list[str], option: str = "--set") -> dict[str, Any]:
    """Return the values of --set by key, lists where there are commas. Raises ConfigError."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key or key in ("lines", "exclude", "kernels"):
            raise ConfigError(
                f"{option}: {text!r} is not allowed; must be KEY=VALUE with a key of a sweep file, "
                "such as repeats=10 or lengths=1024,4096"
            )
        if key in found:
            raise ConfigError(f"{option}: {key} is given twice; give it once")
        words = {"true": True, "false": False}
        values = [words.get(each, _value_of(each)) for each in value.split(",")]
        found[key] = values if values[1:] else values[0]
    return found
