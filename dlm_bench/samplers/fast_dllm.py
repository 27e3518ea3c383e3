"""Fast-dLLM (arXiv 2505.22618): a refresh of every cache per block, then cheaper passes.

N = ceil(L / B) blocks of t = ceil(B / p) passes, the first of which is the refresh: NFE = N t.
The caches a refresh leaves are stale for the rest of the block: they hold the keys, values and
Mamba states of the tokens as they were at its first pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dlm_bench.errors import unknown
from dlm_bench.models.window import Window
from dlm_bench.plugins.api import Cache, Model
from dlm_bench.samplers.acceptance.options import AcceptanceOptions
from dlm_bench.samplers.denoising import DenoisingSampler, check_block_size
from dlm_bench.samplers.names import one_of
from dlm_bench.samplers.sampler import model_caches
from dlm_bench.samplers.schedule import PlannedPass, blocks

if TYPE_CHECKING:
    from dlm_bench.samplers.state import DecodeState

CACHES = ("dual", "prefix")


@dataclass(frozen=True)
class FastDLLM(AcceptanceOptions, DenoisingSampler):
    """`cache` dual: passes after the refresh take the block alone, its context the cache of all
    other tokens. `prefix`: they take the block and all that follows, after the cached prefix.

    In a Mamba layer the forward scan restarts from the state at the block's start; the reverse
    scan from the one at the block's end (dual), or anew at the end of the sequence (prefix).
    """

    name: ClassVar[str] = "fast-dllm"
    requires: ClassVar[str] = "fast-dllm"

    block_size: int = 32
    cache: str = one_of(CACHES)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_block_size(self, self.block_size)
        if self.cache not in CACHES:
            raise unknown("cache", self.cache, CACHES)

    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        L, B, total = length, self.block_size, prompt_len + length
        for b, (start, block_len) in enumerate(blocks(L, B, prompt_len)):
            tail = "" if block_len == B else f":{block_len}"
            for index, (masked, reveal) in enumerate(self.block_passes(b, block_len)):
                if index == 0:
                    kind, query, context = f"refresh{tail}", total, 0
                elif self.cache == "dual":
                    kind, query, context = f"denoise{tail}", block_len, total - block_len
                else:
                    query, context = total - start, start
                    kind = f"denoise:{query}"
                yield PlannedPass(
                    kind=kind,
                    query_len=query,
                    context_len=context,
                    block_start=start,
                    block_len=block_len,
                    masked=masked,
                    reveal=reveal,
                    t=(masked + total - start - block_len) / total,
                )

    def caches(self, model: Model, length: int, batch: int) -> list[Cache]:
        return model_caches(model, length, batch, reverse_state=self.cache == "dual")

    def step(self, model: Model, state: "DecodeState", kind: str) -> None:
        query_len, block_len = state.shapes[kind]
        state.begin()
        t = self.timestep(state, state.tokens, state.prompt_len)
        if kind.startswith("refresh"):
            edges = state.now("block_start"), state.now("block_stop")
            window = Window(state.now("never"), (query_len,), whole_context=True, edges=edges)
            hidden = model(state.tokens, t, window, state.caches)
            hidden = hidden.index_select(1, state.block_positions(block_len))
        else:
            start, query = state.query(query_len)
            window = Window(start, (query_len,), whole_context=True)
            hidden = model(query, t, window, state.caches)[:, :block_len]
        self.reveal(model, state, hidden)
        state.next_pass()
