"""The options and steps that the samplers of denoisers share."""

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from dlm_bench.errors import ConfigError, check_int, unknown
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.acceptance.acceptance import Acceptance, AcceptanceOptions
from dlm_bench.samplers.acceptance.adaptive import decode_until_done, trace_decode
from dlm_bench.samplers.acceptance.trace import load_trace
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.samplers.state import DecodeState

UNMASKS = ("confidence", "random")  # the order in which tokens are unmasked


@dataclasses.dataclass(frozen=True)
class DenoisingSampler(Sampler):
    """A sampler of denoisers, with an `acceptance`: the number of tokens that a pass unmasks.

    tokens_per_step: the paper's p; a subclass of AcceptanceOptions, too, has other rules besides.
    unmask: the order, by confidence or random.
    """

    tokens_per_step: int = 8
    unmask: str = "confidence"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("tokens_per_step", self.tokens_per_step)
        if self.unmask not in UNMASKS:
            raise unknown("unmask", self.unmask, UNMASKS)
        acceptance = self._acceptance()
        if acceptance.accept != "fixed" and self.unmask != "confidence":
            raise ConfigError(
                f"unmask: {self.unmask!r} is not allowed with accept {acceptance.accept!r}; "
                "allowed: confidence"
            )
        if acceptance.trace:
            self._take_trace(acceptance)

    def _take_trace(self, acceptance: Acceptance) -> None:
        """Read a trace's file, and check that the blocks are this sampler's."""
        trace = acceptance.trace
        if acceptance.accept != "fixed" and isinstance(trace, str):
            why = acceptance.without_meaning()["trace"]
            raise ConfigError(f"trace: {trace!r} is not allowed {why}")
        trace = load_trace(trace) if isinstance(trace, str) else trace
        own, of_trace = getattr(self, "block_size", None), trace.block_size
        if own != of_trace:
            named = "without blocks" if of_trace is None else f"of block_size {of_trace}"
            raise ConfigError(
                f"trace: {trace.label!r} is a trace {named}; not allowed with "
                f"{f'block_size {own}' if own else f'sampler {self.name!r}, which has no blocks'}"
            )
        object.__setattr__(self, "trace", trace)

    @cached_property
    def acceptance(self) -> Acceptance:
        """The number of tokens that each pass unmasks."""
        return self._acceptance()

    def _acceptance(self) -> Acceptance:
        options = self if isinstance(self, AcceptanceOptions) else AcceptanceOptions()
        return Acceptance(
            tokens_per_step=self.tokens_per_step,
            accept=options.accept,
            threshold=options.threshold,
            factor=options.factor,
            trace=options.trace,
        )

    def without_meaning(self) -> dict[str, str]:
        return self.acceptance.without_meaning()

    def options(self) -> dict[str, int | float | str]:
        """Return the options that mean something, by name, defaults included."""
        left_out = {*self.without_meaning()}
        left_out |= {"accept"} if self.acceptance.accept == "fixed" else set()
        left_out |= set() if self.acceptance.trace else {"trace"}
        names = [field.name for field in dataclasses.fields(self) if field.name not in left_out]
        found = {name: getattr(self, name) for name in names}
        return found | ({"trace": found["trace"].label} if "trace" in found else {})

    @property
    def is_fixed(self) -> bool:
        return self.acceptance.is_fixed

    def scheduled_for(self, model: Model, shape: DecodeShape, seed: int = 0) -> Self:
        if self.is_fixed:
            return self
        changes: dict[str, Any] = {"trace": trace_decode(model, self, shape, seed)}
        return dataclasses.replace(self, **changes)

    def run(self, model: Model, state: "DecodeState") -> None:
        if self.is_fixed:
            super().run(model, state)
        else:
            decode_until_done(self, model, state)

    def block_passes(self, number: int, block_len: int) -> Iterator[tuple[int, int]]:
        """List (tokens masked before, tokens to unmask) of each pass over block `number`."""
        return self.acceptance.block_passes(number, block_len)

    def timestep(self, state: "DecodeState", tokens: "Tensor") -> "Tensor":
        """Return the network's t: as planned, (1, 1), or if the model decides the masked tokens,
        the masked fraction of `tokens` in each row, (batch, 1)."""
        if self.acceptance.accept == "fixed":
            return state.now("t")[None]
        return (tokens == state.config.mask_id).sum(dim=1, keepdim=True) / tokens.shape[1]

    def reveal(self, model: Model, state: "DecodeState", hidden: "Tensor") -> None:
        """Unmask the tokens of this pass, given the block's hidden states (batch, block_len, d)."""
        state.unmask(
            model,
            hidden,
            rule=self.unmask,
            temperature=self.temperature,
            accept=self.acceptance.rule,
        )


def check_block_size(sampler: DenoisingSampler, block_size: int) -> None:
    """Raise ConfigError for a block (the paper's B) of no tokens, or fewer than a pass unmasks."""
    check_int("block_size", block_size)
    if sampler.acceptance.is_rate and sampler.tokens_per_step > block_size:
        raise ConfigError(
            f"tokens_per_step: {sampler.tokens_per_step} is not allowed; "
            f"must be at most block_size ({block_size})"
        )
