"""The options by which a sampler's acceptance is chosen, and the rules by name."""

import dataclasses
from collections.abc import Collection
from typing import Any

from dlm_bench.errors import ConfigError, unknown
from dlm_bench.samplers.acceptance.acceptance import Acceptance
from dlm_bench.samplers.acceptance.bounded import Bounded
from dlm_bench.samplers.acceptance.entropy import EntropyBound
from dlm_bench.samplers.acceptance.factor import Factor, ReleasedFactor
from dlm_bench.samplers.acceptance.fixed import Fixed
from dlm_bench.samplers.acceptance.joint import Joint
from dlm_bench.samplers.acceptance.threshold import Strict, Threshold
from dlm_bench.samplers.acceptance.trace import Trace, load_trace
from dlm_bench.samplers.acceptance.traced import Traced
from dlm_bench.samplers.names import names_of, one_of

_KINDS: tuple[type[Acceptance], ...] = (
    Fixed,
    Threshold,
    Strict,
    Bounded,
    Joint,
    EntropyBound,
    Factor,
    ReleasedFactor,
)
RULES = {kind.name: kind for kind in _KINDS}
# The names of the options of each rule.
RULE_OPTIONS = {
    name: tuple(field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]
    for name, kind in RULES.items()
}
OF_PASSES = "which says how many tokens a pass unmasks"
ADAPTIVE = tuple(name for name, kind in RULES.items() if kind.decides)  # the model decides


def rule_with(given: set[str]) -> str | None:
    """Return the first rule by which the model decides that has all of the rules' options among
    the given ones; None if none has, or none is given."""
    asked = given & {option for rule in ADAPTIVE for option in RULE_OPTIONS[rule]}
    return next((rule for rule in ADAPTIVE if asked and asked <= {*RULE_OPTIONS[rule]}), None)


@dataclasses.dataclass(frozen=True)
class AcceptanceOptions:
    """The options of a sampler whose passes follow an acceptance other than a fixed number.

    accept: fixed (tokens_per_step, or the numbers of `trace`); threshold (all tokens with a
        confidence of at least `threshold`); strict (above `threshold`); bounded (above `threshold`,
        and as many as `max_passes` a block need); joint (above `threshold`, and tokens that stand
        are replaced by others above `edit_threshold`, in at most `max_edit_passes` without MASK);
        entropy (as long as the entropies before add up to `gamma` at most); factor (the n surest,
        with (n + 1) (1 - c_n) below `factor`); factor-released (the same by Fast-dLLM's code).
    trace: a Trace, or the path of a file by `dlm-bench trace`.
    """

    accept: str = one_of(RULES)
    threshold: float = 0.9
    factor: float = 1.0
    gamma: float = 0.1
    max_passes: int = 16
    edit_threshold: float = 0.0
    max_edit_passes: int = 16
    trace: str | Trace = ""


def acceptance_of(sampler: Any) -> Acceptance:
    """Return the rule that a sampler's options choose. Raises ConfigError for an unknown rule, a
    value out of range, or a trace that cannot be read."""
    if not isinstance(sampler, AcceptanceOptions):
        return Fixed(sampler.tokens_per_step)
    if sampler.accept == "agreement":
        raise ConfigError(
            "accept: 'agreement' is a rule of sampler 'self-speculation' alone; allowed: "
            f"{', '.join(RULES)}"
        )
    if sampler.accept not in RULES:
        raise unknown("accept", sampler.accept, RULES)
    values = {name: getattr(sampler, name) for name in RULE_OPTIONS[sampler.accept]}
    rule = RULES[sampler.accept](**values)
    return Traced(_trace_of(sampler), rule) if sampler.trace else rule


def _trace_of(sampler: AcceptanceOptions) -> Trace:
    """Return a sampler's trace, of the sampler's own blocks."""
    trace = sampler.trace
    if not isinstance(trace, str | Trace):
        raise ConfigError(f"trace: {trace!r} is not allowed; must be the path of a trace")
    if isinstance(trace, str):
        if sampler.accept != "fixed":
            raise ConfigError(
                f"trace: {trace!r} is not allowed {without_meaning(sampler)['trace']}"
            )
        trace = load_trace(trace)
    name = getattr(sampler, "name", "")
    if trace.sampler != name and trace.sampler in ("pipeline", "self-speculation"):
        raise ConfigError(
            f"trace: {trace.label!r} is a trace of sampler {trace.sampler!r}, which no other can "
            f"follow; not allowed with sampler {name!r}"
        )
    if getattr(sampler, "trace_block", None) != trace.block_size:
        raise _of_other_blocks(sampler, trace)
    return trace


def _of_other_blocks(sampler: AcceptanceOptions, trace: Trace) -> ConfigError:
    """Return the error for a trace of blocks that are not a sampler's."""
    wanted = blocks_of_trace(trace, [field.name for field in dataclasses.fields(sampler)])
    named = " and ".join(f"{option} {value}" for option, value in wanted.items())
    mine = " and ".join(
        f"{option} {value}"
        for option in ("block_size", "sub_block_size")
        if (value := getattr(sampler, option, 0)) or option == "block_size"
    )
    remedy = " and ".join(f"{option}={value}" for option, value in wanted.items())
    if not wanted:
        whole = getattr(sampler, "name", "") == "full"
        remedy = "block_size=0" if whole else "a trace by a sampler with blocks (dlm-bench trace)"
    return ConfigError(
        f"trace: {trace.label!r} is a trace {f'of {named}' if named else 'without blocks'}; not "
        f"allowed with {mine}; must be {remedy}"
    )


def blocks_of_trace(trace: Trace, known: Collection[str]) -> dict[str, int]:
    """Return the options by which a sampler with the options `known` has a trace's blocks."""
    found = trace.blocks
    if "sub_block_size" in found and "sub_block_size" not in known:  # its blocks are the parts
        found = {"block_size": found["sub_block_size"]}
    return found if "block_size" in known else {}


def unused_options(kind: type) -> set[str]:
    """Return the options of a sampler's class that belong to rules which the sampler does not
    take."""
    if not issubclass(kind, AcceptanceOptions):
        return set()
    used = {option for rule in _rules_of(kind) for option in RULE_OPTIONS[rule]}
    return {option for options in RULE_OPTIONS.values() for option in options} - used


def _rules_of(kind: type[AcceptanceOptions]) -> tuple[str, ...]:
    accept = next(field for field in dataclasses.fields(kind) if field.name == "accept")
    return names_of(accept)


def without_meaning(sampler: AcceptanceOptions) -> dict[str, str]:
    """List the options of an acceptance that change nothing beside the others, each with the
    reason."""
    accept, own = sampler.accept, RULE_OPTIONS[sampler.accept]
    takes = _rules_of(type(sampler))
    found = {}
    for option in dict.fromkeys(each for options in RULE_OPTIONS.values() for each in options):
        if option not in own:
            rules = [repr(rule) for rule in takes if option in RULE_OPTIONS[rule]]
            found[option] = f"with accept {accept!r}; allowed with accept {' or '.join(rules)}"
            if not rules:
                named = getattr(sampler, "name", "")
                found[option] = f"with sampler {named!r}, whose rules lack it; leave it out"
            if accept == "fixed" and sampler.trace:
                found[option] = f"with trace, {OF_PASSES}; leave it out"
    if (score := RULES[accept].score) != "confidence":
        found["order"] = f"with accept {accept!r}, which takes the tokens by {score}; leave it out"
    if accept != "fixed":
        found["trace"] = f"with accept {accept!r}, {OF_PASSES}; leave one of the two out"
    elif sampler.trace:
        found["tokens_per_step"] = f"with trace, {OF_PASSES}; leave it out"
    return found
