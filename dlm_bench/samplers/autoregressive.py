"""The autoregressive baseline: one token a pass, with a real KV cache or recurrent state.

NFE = L, or L - 1 after a prefill pass, which decodes the first token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dlm_bench.models.window import Window
from dlm_bench.plugins.api import Cache, Model
from dlm_bench.samplers.sampler import Sampler, model_caches
from dlm_bench.samplers.schedule import PREFILL, PlannedPass

if TYPE_CHECKING:
    from dlm_bench.samplers.state import DecodeState


@dataclass(frozen=True)
class Autoregressive(Sampler):
    """Pass i takes token i - 1 (end of text at first) and decodes token i.

    With a prompt the first token is decoded by the prefill pass over all of the prompt.
    """

    name: ClassVar[str] = "ar"
    requires: ClassVar[str] = "ar"

    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        L = length
        if prompt_len:
            yield token_pass(PREFILL, query=prompt_len, context=0, position=prompt_len)
            for i in range(prompt_len + 1, prompt_len + L):
                yield token_pass("decode", query=1, context=i - 1, position=i)
            return
        for i in range(L):
            yield token_pass("decode", query=1, context=i, position=i)

    def caches(self, model: Model, length: int, batch: int) -> list[Cache]:
        return model_caches(model, length, batch)

    def step(self, model: Model, state: "DecodeState", kind: str) -> None:
        import torch

        state.begin()
        position = state.now("block_start")
        previous = state.tokens.index_select(1, (position - 1).clamp(min=0))
        if state.config.mask_id >= state.config.vocab_size:
            # MASK is here only after logits that were not finite, and has no embedding.
            previous = previous.clamp(max=state.config.vocab_size - 1)
        if kind == PREFILL:
            query = state.tokens[:, : state.prompt_len]
            start = torch.zeros_like(position)
            window = Window(start, (state.prompt_len,), advance=True, first=True)
        elif state.prompt_len:
            query, window = previous, Window(position - 1, (1,), advance=True)
        else:
            # End of text stands before the first token, so that token i is taken at position i + 1.
            query = torch.where(position == 0, state.config.bos_id, previous)
            window = Window(position, (1,), advance=True)
        hidden = model(query, None, window, state.caches)
        tokens, _ = state.predict(model, hidden[:, -1:], self.temperature)
        state.tokens.index_copy_(1, position, tokens)
        state.next_pass()


def token_pass(kind: str, query: int, context: int, position: int) -> PlannedPass:
    """Return the causal pass that decodes the token at a position, a prefill of a prompt too."""
    return PlannedPass(
        kind=kind,
        query_len=query,
        context_len=context,
        block_start=position,
        block_len=1,
        masked=1,
        reveal=1,
        t=0.0,
    )
