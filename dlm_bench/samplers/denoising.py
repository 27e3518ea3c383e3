"""The options and steps that the samplers of denoisers share."""

import dataclasses
import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from dlm_bench.errors import ConfigError, check_int, unknown
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.acceptance.acceptance import Acceptance
from dlm_bench.samplers.acceptance.adaptive import decode_until_done, trace_decode
from dlm_bench.samplers.acceptance.fixed import Fixed
from dlm_bench.samplers.acceptance.options import (
    AcceptanceOptions,
    acceptance_of,
    without_meaning,
)
from dlm_bench.samplers.acceptance.traced import Traced, in_step
from dlm_bench.samplers.names import one_of
from dlm_bench.samplers.order import ORDERS
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape, PlannedPass

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.samplers.state import DecodeState


@dataclasses.dataclass(frozen=True)
class DenoisingSampler(Sampler):
    """A sampler of denoisers, with an `acceptance`: the number of tokens that a pass unmasks.

    tokens_per_step: the paper's p; a subclass of AcceptanceOptions, too, has other rules besides.
    order: that in which a pass takes masked tokens (see samplers.order).
    OFF: options of which 0 stands for none; records have them otherwise alone.
    """

    OFF: ClassVar[tuple[str, ...]] = ()

    tokens_per_step: int = 8
    order: str = one_of(ORDERS)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("tokens_per_step", self.tokens_per_step)
        if self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)
        acceptance = self.acceptance
        if acceptance.edits and self.temperature:
            raise ConfigError(
                f"temperature: {self.temperature} is not allowed with accept 'joint', or a trace "
                "of it, whose blocks end where the same tokens are predicted again; must be 0"
            )
        if acceptance.decides and self.order != "confidence":
            raise ConfigError(
                f"order: {self.order!r} is not allowed with accept {acceptance.name!r}, which "
                f"takes tokens by {acceptance.score}; allowed with accept 'fixed'"
            )
        if acceptance.edits and self.order != "confidence":
            raise ConfigError(
                f"order: {self.order!r} is not allowed with a trace of accept 'joint', which edits "
                "by confidence; allowed: confidence"
            )
        if isinstance(acceptance, Traced):
            object.__setattr__(self, "trace", acceptance.trace)  # instead of the path of its file

    @property
    def unmask(self) -> str:
        """The former name of `order`, until version 0.2."""
        text = f"{type(self).__name__}.unmask is order now"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return self.order

    @cached_property
    def acceptance(self) -> Acceptance:
        """The number of tokens that each pass unmasks."""
        return acceptance_of(self)

    def without_meaning(self) -> dict[str, str]:
        return without_meaning(self) if isinstance(self, AcceptanceOptions) else {}

    def options(self) -> dict[str, int | float | str]:
        """Return the options that mean something, by name, defaults included."""
        traced = isinstance(self.acceptance, Traced)
        left_out = {*self.without_meaning()}
        left_out |= {"accept"} if self.acceptance.name == "fixed" else set()
        left_out |= set() if traced else {"trace"}
        left_out |= {option for option in self.OFF if not getattr(self, option)}
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

    @property
    def rows_differ(self) -> bool:
        return isinstance(self.acceptance, Traced) and self.acceptance.trace.differs

    def planned(self, shape: DecodeShape, seed: int = 0) -> Iterator[PlannedPass]:
        if not self.rows_differ or not isinstance(self.acceptance, Traced):
            return super().planned(shape, seed)
        changes: dict[str, Any] = {"trace": self.acceptance.trace.for_batch(shape.batch, seed)}
        drawn = dataclasses.replace(self, **changes)
        return in_step(drawn.passes(shape.length, shape.prompt_len), changes["trace"])

    def run(self, model: Model, state: "DecodeState") -> None:
        if self.is_fixed:
            super().run(model, state)
        else:
            self.run_counting(model, state)

    def run_counting(self, model: Model, state: "DecodeState") -> list[tuple[tuple[int, ...], ...]]:
        return decode_until_done(self, model, state, self.acceptance.edits)

    def block_passes(
        self, number: int, block_len: int, known: int = 0
    ) -> Iterator[tuple[int, int]]:
        """List (tokens masked before, tokens to unmask) of each pass over block `number`, whose
        first `known` tokens are decoded before."""
        return self.acceptance.passes_behind(number, block_len, known)

    def plans_time(self, state: "DecodeState") -> bool:
        """True if the network's t is planned, as all sequences are as far as each other."""
        return not (self.acceptance.decides or state.rows_differ)

    def timestep(self, state: "DecodeState", tokens: "Tensor", prompt_len: int = 0) -> "Tensor":
        """Return the network's t: as planned, (1, 1), or where rows differ or the model decides the
        masked tokens, the masked fraction of `tokens` in each row, (batch, 1). The first
        `prompt_len` count as decoded, MASK among them too."""
        if self.plans_time(state):
            return state.now("t")[:, None]
        masked = tokens[:, prompt_len:] == state.config.mask_id
        return masked.sum(dim=1, keepdim=True) / tokens.shape[1]

    def reveal(self, model: Model, state: "DecodeState", hidden: "Tensor") -> None:
        """Unmask the tokens of this pass, given the block's hidden states (batch, block_len, d)."""
        state.unmask(
            model,
            hidden,
            order=self.order,
            temperature=self.temperature,
            acceptance=self.acceptance,
        )


def check_block_size(
    sampler: DenoisingSampler, block_size: int, option: str = "block_size"
) -> None:
    """Raise ConfigError for a block (the paper's B) of no tokens, or fewer than a pass unmasks."""
    check_int(option, block_size)
    rule = sampler.acceptance
    if isinstance(rule, Fixed) and rule.tokens_per_step > block_size:
        raise ConfigError(
            f"tokens_per_step: {rule.tokens_per_step} is not allowed; "
            f"must be at most {option} ({block_size})"
        )
