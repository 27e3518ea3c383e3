"""Whole-sequence denoising that slows down at the end, where a token depends on most others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from dlm_bench.protocols import Model
from dlm_bench.samplers.sampler import DenoisingSampler
from dlm_bench.samplers.schedule import PlannedPass
from dlm_bench.samplers.state import DecodeState


@dataclass(frozen=True)
class Taper(DenoisingSampler):
    """`tokens_per_step` tokens a pass, but never more than half of what is still masked."""

    name: ClassVar[str] = "taper"

    def plan(self, length: int) -> Iterator[PlannedPass]:
        masked = length
        while masked:
            reveal = min(self.tokens_per_step, -(-masked // 2))
            yield PlannedPass("denoise", length, 0, 0, length, masked, reveal, masked / length)
            masked -= reveal

    def step(self, model: Model, state: DecodeState, kind: str) -> None:
        hidden = model(state.tokens, state.now("t")[None])
        self.reveal(model, state, hidden)
        state.next_pass()
