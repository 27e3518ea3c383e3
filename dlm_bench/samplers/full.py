"""Full-sequence denoising: T = ceil(L / p) passes, each sees and may unmask all of L tokens.

NFE = T. T follows from p, or is asked for as `steps`; `steps.spread` divides the tokens among them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from dlm_bench.errors import ConfigError, check_int, unknown
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.acceptance.options import OF_PASSES, AcceptanceOptions
from dlm_bench.samplers.denoising import DenoisingSampler, check_block_size
from dlm_bench.samplers.names import one_of
from dlm_bench.samplers.schedule import DecodeShape, PlannedPass, Rows, blocks
from dlm_bench.samplers.steps import DRAWN, SPREADS, block_steps, passes_with_change, spread

if TYPE_CHECKING:
    from dlm_bench.samplers.state import DecodeState


@dataclass(frozen=True)
class Full(AcceptanceOptions, DenoisingSampler):
    """The paper's baseline sampler (its Figure 2 a, b): no cache.

    block_size: B, tokens that are unmasked before those behind them (the semi-autoregressive
        decoding of LLaDA, arXiv 2502.09992); 0 for the whole sequence.
    steps: T, instead of tokens_per_step; 0 for that.
    spread: the division of a block's tokens among its T steps (`steps.SPREADS`).
    """

    name: ClassVar[str] = "full"
    OFF: ClassVar[tuple[str, ...]] = ("block_size", "steps")

    block_size: int = 0
    steps: int = 0
    spread: str = one_of(SPREADS)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("steps", self.steps, minimum=0)
        check_int("block_size", self.block_size, minimum=0)
        if self.spread not in SPREADS:
            raise unknown("spread", self.spread, SPREADS)
        if self.steps and (self.accept != "fixed" or self.trace):
            other = "trace" if self.trace else f"accept {self.accept!r}"
            raise ConfigError(
                f"steps: {self.steps} is not allowed with {other}, which says how many tokens a "
                "pass unmasks; allowed: 0"
            )
        if self._is_drawn and self.order != "random":
            raise ConfigError(
                f"order: {self.order!r} is not allowed with spread {self.spread!r}, which draws "
                "each token by itself; allowed: random"
            )
        if self._is_drawn and self.spread == "mdlm" and self.temperature:
            raise ConfigError(
                f"temperature: {self.temperature:g} is not allowed with spread 'mdlm': a sequence "
                "would have other noise in a batch, which leaves out other passes; must be 0"
            )
        if self.block_size and not self.steps:
            check_block_size(self, self.block_size)

    def without_meaning(self) -> dict[str, str]:
        found = super().without_meaning()
        if self.steps:
            found["tokens_per_step"] = (
                "with steps, which says how many passes there are; leave it out"
            )
        if not self._is_spread:
            other = "trace" if self.trace else f"accept {self.accept!r}"
            found["spread"] = f"with {other}, {OF_PASSES}; leave it out"
        return found

    def options(self) -> dict[str, int | float | str]:
        found = super().options()
        if not self.steps and self.spread == "even":  # as all records of p tokens a pass
            found.pop("spread", None)
        return found

    @property
    def rows_differ(self) -> bool:
        return self._is_drawn or super().rows_differ

    @property
    def _is_spread(self) -> bool:
        return self.accept == "fixed" and not self.trace

    @property
    def _is_drawn(self) -> bool:
        return self._is_spread and self.spread in DRAWN

    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        return self._passes(DecodeShape(length, prompt_len), range(1))

    def planned(self, shape: DecodeShape, seed: int = 0) -> Iterator[PlannedPass]:
        if self._is_drawn:
            return self._passes(shape, range(seed, seed + shape.batch))
        return super().planned(shape, seed)

    def expected_passes(self, shape: DecodeShape) -> float | None:
        if self.spread != "mdlm" or not self._is_spread:
            return None
        parts = [tokens for _, tokens in blocks(shape.length, self.block_size or shape.length)]
        return sum(
            passes_with_change(shape.batch * tokens, T)
            for tokens, T in zip(parts, self._steps(parts), strict=True)
        )

    def _steps(self, parts: list[int]) -> list[int]:
        """The passes T over each block, given their tokens."""
        if self.steps:
            return block_steps(self.steps, len(parts))
        return [-(-tokens // self.tokens_per_step) for tokens in parts]

    def _passes(self, shape: DecodeShape, seeds: Iterable[int]) -> Iterator[PlannedPass]:
        """List the passes of a decode whose sequences have these seeds."""
        L, total = shape.length, shape.total
        parts = list(blocks(L, self.block_size or L, shape.prompt_len))
        steps = self._steps([block_len for _, block_len in parts])
        draws = [Random(seed) for seed in seeds]
        for number, (start, block_len) in enumerate(parts):
            tail = "" if block_len in (L, self.block_size) else f":{block_len}"
            rows = (self._counts(number, block_len, steps[number], draw) for draw in draws)
            for at in zip(*rows, strict=True):
                masked, reveal = zip(*at, strict=True)
                if self.spread == "mdlm" and self._is_drawn and not any(reveal):
                    continue
                most, batch, apart = max(masked), len(at), None
                if batch > 1:
                    apart = Rows((start,) * batch, (block_len,) * batch, masked, reveal)
                yield PlannedPass(
                    kind=f"denoise{tail}",
                    query_len=total,
                    context_len=0,
                    block_start=start,
                    block_len=block_len,
                    masked=most,
                    reveal=most - max(before - now for before, now in at),
                    t=(most + total - start - block_len) / total,
                    rows=apart,
                )

    def _counts(
        self, number: int, block_len: int, steps: int, draw: Random
    ) -> Iterator[tuple[int, int]]:
        """List (tokens masked before, tokens to unmask) of each pass over a block of a sequence."""
        if self._is_spread:
            return spread(self.spread, block_len, steps, draw)
        return self.block_passes(number, block_len)

    def step(self, model: Model, state: "DecodeState", kind: str) -> None:
        state.begin()
        hidden = model(state.tokens, self.timestep(state, state.tokens, state.prompt_len))
        if self.block_size:
            _, block_len = state.shapes[kind]
            block = hidden.index_select(1, state.block_positions(block_len))
        else:
            block = hidden[:, state.prompt_len :]
        self.reveal(model, state, block)
        state.next_pass()
