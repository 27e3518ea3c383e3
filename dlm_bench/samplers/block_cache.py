"""Block-autoregressive denoising with cache reuse (the paper's Figure 2 c, d).

Blocks go from left to right. A block's tokens see each other both ways and all blocks before
them: attention through its keys and values, Mamba through the forward state, both cached; the
reverse scan lives inside the block. A prompt is a clean block in front of them all, put into the
cache by a prefill pass.

N = ceil(L / B) blocks of t = ceil(B / p) passes: NFE = N t + N - 1 with a commit pass after each
block but the last (commit=separate), N t without (fused, none).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dlm_bench.errors import ConfigError, unknown
from dlm_bench.models.window import Window
from dlm_bench.plugins.api import Cache, Model
from dlm_bench.samplers.acceptance.options import AcceptanceOptions
from dlm_bench.samplers.denoising import DenoisingSampler, check_block_size
from dlm_bench.samplers.sampler import model_caches
from dlm_bench.samplers.schedule import PREFILL, PlannedPass, blocks

if TYPE_CHECKING:
    from dlm_bench.samplers.state import DecodeState

COMMITS = ("separate", "fused", "none")


@dataclass(frozen=True)
class BlockCache(AcceptanceOptions, DenoisingSampler):
    """`commit` says how a finished block enters the cache.

    separate: by a pass of its own over the clean block at t = 0 (not after the last block).
    fused: the next block's first pass carries the clean block in front, at its own t.
    none: not at all; the cache of the block's last denoising pass stays (the paper's wording).
    """

    name: ClassVar[str] = "block-cache"
    requires: ClassVar[str] = "block-cache"

    block_size: int = 32
    commit: str = "separate"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_block_size(self, self.block_size)
        if self.commit not in COMMITS:
            raise unknown("commit", self.commit, COMMITS)
        if self.commit == "none" and self.accept != "fixed":
            raise ConfigError(
                f"commit: 'none' is not allowed with accept {self.accept!r}: it keeps the cache of "
                "a block's last pass, and which it was shows after it; allowed: separate, fused"
            )

    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        L, B = length, self.block_size
        if prompt_len:
            yield _clean(PREFILL, start=0, tokens=prompt_len)
        for b, (start, block_len) in enumerate(blocks(L, B, prompt_len)):
            tail = "" if block_len == B else f":{block_len}"
            last_block = start + block_len == prompt_len + length
            for masked, reveal in self.block_passes(b, block_len):
                kind, query, context = f"denoise{tail}", block_len, start
                if self.commit == "fused" and masked == block_len and start > prompt_len:
                    kind, query, context = f"fused{tail}", B + block_len, start - B
                elif self.commit == "none" and masked == reveal and not last_block:
                    kind = "keep"
                yield PlannedPass(
                    kind=kind,
                    query_len=query,
                    context_len=context,
                    block_start=start,
                    block_len=block_len,
                    masked=masked,
                    reveal=reveal,
                    t=masked / block_len,
                )
            if self.commit == "separate" and not last_block:
                yield _clean("commit", start=start, tokens=B)

    def caches(self, model: Model, length: int, batch: int) -> list[Cache]:
        return model_caches(model, length, batch)

    def step(self, model: Model, state: "DecodeState", kind: str) -> None:
        import torch

        query_len, block_len = state.shapes[kind]
        start = state.now("block_start")
        clean = query_len - block_len  # of a fused pass
        if clean:
            window = Window(start - clean, (clean, block_len), advance=True)
        else:
            first = kind == PREFILL
            advance = first or kind in ("commit", "keep")
            window = Window(start, (query_len,), advance=advance, first=first)
        query = state.tokens.index_select(1, window.positions())
        t = self.timestep(state, query[:, clean:], query_len if kind == PREFILL else 0)
        if clean:
            t = torch.cat((torch.zeros_like(t), t), dim=1)
        hidden = model(query, t, window, state.caches)
        if kind not in ("commit", PREFILL):
            self.reveal(model, state, hidden[:, clean:])
        state.next_pass()


def _clean(kind: str, start: int, tokens: int) -> PlannedPass:
    """Return a pass over clean tokens, at t = 0, to fill the cache and unmask nothing."""
    return PlannedPass(
        kind=kind,
        query_len=tokens,
        context_len=start,
        block_start=start,
        block_len=tokens,
        masked=0,
        reveal=0,
        t=0.0,
    )
