"""Whole-sequence denoising that slows down at the end, where a token depends on most others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from dlm_bench.plugins.api import Model
from dlm_bench.samplers.denoising import DenoisingSampler
from dlm_bench.samplers.schedule import PlannedPass
from dlm_bench.samplers.state import DecodeState


@dataclass(frozen=True)
class Taper(DenoisingSampler):
    """`tokens_per_step` tokens a pass, but never more than half of what is still masked."""

    name: ClassVar[str] = "taper"

    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        total, masked = prompt_len + length, length
        while masked:
            reveal = min(self.tokens_per_step, -(-masked // 2))
            yield PlannedPass(
                kind="denoise",
                query_len=total,
                context_len=0,
                block_start=prompt_len,
                block_len=length,
                masked=masked,
                reveal=reveal,
                t=masked / total,
            )
            masked -= reveal

    def step(self, model: Model, state: DecodeState, kind: str) -> None:
        hidden = model(state.tokens, state.now("t")[None])
        self.reveal(model, state, hidden[:, state.prompt_len :])
        state.next_pass()
