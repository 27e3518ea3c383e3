"""The number of tokens that the passes of a denoising sampler unmask."""

from collections.abc import Iterator
from dataclasses import dataclass

from dlm_bench.errors import ConfigError, check_number, unknown
from dlm_bench.samplers.acceptance.trace import Trace
from dlm_bench.samplers.schedule import remaining, reveals

# The rules of samplers.acceptance.rules, each with the option that is its value.
RULE_OPTIONS = {"threshold": "threshold", "factor": "factor", "factor-released": "factor"}
ACCEPTS = ("fixed", *RULE_OPTIONS)


@dataclass(frozen=True)
class AcceptanceOptions:
    """The options of a sampler whose passes follow an acceptance other than a fixed number.

    accept: fixed (tokens_per_step, or the numbers of `trace`); threshold (all tokens with a
        confidence of at least `threshold`); factor (the n surest, with (n + 1) (1 - c_n) below
        `factor`); factor-released (the same by Fast-dLLM's code). See acceptance.rules.
    trace: a Trace, or the path of a file by `dlm-bench trace`.
    """

    accept: str = "fixed"
    threshold: float = 0.9
    factor: float = 1.0
    trace: str | Trace = ""


@dataclass(frozen=True)
class Acceptance:
    """The acceptance of a sampler: a fixed number of tokens, a trace's numbers, or a rule.

    tokens_per_step: the fixed number, the paper's p.
    accept: "fixed", or the rule by which the model's confidence decides.
    threshold, factor: the values of the rules.
    trace: replayed numbers, or the path of their file; empty without a trace.
    """

    tokens_per_step: int
    accept: str
    threshold: float
    factor: float
    trace: Trace | str

    def __post_init__(self) -> None:
        if self.accept not in ACCEPTS:
            raise unknown("accept", self.accept, ACCEPTS)
        check_number("threshold", self.threshold, maximum=1.0)
        check_number("factor", self.factor, above=True)
        if not isinstance(self.trace, str | Trace):
            raise ConfigError(f"trace: {self.trace!r} is not allowed; must be the path of a trace")

    @property
    def is_rate(self) -> bool:
        """True if a pass unmasks tokens_per_step tokens."""
        return self.accept == "fixed" and not self.trace

    @property
    def is_fixed(self) -> bool:
        """True if the numbers are fixed before a decode."""
        return self.accept == "fixed" or bool(self.trace)

    @property
    def rule(self) -> tuple[str, float] | None:
        """The rule and its value; None if the number of a pass is fixed."""
        option = RULE_OPTIONS.get(self.accept)
        return None if option is None else (self.accept, getattr(self, option))

    def block_passes(self, number: int, block_len: int) -> Iterator[tuple[int, int]]:
        """List (tokens masked before, tokens to unmask) of each pass over block `number`."""
        if isinstance(self.trace, Trace):
            return remaining(self.trace.counts(number, block_len), block_len)
        return reveals(block_len, self.tokens_per_step if self.is_rate else 1)

    def without_meaning(self) -> dict[str, str]:
        """List the options that change nothing beside the others, each with the reason."""
        if self.accept == "fixed":
            why = "with accept 'fixed'; allowed with accept 'threshold' or 'factor'"
            found = {"threshold": why, "factor": why}
            if self.trace:
                found["tokens_per_step"] = "with trace, which says how many tokens a pass unmasks"
            return found
        why = f"with accept {self.accept!r}, which says how many tokens a pass unmasks"
        others = {*RULE_OPTIONS.values()} - {RULE_OPTIONS[self.accept]}
        return {"tokens_per_step": why, "trace": why} | dict.fromkeys(others, why)
