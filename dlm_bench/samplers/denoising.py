"""The rules of unmasking and the blocks that the samplers of denoisers share."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from dlm_bench.errors import ConfigError, check_int, check_number, unknown
from dlm_bench.plugins.api import Cache, Model
from dlm_bench.samplers.acceptance.trace import Trace, load_trace
from dlm_bench.samplers.sampler import Sampler, model_caches
from dlm_bench.samplers.schedule import DecodeShape, remaining, reveals

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.samplers.state import DecodeState

# The rules of samplers.acceptance, by the option that each takes its value from.
RULE_OPTIONS = {"threshold": "threshold", "factor": "factor", "factor-released": "factor"}
ACCEPTS = ("fixed", *RULE_OPTIONS)  # how many tokens a pass unmasks
UNMASKS = ("confidence", "random")  # which of them


@dataclasses.dataclass(frozen=True)
class DenoisingSampler(Sampler):
    """A sampler of denoisers with a rule of which tokens a pass unmasks. Its plan says how many."""

    tokens_per_step: int = 8
    unmask: str = "confidence"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("tokens_per_step", self.tokens_per_step)
        if self.unmask not in UNMASKS:
            raise unknown("unmask", self.unmask, UNMASKS)

    def reveal(self, model: Model, state: "DecodeState", hidden: "Tensor") -> None:
        """Unmask what this pass is to, given the block's hidden states (batch, block_len, d)."""
        from dlm_bench.samplers.unmask import unmask

        unmask(
            model,
            state,
            hidden,
            rule=self.unmask,
            temperature=self.temperature,
        )


@dataclasses.dataclass(frozen=True)
class AcceptingSampler(DenoisingSampler):
    """A sampler whose passes unmask a fixed number of tokens, or as many as the model is sure of.

    `accept` fixed: `tokens_per_step` (the paper's p), or what a pass of `trace` (a file that
    `dlm-bench trace` wrote, or a Trace) accepted. threshold: those with a confidence of at least
    `threshold`. factor: the n surest, with (n + 1) (1 - c_n) < `factor`. factor-released: the same
    as Fast-dLLM's code has it. See samplers.acceptance.rules.
    """

    accept: str = "fixed"
    threshold: float = 0.9
    factor: float = 1.0
    trace: str | Trace = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.accept not in ACCEPTS:
            raise unknown("accept", self.accept, ACCEPTS)
        check_number("threshold", self.threshold, maximum=1.0)
        check_number("factor", self.factor, above=True)
        if self.accept != "fixed" and self.unmask != "confidence":
            raise ConfigError(
                f"unmask: {self.unmask!r} is not allowed with accept {self.accept!r}; "
                "allowed: confidence"
            )
        if not isinstance(self.trace, str | Trace):
            raise ConfigError(f"trace: {self.trace!r} is not allowed; must be the path of a trace")
        if self.trace:
            self._take_trace()

    def _take_trace(self) -> None:
        if self.accept != "fixed" and isinstance(self.trace, str):
            why = self.without_meaning()["trace"]
            raise ConfigError(f"trace: {self.trace!r} is not allowed {why}")
        trace = load_trace(self.trace) if isinstance(self.trace, str) else self.trace
        own, its = getattr(self, "block_size", None), trace.block_size
        if own != its:
            named = "without blocks" if its is None else f"of block_size {its}"
            raise ConfigError(
                f"trace: {trace.label!r} is a trace {named}; not allowed with "
                f"{f'block_size {own}' if own else f'sampler {self.name!r}, which has no blocks'}"
            )
        object.__setattr__(self, "trace", trace)

    def without_meaning(self) -> dict[str, str]:
        if self.accept == "fixed":
            why = "with accept 'fixed'; allowed with accept 'threshold' or 'factor'"
            found = {"threshold": why, "factor": why}
            if self.trace:
                found["tokens_per_step"] = "with trace, which says how many tokens a pass unmasks"
            return found
        why = f"with accept {self.accept!r}, which says how many tokens a pass unmasks"
        others = {*RULE_OPTIONS.values()} - {RULE_OPTIONS[self.accept]}
        return {"tokens_per_step": why, "trace": why} | dict.fromkeys(others, why)

    def options(self) -> dict[str, int | float | str]:
        """The options that mean something, by name, defaults included."""
        left_out = {*self.without_meaning()}
        left_out |= {"accept"} if self.accept == "fixed" else set()
        left_out |= set() if self.trace else {"trace"}
        names = [field.name for field in dataclasses.fields(self) if field.name not in left_out]
        found = {name: getattr(self, name) for name in names}
        return found | ({"trace": found["trace"].label} if "trace" in found else {})

    @property
    def fixed_rate(self) -> bool:
        """True if a pass unmasks tokens_per_step tokens."""
        return self.accept == "fixed" and not self.trace

    @property
    def known(self) -> bool:
        return self.accept == "fixed" or bool(self.trace)

    def scheduled_for(self, model: Model, shape: DecodeShape, seed: int = 0) -> Self:
        if self.known:
            return self
        from dlm_bench.samplers.acceptance.adaptive import trace_decode

        trace = trace_decode(model, self, shape, seed)
        return dataclasses.replace(self, trace=trace)

    def run(self, model: Model, state: "DecodeState") -> None:
        if self.known:
            super().run(model, state)
        else:
            from dlm_bench.samplers.acceptance.adaptive import decode_until_done

            decode_until_done(self, model, state)

    def block_passes(self, number: int, block_len: int) -> Iterator[tuple[int, int]]:
        """(tokens masked before, tokens to unmask) of each pass over block `number`."""
        if isinstance(self.trace, Trace):
            return remaining(self.trace.counts(number, block_len), block_len)
        return reveals(block_len, self.tokens_per_step if self.fixed_rate else 1)

    def timestep(self, state: "DecodeState", tokens: "Tensor") -> "Tensor":
        """The network's t: as planned, (1, 1), or where the model decides what is masked, the
        masked fraction of `tokens` in each row, (batch, 1)."""
        if self.accept == "fixed":
            return state.now("t")[None]
        return (tokens == state.config.mask_id).sum(dim=1, keepdim=True) / tokens.shape[1]

    def reveal(self, model: Model, state: "DecodeState", hidden: "Tensor") -> None:
        from dlm_bench.samplers.unmask import unmask

        option = RULE_OPTIONS.get(self.accept)
        unmask(
            model,
            state,
            hidden,
            rule=self.unmask,
            temperature=self.temperature,
            accept=None if option is None else (self.accept, getattr(self, option)),
        )


@dataclasses.dataclass(frozen=True)
class BlockSampler(AcceptingSampler):
    """A sampler that goes block by block from the left, with `block_size` (the paper's B)."""

    block_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("block_size", self.block_size)
        if self.fixed_rate and self.tokens_per_step > self.block_size:
            raise ConfigError(
                f"tokens_per_step: {self.tokens_per_step} is not allowed; "
                f"must be at most block_size ({self.block_size})"
            )

    def caches(self, model: Model, length: int, batch: int) -> list[Cache]:
        return model_caches(model, length, batch)
