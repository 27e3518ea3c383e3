"""The samplers, by name."""

import dataclasses
import inspect
from collections.abc import Collection, Mapping
from typing import Any

from dlm_bench.errors import ConfigError, unknown, unknown_option
from dlm_bench.models.backbones import BackboneInfo
from dlm_bench.plugins import entry_points
from dlm_bench.plugins.api import CAPABILITIES
from dlm_bench.samplers.acceptance.options import RULES, blocks_of_trace
from dlm_bench.samplers.acceptance.trace import Trace, load_trace
from dlm_bench.samplers.autoregressive import Autoregressive
from dlm_bench.samplers.block_cache import BlockCache
from dlm_bench.samplers.fast_dllm import FastDLLM
from dlm_bench.samplers.former import renamed
from dlm_bench.samplers.full import Full
from dlm_bench.samplers.names import names_of
from dlm_bench.samplers.pipeline import Pipeline
from dlm_bench.samplers.remdm import ReMDM
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.self_speculation import SelfSpeculation

SAMPLERS: dict[str, type[Sampler]] = {
    kind.name: kind
    for kind in (Full, FastDLLM, BlockCache, Pipeline, SelfSpeculation, ReMDM, Autoregressive)
}

SHIPPED_RULE = "shipped"  # the value of `accept` for what a model ships with


def build_sampler(name: str, /, **options: Any) -> Sampler:
    """Build a sampler by name, with options; the others take their defaults.

    Raises ConfigError for an unknown sampler or option, a value out of range, or an option without
    a meaning beside the others.
    """
    kind, allowed = sampler_class(name), options_of(name)
    options = renamed(options, allowed)
    for option in options:
        if option not in allowed:
            raise unknown_option(option, name, allowed, owners_of(option))
    sampler = kind(**options)
    whole = _whole_floats(kind, options)
    if whole:  # so that 1 and 1.0 are written as one in records and traces
        sampler = kind(**options | whole)
    for option, why in sampler.without_meaning().items():
        if option in options:
            raise ConfigError(f"{option}: {options[option]!r} is not allowed {why}")
    return sampler


def _whole_floats(kind: type[Sampler], options: Mapping[str, Any]) -> dict[str, float]:
    """Return as floats the integers among options that are floats by default."""
    floats = {field.name for field in dataclasses.fields(kind) if isinstance(field.default, float)}
    given = {name: value for name, value in options.items() if name in floats}
    return {name: float(value) for name, value in given.items() if type(value) is int}


def with_models_defaults(
    name: str, options: Mapping[str, Any], model: BackboneInfo
) -> dict[str, Any]:
    """Return options with those of a model where none are asked for: with accept=shipped those
    that its own code decodes with; the block that it was trained with, if there is one, and a
    quarter of that as the tokens of a pass, or of a pair of passes: the paper's 8 of 32. A trace
    gives its own blocks instead.

    Raises ConfigError as `sampler_class` does, for an unknown rule of acceptance, if it is not
    known what the model ships with, and for accept=shipped with a trace.
    """
    found, block_size = dict(options), model.block_size
    accept, rules = found.get("accept", ""), allowed_names(name).get("accept", ())
    if rules and accept and accept not in {*rules, *RULES}:
        raise unknown("accept", accept, rules)
    usual = {field.name: field.default for field in dataclasses.fields(sampler_class(name))}
    if found.get("accept") == SHIPPED_RULE:
        if found.get("trace"):
            raise ConfigError(
                f"accept: {SHIPPED_RULE!r} is not allowed with trace, whose passes are those that "
                "were recorded; leave one of the two out"
            )
        del found["accept"]
        rule = {**_shipped(name, model)}
        if found.get("steps"):  # instead of the tokens of a pass
            rule.pop("tokens_per_step", None)
        found = {**rule, **found}
    if found.get("trace") and name in SAMPLERS:
        return _blocks_of_trace(found, usual) | found
    if not block_size or not usual.get("block_size") or "trace" in found:
        return found
    asked = found.setdefault("block_size", block_size)
    if found.get("accept", "fixed") == "fixed" and isinstance(asked, int):
        rate = "tokens_per_step" if "tokens_per_step" in usual else "accept_len"
        part = found.get("sub_block_size") or asked
        if rate in usual and isinstance(part, int):
            found.setdefault(rate, max(1, min(asked // 4, part)))
    return found


def _blocks_of_trace(options: Mapping[str, Any], known: Collection[str]) -> dict[str, int]:
    """Return the options of a trace's blocks for a sampler that has the options `known`; none if a
    block is asked for."""
    trace = options["trace"]
    if "block_size" in options or options.get("accept", "fixed") != "fixed":
        return {}
    if isinstance(trace, str):
        try:
            trace = load_trace(trace)
        except ConfigError:  # raised again where the sampler is built
            return {}
    return blocks_of_trace(trace, known) if isinstance(trace, Trace) else {}


def _shipped(name: str, model: BackboneInfo) -> Mapping[str, Any]:
    if name not in model.shipped:
        known = ", ".join(model.shipped)
        allowed = f"it is with sampler {known}" if known else "of this backbone nothing is"
        raise ConfigError(
            f"accept: {SHIPPED_RULE!r} is not known of backbone {model.name!r} with sampler "
            f"{name!r}; {allowed} (dlm-bench list)"
        )
    return model.shipped[name]


def allowed_names(name: str) -> dict[str, tuple[str, ...]]:
    """The names that a sampler's options take, by option, the default first; options of numbers
    or files are left out. Raises ConfigError as `sampler_class` does."""
    named = {field.name: names_of(field) for field in dataclasses.fields(sampler_class(name))}
    found = {option: names for option, names in named.items() if names}
    if "accept" in found:
        found["accept"] += (SHIPPED_RULE,)
    return found


def options_of(name: str) -> list[str]:
    """The names of a sampler's options. Raises ConfigError as `sampler_class` does."""
    return [field.name for field in dataclasses.fields(sampler_class(name))]


def owners_of(option: str) -> list[str]:
    """The names of this project's samplers that have an option."""
    return [
        name
        for name, kind in SAMPLERS.items()
        if option in (field.name for field in dataclasses.fields(kind))
    ]


def sampler_class(name: str) -> type[Sampler]:
    """The class of a sampler, this project's or a package's, with the options as fields.

    Raises ConfigError for an unknown sampler, or a faulty plug-in.
    """
    plugin = entry_points.find("sampler", name, SAMPLERS)
    if plugin is not None:
        return loaded(plugin)
    if name not in SAMPLERS:
        others = (plugin.name for plugin in entry_points.announced("sampler"))
        raise unknown("sampler", name, [*SAMPLERS, *others])
    return SAMPLERS[name]


def loaded(plugin: entry_points.Plugin) -> type[Sampler]:
    """Import the sampler of a package's entry point. Raises ConfigError for another object."""
    found = entry_points.load(plugin)
    if not (isinstance(found, type) and issubclass(found, Sampler)):
        raise entry_points.refusal(
            plugin, "is not a subclass of dlm_bench.samplers.sampler.Sampler"
        )
    if "__dataclass_params__" not in vars(found):
        raise entry_points.refusal(plugin, "is not a dataclass, whose fields would be its options")
    if getattr(found, "name", None) != plugin.name:
        raise entry_points.refusal(plugin, f"has name {getattr(found, 'name', None)!r}")
    if found.requires not in CAPABILITIES:
        raise entry_points.refusal(
            plugin, f"has requires {found.requires!r}; allowed: {', '.join(CAPABILITIES)}"
        )
    passes = inspect.signature(found.passes)
    try:
        passes.bind("self", "length", "prompt_len")
    except TypeError:
        raise entry_points.refusal(
            plugin, f"has passes{passes}; must take length and prompt_len"
        ) from None
    return found
