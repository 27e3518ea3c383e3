"""Full-sequence denoising: T = ceil(L / p) passes, each sees and may unmask all of L tokens.

NFE = T. The division is `schedule.reveals`, which says how many tokens each pass unmasks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dlm_bench.plugins.api import Model
from dlm_bench.samplers.acceptance.options import AcceptanceOptions
from dlm_bench.samplers.denoising import DenoisingSampler
from dlm_bench.samplers.schedule import PlannedPass

if TYPE_CHECKING:
    from dlm_bench.samplers.state import DecodeState


@dataclass(frozen=True)
class Full(AcceptanceOptions, DenoisingSampler):
    """The paper's baseline sampler (its Figure 2 a, b): no cache."""

    name: ClassVar[str] = "full"

    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        L, total = length, prompt_len + length
        for masked, reveal in self.block_passes(0, L):
            yield PlannedPass(
                kind="denoise",
                query_len=total,
                context_len=0,
                block_start=prompt_len,
                block_len=L,
                masked=masked,
                reveal=reveal,
                t=masked / total,
            )

    def step(self, model: Model, state: "DecodeState", kind: str) -> None:
        state.begin()
        hidden = model(state.tokens, self.timestep(state, state.tokens, state.prompt_len))
        self.reveal(model, state, hidden[:, state.prompt_len :])
        state.next_pass()
