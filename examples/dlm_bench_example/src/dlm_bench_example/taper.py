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

    def plan(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        total, masked = prompt_len + length, length
        while masked:
            reveal = min(self.tokens_per_step, -(-masked // 2))
            t = masked / total
            yield PlannedPass("denoise", total, 0, prompt_len, length, masked, reveal, t)
            masked -= reveal

    def step(self, model: Model, state: DecodeState, kind: str) -> None:
        hidden = model(state.tokens, state.now("t")[None])
        self.reveal(model, state, hidden[:, state.prompt_len :])
        state.next_pass()
