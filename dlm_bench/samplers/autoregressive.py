"""The autoregressive baseline: one token a pass, with a real KV cache or recurrent state."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from dlm_bench.kernels.lm_head import predict
from dlm_bench.models.cache import Window
from dlm_bench.protocols import Cache, Model
from dlm_bench.samplers.sampler import Sampler, model_caches
from dlm_bench.samplers.schedule import PlannedPass
from dlm_bench.samplers.state import DecodeState


@dataclass(frozen=True)
class Autoregressive(Sampler):
    """Pass i takes token i - 1 (end of text at first) and decodes token i."""

    name: ClassVar[str] = "ar"
    needs: ClassVar[str] = "ar"

    def plan(self, length: int) -> Iterator[PlannedPass]:
        for i in range(length):
            yield PlannedPass("decode", 1, i, i, 1, 1, 1, 0.0)

    def caches(self, model: Model, length: int, batch: int) -> list[Cache]:
        return model_caches(model, length, batch)

    def step(self, model: Model, state: DecodeState, kind: str) -> None:
        position = state.now("block_start")
        previous = state.tokens.index_select(1, (position - 1).clamp(min=0))
        token = torch.where(position == 0, state.config.bos_id, previous)
        hidden = model(token, None, Window(position, (1,), advance=True), state.caches)
        tokens, _ = predict(
            hidden[:, 0],
            model.head.weight,
            state.config.mask_id,
            temperature=self.temperature,
            generator=state.generator,
            seed=state.noise_seed() if self.temperature > 0 else None,
            backend=model.kernels.lm_head,
        )
        state.tokens.index_copy_(1, position, tokens[:, None])
        state.next_pass()
