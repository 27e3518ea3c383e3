"""A pipeline of blocks, as D2F (arXiv 2508.09192, its released code) and d3LLM (arXiv 2601.07568)
decode: several blocks are denoised by one forward pass.

Blocks see themselves and those before them, decoded or not. A new block of MASK is added, one a
pass, when `add_at` of the last one's tokens are decoded and fewer than `max_blocks` are under way.
A block is activated when `activate_at` of the one before it is decoded: it then unmasks at least
its surest token a pass, and before that only what the rule of acceptance is sure of. Finished
blocks with none unfinished before them enter the cache by the next pass, which carries them in
front, at t = 0; the last ones do not.

With one block at a time these are the passes of `block-cache` with commit=fused. With a fixed p all
blocks under way unmask p tokens a pass, so that NFE = t + (N - 1) ceil(add_at B / p) unless
max_blocks is in the way: t = ceil(B / p) passes of the first block, and each further one ends as
many passes later as it began.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from dlm_bench.errors import ConfigError, check_int, check_number
from dlm_bench.models.window import Window
from dlm_bench.plugins.api import Cache, Model
from dlm_bench.samplers.acceptance.acceptance import Adaptive, Now, masked
from dlm_bench.samplers.acceptance.options import AcceptanceOptions
from dlm_bench.samplers.acceptance.traced import Traced, alike, check_alike
from dlm_bench.samplers.clean_passes import clean_pass
from dlm_bench.samplers.denoising import DenoisingSampler, check_block_size
from dlm_bench.samplers.names import one_of
from dlm_bench.samplers.order import ordered, score_of
from dlm_bench.samplers.sampler import model_caches
from dlm_bench.samplers.schedule import PREFILL, DecodeShape, PlannedPass
from dlm_bench.samplers.under_way import UnderWay

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.samplers.state import DecodeState


# The rules that may be sure of no token of a block, and that replace none.
ACCEPTS = ("fixed", "threshold", "strict", "factor")


@dataclass(frozen=True)
class Pipeline(AcceptanceOptions, DenoisingSampler):
    """Blocks of `block_size` tokens, up to `max_blocks` of them under way.

    add_at, activate_at: shares of a block's tokens, from 0 to 1 (see the module).
    """

    name: ClassVar[str] = "pipeline"
    requires: ClassVar[str] = "pipeline"

    accept: str = one_of(ACCEPTS)
    block_size: int = 32
    max_blocks: int = 4
    add_at: float = 0.1
    activate_at: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_block_size(self, self.block_size)
        check_int("max_blocks", self.max_blocks)
        check_number("add_at", self.add_at, maximum=1.0)
        check_number("activate_at", self.activate_at, maximum=1.0)
        if self.accept not in ACCEPTS:
            raise ConfigError(
                f"accept: {self.accept!r} is not allowed with sampler 'pipeline', "
                f"{_why_not(self)}; allowed: {', '.join(ACCEPTS)}"
            )
        if isinstance(self.acceptance, Traced) and self.acceptance.edits:
            raise ConfigError(
                f"trace: {self.acceptance.trace.label!r} is a trace of accept 'joint'; not allowed "
                f"with sampler 'pipeline', {_why_not(self)}"
            )

    def without_meaning(self) -> dict[str, str]:
        if self.acceptance.decides:
            return super().without_meaning()
        why = "with accept 'fixed', by which all blocks unmask as many tokens; leave it out"
        return super().without_meaning() | {"activate_at": why}

    @property
    def rows_differ(self) -> bool:
        return False

    @property
    def takes_batches(self) -> bool:
        return self.is_fixed and not super().rows_differ

    def check_batch(self, batch: int) -> None:
        if batch > 1 and not self.is_fixed:
            raise ConfigError(
                f"batch: {batch} is not allowed with sampler 'pipeline' and accept "
                f"{self.accept!r}: its rows would move at paces of their own; must be 1, or replay "
                "a trace of one sequence"
            )
        if isinstance(self.acceptance, Traced):
            check_alike(self.acceptance.trace, batch, self.name)

    def planned(self, shape: DecodeShape, seed: int = 0) -> Iterator[PlannedPass]:
        if not isinstance(self.acceptance, Traced):
            return self.passes(shape.length, shape.prompt_len)
        changes: dict[str, Any] = {"trace": alike(self.acceptance.trace, shape, seed, self.name)}
        return replace(self, **changes).passes(shape.length, shape.prompt_len)

    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        if prompt_len:
            yield clean_pass(PREFILL, start=0, tokens=prompt_len)
        progress = UnderWay(self, length, prompt_len)
        plans: dict[int, Iterator[tuple[int, int]]] = {}
        while progress.next_pass():
            counts = []
            for block in progress.blocks:
                if not block.masked:
                    counts.append(0)
                elif self.is_fixed:
                    plan = plans.setdefault(
                        block.number, self.block_passes(block.number, block.length)
                    )
                    counts.append(next(plan)[1])
                else:
                    counts.append(int(block.activated))
            yield progress.planned(counts)
            progress.accept(counts)

    def caches(self, model: Model, length: int, batch: int) -> list[Cache]:
        return model_caches(model, length, batch)

    def prepare_shape(
        self, model: Model, shape: DecodeShape, seed: int = 0, prompt: "Tensor | None" = None
    ) -> "DecodeState":
        import torch

        state = super().prepare_shape(model, shape, seed, prompt)
        most = min(self.max_blocks, -(-shape.length // self.block_size))
        state.parts = torch.zeros(len(state.passes), 2, most, dtype=torch.int64)
        for index, pass_ in enumerate(state.passes):
            for number, part in enumerate(pass_.parts):
                state.parts[index, 0, number] = part.reveal
                state.parts[index, 1, number] = part.activated
        state.parts = state.parts.to(state.index.device)
        return state

    def seek(self, state: "DecodeState", pass_index: int) -> None:
        super().seek(state, pass_index)
        pass_, found = state.passes[pass_index], []
        start = pass_.block_start
        for part in pass_.parts:
            block = pass_._replace(block_start=start, block_len=part.length, masked=part.masked)
            state.put_stand_ins(block)
            start += part.length
            found.append(state.tokens[:, block.block_start : start].clone())
        # The last block's left all of its predecessors decoded.
        start = pass_.block_start
        for tokens in found:
            state.tokens[:, start : start + tokens.shape[1]] = tokens
            start += tokens.shape[1]

    def step(self, model: Model, state: "DecodeState", kind: str) -> None:
        import torch

        state.begin()
        query_len, block_len = state.shapes[kind]
        clean = query_len - block_len
        start, query = state.query(query_len, before=clean)
        if kind == PREFILL:
            window = Window(start, (query_len,), advance=True, first=True)
            model(query, state.now("t")[:, None], window, state.caches)
            state.next_pass()
            return
        window = Window(
            start,
            segments(query_len, self.block_size),
            advance=clean > 0,
            commits=max(1, clean // self.block_size),
        )
        # Each block's own masked fraction; all rows have as many, by p, by a trace, or as one row.
        masked = (query[:1] == state.config.mask_id).split(window.segments, dim=1)
        t = torch.stack([part.sum(dim=1) / part.shape[1] for part in masked], dim=1)
        hidden = model(query, t, window, state.caches)
        self._reveal(model, state, hidden[:, clean:])
        state.next_pass()

    def _reveal(self, model: Model, state: "DecodeState", hidden: "Tensor") -> None:
        """Unmask tokens of each block under way, given their hidden states (batch, tokens, d)."""
        from dlm_bench.samplers.unmask import Candidates

        assert state.parts is not None
        reveals, activated = state.parts.index_select(0, state.index)[0]
        tokens, masked = state.block(hidden.shape[1])
        rule = self.acceptance
        wanted = rule.score if rule.decides else score_of(self.order)
        predicted, scores = state.predict(model, hidden, self.temperature, masked, wanted)
        columns = tokens, masked, predicted, ordered(self.order, state, scores)
        lengths = segments(tokens.shape[1], self.block_size)
        start = state.now("block_start")
        parts = zip(*(each.split(lengths, dim=1) for each in columns), strict=True)
        for (block_tokens, places, found, score), number, active in zip(
            parts, reveals, activated, strict=False
        ):
            number = number.expand(len(tokens))
            block = Candidates(block_tokens, places, found, score, number, start)
            if rule.decides:
                block = block.decided(state, partial(self._count, active, state.now))
            state.forms.reveal(state, block)
            start = start + self.block_size

    def _count(self, activated: "Tensor", now: Now, scores: "Tensor") -> "Tensor":
        """Count the tokens of a block that a pass takes in each row (see Acceptance.count): in one
        that is not activated those that the rule is sure of, maybe none."""
        import torch

        rule = self.acceptance.rule if isinstance(self.acceptance, Traced) else self.acceptance
        assert isinstance(rule, Adaptive)
        sure = rule.sure(scores, now).minimum(masked(scores))
        return torch.where(activated > 0, rule.count(scores, now), sure)

    def run_counting(self, model: Model, state: "DecodeState") -> list[tuple[tuple[int, ...], ...]]:
        """Run a decode of one sequence from its first pass, the host reading the masked tokens of
        the blocks under way after each pass, which decide the next one.

        `state.passes` are as many as the passes can be; their numbers give way to those of the
        passes that are made. Returns for the row and each block the tokens accepted by each pass
        from the block's first on, some of them none.
        """
        progress = UnderWay(self, state.tokens.shape[1] - state.prompt_len, state.prompt_len)
        counts: dict[int, list[int]] = {}
        index, of_block = 0, 0
        if state.prompt_len:
            self.step(model, state, PREFILL)
            index = 1
        while progress.next_pass() and index < len(state.passes):
            pass_ = progress.planned([0] * len(progress.blocks))
            before = state.passes[index - 1].block_start if index else -1
            of_block = of_block + 1 if pass_.block_start == before else 0
            self._put(state, index, pass_, noise=pass_.block_start + of_block)
            self.step(model, state, pass_.kind)
            index += 1
            left = [
                state.tokens[0, block.start : block.start + block.length] == state.config.mask_id
                for block in progress.blocks
            ]
            accepted = [
                block.masked - int(places.sum())
                for block, places in zip(progress.blocks, left, strict=True)
            ]
            for block, count in zip(progress.blocks, accepted, strict=True):
                if block.masked:
                    counts.setdefault(block.number, []).append(count)
            progress.accept(accepted)
        state.check_unmasked()
        return [tuple(tuple(counts[number]) for number in sorted(counts))]

    @staticmethod
    def _put(state: "DecodeState", index: int, pass_: PlannedPass, noise: int) -> None:
        """Make a pass the one at an index of a state's table."""
        assert state.parts is not None
        state.passes[index] = pass_
        state.shapes[pass_.kind] = pass_.query_len, pass_.block_len
        numbers = {
            "block_start": pass_.block_start,
            "block_stop": pass_.block_start + pass_.block_len,
            "noise": noise,
        }
        for name, value in numbers.items():
            state.table[name][index] = value
        for number, part in enumerate(pass_.parts):
            state.parts[index, 1, number] = part.activated


def _why_not(sampler: Pipeline) -> str:
    """Say why a rule of acceptance, or a trace of it, is not a pipeline's."""
    if sampler.acceptance.edits:
        return "whose blocks end at their last MASK, before any pass that edits alone"
    return "as the rule takes a token of every block, activated or not"


def segments(tokens: int, block_size: int) -> tuple[int, ...]:
    """The lengths of consecutive blocks of `tokens` tokens; the last may be shorter."""
    whole, rest = divmod(tokens, block_size)
    return (block_size,) * whole + ((rest,) if rest else ())
