"""Full-sequence denoising: T = ceil(L / p) passes, each sees and may unmask all of L tokens.

NFE = T. The division is `schedule.reveals`, which says how many tokens each pass unmasks; or T is
asked for, and `steps` divides the tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dlm_bench.errors import ConfigError, check_int, unknown
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.acceptance.options import AcceptanceOptions
from dlm_bench.samplers.denoising import DenoisingSampler, check_block_size
from dlm_bench.samplers.schedule import PlannedPass, blocks
from dlm_bench.samplers.steps import SPREADS, block_steps

if TYPE_CHECKING:
    from dlm_bench.samplers.state import DecodeState


@dataclass(frozen=True)
class Full(AcceptanceOptions, DenoisingSampler):
    """The paper's baseline sampler (its Figure 2 a, b): no cache.

    block_size: B, tokens that are unmasked before those behind them (the semi-autoregressive
        decoding of LLaDA, arXiv 2502.09992); 0 for the whole sequence.
    steps: T, instead of tokens_per_step; 0 for that.
    spread: the division of a block's tokens among its steps (`steps.SPREADS`).
    """

    name: ClassVar[str] = "full"
    OFF: ClassVar[tuple[str, ...]] = ("block_size", "steps")

    block_size: int = 0
    steps: int = 0
    spread: str = "even"

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
        if self.block_size and not self.steps:
            check_block_size(self, self.block_size)

    def without_meaning(self) -> dict[str, str]:
        found = super().without_meaning()
        if self.steps:
            return found | {"tokens_per_step": "with steps, which says how many passes there are"}
        return found | {"spread": "without steps, the passes whose tokens it divides"}

    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        L, total = length, prompt_len + length
        parts = list(blocks(L, self.block_size or L, prompt_len))
        steps = block_steps(self.steps, len(parts)) if self.steps else []
        for number, (start, block_len) in enumerate(parts):
            if self.steps:
                counts = SPREADS[self.spread](block_len, steps[number])
            else:
                counts = self.block_passes(number, block_len)
            tail = "" if block_len in (L, self.block_size) else f":{block_len}"
            for masked, reveal in counts:
                yield PlannedPass(
                    kind=f"denoise{tail}",
                    query_len=total,
                    context_len=0,
                    block_start=start,
                    block_len=block_len,
                    masked=masked,
                    reveal=reveal,
                    t=(masked + total - start - block_len) / total,
                )

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
