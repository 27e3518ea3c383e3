"""Block-autoregressive denoising with cache reuse (the paper's Figure 2 c, d).

Blocks go from left to right. A block's tokens see each other both ways and all blocks before
them: attention through its keys and values, Mamba through the forward state, both cached; the
reverse scan lives inside the block. A prompt is a clean block in front of them all, put into the
cache by a prefill pass.

N = ceil(L / B) blocks of t = ceil(B / p) passes: NFE = N t + N - 1 with a commit pass after each
block but the last (commit=separate), N t without (fused, none).

With sub-blocks of S tokens (`sub_blocks`) t = ceil(S / p) for each of L / S of them.

With first_token=commit a model with a token shift predicts the first token of a block, or of the
first sub-block, by the pass over the clean tokens before: there t = ceil((S - 1) / p).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, ClassVar

from dlm_bench.errors import ConfigError, unknown
from dlm_bench.models.window import Window
from dlm_bench.plugins.api import Cache, Model
from dlm_bench.samplers import clean_passes, sub_blocks
from dlm_bench.samplers.acceptance.options import AcceptanceOptions
from dlm_bench.samplers.clean_passes import (
    FIRST_TOKENS,
    check_first_token,
    clean_pass_before,
    is_ahead,
    is_clean,
    take_first,
    takes_first,
)
from dlm_bench.samplers.denoising import DenoisingSampler, check_block_size
from dlm_bench.samplers.first_done import decode_first_done, first_done, step_mixed
from dlm_bench.samplers.names import one_of
from dlm_bench.samplers.sampler import model_caches
from dlm_bench.samplers.schedule import (
    COMMIT,
    MIXED,
    PREFILL,
    DecodeShape,
    PlannedPass,
    blocks,
)

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.samplers.state import DecodeState

COMMITS = ("separate", "fused", "none")
BATCHINGS = ("lockstep", "fdfo")


@dataclass(frozen=True)
class BlockCache(AcceptanceOptions, DenoisingSampler):
    """`commit` says how a finished block enters the cache, `sub_block_size` is S, or 0 for none.

    separate: by a pass of its own over the clean block at t = 0 (not after the last block).
    fused: the next block's first pass carries the clean block in front, at its own t.
    none: not at all; the cache of the block's last denoising pass stays (the paper's wording).

    `batching` says when a sequence of a batch begins its next block.
    lockstep: when all have finished theirs.
    fdfo: at once (first done, first out; see first_done).

    `first_token` says what decides the first token of a block.
    rule: the acceptance, as of all others.
    commit: the pass over the clean block before, or the prefill, whose last place predicts it
        (Fast-dLLM v2); there is none before the first block without a prompt.
    """

    name: ClassVar[str] = "block-cache"
    requires: ClassVar[str] = "block-cache"
    OFF: ClassVar[tuple[str, ...]] = ("sub_block_size",)

    block_size: int = 32
    commit: str = one_of(COMMITS)
    sub_block_size: int = 0
    batching: str = one_of(BATCHINGS)
    first_token: str = one_of(FIRST_TOKENS)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_block_size(self, self.block_size)
        sub_blocks.check_size(self.sub_block_size, self.block_size)
        if self.sub_block_size:
            check_block_size(self, self.sub_block_size, "sub_block_size")
        if self.commit not in COMMITS:
            raise unknown("commit", self.commit, COMMITS)
        if self.batching not in BATCHINGS:
            raise unknown("batching", self.batching, BATCHINGS)
        if self.batching == "fdfo" and self.commit != "separate":
            raise ConfigError(
                f"commit: {self.commit!r} is not allowed with batching 'fdfo', whose passes commit "
                "a block of one sequence beside another's denoising; allowed: separate"
            )
        if self.batching == "fdfo" and self.sub_block_size:
            raise ConfigError(
                f"sub_block_size: {self.sub_block_size} is not allowed with batching 'fdfo', whose "
                "passes take whole blocks; allowed: 0"
            )
        if self.commit == "none" and self.rows_differ:
            raise ConfigError(
                "commit: 'none' is not allowed with a trace of several sequences: it keeps the "
                "cache of a block's last pass, and they have their last ones apart; allowed: "
                "separate, fused"
            )
        check_first_token(self)
        if self.acceptance.edits:
            self._check_edits()
        if self.commit == "none" and self.accept != "fixed":
            raise ConfigError(
                f"commit: 'none' is not allowed with accept {self.accept!r}: it keeps the cache of "
                "a block's last pass, and which it was shows after it; allowed: separate, fused"
            )

    def _check_edits(self) -> None:
        """Raise ConfigError for an option beside which no token is replaced."""
        why = "with accept 'joint', or a trace of it, which edits the whole blocks of all sequences"
        if self.sub_block_size:
            raise ConfigError(
                f"sub_block_size: {self.sub_block_size} is not allowed {why}; allowed: 0"
            )
        if self.batching == "fdfo":
            raise ConfigError(f"batching: 'fdfo' is not allowed {why}; allowed: lockstep")
        if self.commit == "none":
            raise ConfigError(f"commit: 'none' is not allowed {why}; allowed: separate, fused")

    @property
    def trace_block(self) -> int:
        return self.sub_block_size or self.block_size

    def check_supports(
        self, backbone: str, supports: tuple[str, ...], length: int = 1, prompt_len: int = 0
    ) -> None:
        super().check_supports(backbone, supports, length, prompt_len)
        sub_blocks.check_supports(self.sub_block_size, backbone, supports)
        clean_passes.check_supports(self.first_token, backbone, supports)

    def options(self) -> dict[str, int | float | str]:
        found = super().options()
        # As all records of before there were others.
        for option, usual in (("batching", "lockstep"), ("first_token", "rule")):
            if found[option] == usual:
                del found[option]
        return found

    @property
    def rows_differ(self) -> bool:
        return self.batching == "fdfo" or super().rows_differ

    def planned(self, shape: DecodeShape, seed: int = 0) -> Iterator[PlannedPass]:
        if self.batching == "lockstep":
            return super().planned(shape, seed)
        alone = replace(self, batching="lockstep")
        plans = [
            list(alone.planned(replace(shape, batch=1), seed + row)) for row in range(shape.batch)
        ]
        return first_done(plans, self.block_size)

    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        if self.batching == "fdfo":
            return self.planned(DecodeShape(length, prompt_len))
        return self._in_step(length, prompt_len)

    def _in_step(self, length: int, prompt_len: int) -> Iterator[PlannedPass]:
        L, B, end = length, self.block_size, prompt_len + length
        if prompt_len:
            yield clean_pass_before(self, PREFILL, start=0, tokens=prompt_len, left=L)
        numbers = count()
        for start, block_len in blocks(L, B, prompt_len):
            stop = start + block_len
            last_block = stop == end
            for part, part_len in blocks(block_len, self.sub_block_size or B, start):
                tail = "" if block_len == B else f":{block_len}"
                tail += "" if part_len in (block_len, self.sub_block_size) else f":{part_len}"
                known = int(part == start > 0 and takes_first(self, block_len))
                passes = self.block_passes(next(numbers), part_len, known)
                for index, (masked, reveal) in enumerate(passes):
                    first, last = index == 0, masked == reveal and part + part_len == stop
                    kind, query, context = f"denoise{tail}", part_len, stop - part_len
                    if self.commit == "fused" and first and prompt_len < start == part:
                        kind, query, context = f"fused{tail}", B + block_len, start - B
                    elif self.sub_block_size and first:
                        kind, query, context = f"refresh{tail}", block_len, start
                    if self.commit == "none" and last and not last_block:
                        kind = "keep" if query == part_len else f"keep:{query}"
                    yield PlannedPass(
                        kind=kind,
                        query_len=query,
                        context_len=context,
                        block_start=part,
                        block_len=part_len,
                        masked=masked,
                        reveal=reveal,
                        t=(masked + stop - part - part_len) / block_len,
                    )
            if self.commit == "separate" and not last_block:
                yield clean_pass_before(self, COMMIT, start=start, tokens=B, left=end - stop)

    def caches(self, model: Model, length: int, batch: int) -> list[Cache]:
        if self.batching == "fdfo":  # with room for the query tokens behind a shorter last block
            length += self.block_size - 1
        return model_caches(model, length, batch)

    def run(self, model: Model, state: "DecodeState") -> None:
        if self.batching == "fdfo" and not self.is_fixed:
            decode_first_done(self, model, state)
        else:
            super().run(model, state)

    def step(self, model: Model, state: "DecodeState", kind: str) -> None:
        if kind == MIXED:
            step_mixed(self, model, state)
        else:
            self._step_in_step(model, state, kind)

    def _step_in_step(self, model: Model, state: "DecodeState", kind: str) -> None:
        import torch

        state.begin()
        S = 0 if is_clean(kind) else self.sub_block_size
        if S:
            window = sub_blocks.window_of(state, kind, self.block_size, self.plans_time(state))
            query = state.tokens.index_select(1, window.positions())
        else:
            window, query = self._window(state, kind)
        clean = window.segments[0] if len(window.segments) == 2 else 0
        if S and not self.plans_time(state):
            t = sub_blocks.masked_fraction(state, query[:, clean:], window, self.block_size)
        else:
            prompt = query.shape[1] if kind == PREFILL else 0
            t = self.timestep(state, query[:, clean:], prompt)
        if clean and window.modulation is None:
            t = torch.cat((torch.zeros_like(t), t), dim=1)
        hidden = model(query, t, window, state.caches)
        if not is_clean(kind):
            part = sub_blocks.hidden_of(state, kind, hidden, window) if S else hidden[:, clean:]
            self.reveal(model, state, part)
        elif window.ahead:
            take_first(model, state, hidden)
        state.next_pass()

    def _window(self, state: "DecodeState", kind: str) -> "tuple[Window, Tensor]":
        """The window of a pass over a block, and its tokens (batch, query_len)."""
        query_len, block_len = state.shapes[kind]
        ahead = is_ahead(state, kind)
        before = query_len if ahead else query_len - block_len  # the clean block of a fused pass
        start, query = state.query(query_len, before=before)
        segments = (query_len,) if ahead or not before else (before, block_len)
        window = Window(
            start,
            segments,
            advance=before > 0 or is_clean(kind) or kind == "keep",
            first=kind == PREFILL,
            ahead=ahead,
            modulation=state.modulation_now(len(segments)) if self.plans_time(state) else None,
        )
        return window, query
