"""Self-speculation, as Nemotron-Labs-Diffusion decodes (its `linear_spec_generate`): a denoiser
drafts a block of B tokens, and verifies the drafts as a causal model.

A pair of passes begins with the seed, the last token known. The draft pass takes the seed and
B - 1 MASKs, which see each other both ways. The verify pass takes the seed and the drafts, each
token seeing those before it, and predicts the token after each. The longest prefix of drafts that
the verify pass predicts, too, is kept, and the prediction after it, the next seed. Keys and values
of kept tokens are the verify pass's; those of the others are written over by the next pair.

NFE = 2 a pair, or 1 where a single token is left and nothing is drafted. A pair is no longer than
the tokens left.
"""

import dataclasses
from collections.abc import Iterator
from itertools import cycle
from typing import TYPE_CHECKING, ClassVar, Self

from dlm_bench.errors import ConfigError, check_int, unknown
from dlm_bench.models.window import Window
from dlm_bench.plugins.api import Cache, Model
from dlm_bench.samplers.acceptance.adaptive import trace_decode
from dlm_bench.samplers.acceptance.trace import Trace, load_trace
from dlm_bench.samplers.acceptance.traced import alike, check_alike
from dlm_bench.samplers.autoregressive import token_pass
from dlm_bench.samplers.names import one_of
from dlm_bench.samplers.pairs import pair_passes
from dlm_bench.samplers.sampler import Sampler, model_caches
from dlm_bench.samplers.schedule import PREFILL, DecodeShape, PlannedPass

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.samplers.state import DecodeState

ACCEPTS = ("fixed", "agreement")


@dataclasses.dataclass(frozen=True)
class SelfSpeculation(Sampler):
    """A sampler of denoisers with attention alone, whose caches need no state put back.

    block_size: B, the tokens of the verify pass, and the most that a pair keeps.
    accept: fixed, `accept_len` tokens a pair, as a trained model keeps on average; agreement, the
        rule above, so that the tokens are those of a causal decode one by one.
    accept_len: tokens kept a pair, the last of them by the verify pass.
    trace: a Trace of this sampler, or the path of its file, to keep as many tokens a pair as
        the sequence of the decode's seed; a longer decode repeats all its pairs but the last.
    """

    name: ClassVar[str] = "self-speculation"
    requires: ClassVar[str] = "self-speculation"
    traced_rule: ClassVar[str] = "agreement"

    block_size: int = 32
    accept: str = one_of(ACCEPTS)
    accept_len: int = 8
    trace: str | Trace = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("block_size", self.block_size)
        check_int("accept_len", self.accept_len)
        if self.accept not in ACCEPTS:
            raise unknown("accept", self.accept, ACCEPTS)
        if self.accept == "fixed" and not self.trace and self.accept_len > self.block_size:
            raise ConfigError(
                f"accept_len: {self.accept_len} is not allowed; must be at most block_size "
                f"({self.block_size})"
            )
        if self.accept == "agreement" and self.temperature:
            raise ConfigError(
                f"temperature: {self.temperature:g} is not allowed with accept 'agreement': rows "
                "of a batch wait for each other, and would draw anew; must be 0"
            )
        if self.trace:
            object.__setattr__(self, "trace", self._own_trace())

    def _own_trace(self) -> Trace:
        """Read a trace's file, and check that the pairs are no longer than this sampler's."""
        if self.accept != "fixed" and isinstance(self.trace, str):
            raise ConfigError(
                f"trace: {self.trace!r} is not allowed {self.without_meaning()['trace']}"
            )
        trace = load_trace(self.trace) if isinstance(self.trace, str) else self.trace
        if not isinstance(trace, Trace):
            raise ConfigError(f"trace: {trace!r} is not allowed; must be the path of a trace")
        if trace.sampler != self.name:
            raise ConfigError(
                f"trace: {trace.label!r} is a trace of sampler {trace.sampler!r}; must be one of "
                f"{self.name!r}"
            )
        longest = max(max(pairs) for (pairs,) in trace.sequences)
        if longest > self.block_size:
            raise ConfigError(
                f"trace: {trace.label!r} keeps up to {longest} tokens a pair; not allowed with "
                f"block_size {self.block_size}"
            )
        return trace

    def options(self) -> dict[str, int | float | str]:
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in self.without_meaning():
            found.pop(name, None)
        if isinstance(found.pop("trace", None), Trace):
            assert isinstance(self.trace, Trace)
            found["trace"] = self.trace.label
        return found

    def without_meaning(self) -> dict[str, str]:
        if self.accept == "agreement":
            why = "with accept 'agreement', which says how many tokens a pair keeps"
            return {
                "accept_len": f"{why}; allowed with accept 'fixed'",
                "trace": f"{why}; leave one of the two out",
            }
        if self.trace:
            return {
                "accept_len": "with trace, which says how many tokens a pair keeps; leave it out"
            }
        return {}

    @property
    def is_fixed(self) -> bool:
        return self.accept == "fixed" or bool(self.trace)

    @property
    def trace_block(self) -> None:
        return None

    def scheduled_for(self, model: Model, shape: DecodeShape, seed: int = 0) -> Self:
        if self.is_fixed:
            return self
        return dataclasses.replace(self, trace=trace_decode(model, self, shape, seed))

    @property
    def takes_batches(self) -> bool:
        return not (isinstance(self.trace, Trace) and self.trace.differs)

    def check_batch(self, batch: int) -> None:
        if isinstance(self.trace, Trace):
            check_alike(self.trace, batch, self.name)

    def planned(self, shape: DecodeShape, seed: int = 0) -> Iterator[PlannedPass]:
        if not isinstance(self.trace, Trace):
            return super().planned(shape, seed)
        followed = dataclasses.replace(self, trace=alike(self.trace, shape, seed, self.name))
        return followed.passes(shape.length, shape.prompt_len)

    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        begin, end = prompt_len, prompt_len + length
        if prompt_len:
            yield token_pass(PREFILL, query=prompt_len, context=0, position=prompt_len)
            begin += 1
        for kept in self._kept(end - begin):
            tokens = min(self.block_size, end - begin)
            # End of text stands before the first token of a decode without a prompt (see `step`).
            context = begin - (prompt_len > 0)
            yield from pair_passes(begin, tokens, self.block_size, context, min(kept, tokens))
            begin += kept

    def _kept(self, left: int) -> Iterator[int]:
        """The tokens that each pair keeps, `left` together; the fewest if they are not known."""
        counts = [self.accept_len if self.accept == "fixed" else 1]
        if isinstance(self.trace, Trace):
            first, *_ = self.trace.drawn or (0,)
            (counts,) = map(list, self.trace.sequences[first])
            # The first of them is the token of the prefill pass.
            prefilled = bool(self.trace.prompt_len or self.trace.prompts)
            counts = counts[1:] if prefilled and len(counts) > 1 else counts
            if left > sum(counts) and len(counts) > 1:
                del counts[-1]  # cut short by the trace's end
        for count in cycle(counts):
            if left <= 0:
                return
            yield min(count, left)
            left -= count

    def caches(self, model: Model, length: int, batch: int) -> list[Cache]:
        return model_caches(model, length, batch)

    def prepare_shape(
        self, model: Model, shape: DecodeShape, seed: int = 0, prompt: "Tensor | None" = None
    ) -> "DecodeState":
        state = super().prepare_shape(model, shape, seed, prompt)
        state.drafts = state.tokens.new_full((shape.batch, self.block_size), state.config.mask_id)
        return state

    def seek(self, state: "DecodeState", pass_index: int) -> None:
        super().seek(state, pass_index)
        pass_ = state.passes[pass_index]
        if state.drafts is not None:
            drafted = state.stand_ins[:, pass_.block_start :][:, : state.drafts.shape[1]]
            state.drafts[:, : drafted.shape[1]] = drafted

    def step(self, model: Model, state: "DecodeState", kind: str) -> None:
        import torch

        state.begin()
        query_len, block_len = state.shapes[kind]
        begin, t = state.now("block_start"), state.now("t")[None]
        assert state.drafts is not None
        if kind == PREFILL:
            window = Window(
                torch.zeros_like(begin),
                (query_len,),
                advance=True,
                first=True,
                causal=True,
                modulation=state.modulation_now(1),
            )
            hidden = model(state.tokens[:, :query_len], t, window, state.caches)
            predicted, _ = state.predict(model, hidden[:, -1:], self.temperature)
            state.tokens.index_copy_(1, begin, predicted)
            state.next_pass()
            return
        seed = state.tokens.index_select(1, (begin - 1).clamp(min=0))
        start = begin
        if state.prompt_len:
            start = begin - 1
        else:
            # End of text is at position 0, so that token i is at position i + 1.
            seed = torch.where(begin == 0, state.config.bos_id, seed)
        if block_len < query_len:  # a draft
            query = torch.full_like(state.drafts[:, :query_len], state.config.mask_id)
            query[:, :1] = seed
            window = Window(start, (query_len,), modulation=state.modulation_now(1))
            hidden = model(query, t, window, state.caches)
            drafts, _ = state.forms.predict(
                hidden[:, 1:].flatten(0, 1), model.head.weight, state.config.mask_id
            )
            state.drafts[:, :block_len] = drafts.view(-1, block_len)
        else:
            drafts = state.drafts[:, : query_len - 1]
            modulation = state.modulation_now(1)
            window = Window(start, (query_len,), advance=True, causal=True, modulation=modulation)
            hidden = model(torch.cat((seed, drafts), dim=1), t, window, state.caches)
            predicted, _ = state.predict(model, hidden, self.temperature)  # the token after each
            self._keep(state, drafts, predicted)
        state.next_pass()

    def _keep(self, state: "DecodeState", drafts: "Tensor", predicted: "Tensor") -> None:
        """Write the kept drafts, and the verify pass's token after them.

        drafts (batch, len - 1), predicted (batch, len). The rows of a batch keep as many as the row
        that keeps the fewest: each row's tokens are those of a causal decode all the same.
        """
        import torch

        kept = state.now("reveal")
        if self.accept == "agreement":
            agreed = (drafts == predicted[:, :-1]).cumprod(dim=1).sum(dim=1)
            kept = torch.where(state.now("after_seek"), kept, agreed.min() + 1)
        place = torch.arange(predicted.shape[1], device=kept.device)
        tokens = torch.cat((drafts, predicted[:, -1:]), dim=1)
        tokens = torch.where(place == kept - 1, predicted, tokens)
        tokens = tokens.masked_fill(place >= kept, state.config.mask_id)
        state.tokens.index_copy_(1, state.block_positions(predicted.shape[1]), tokens)

    def run(self, model: Model, state: "DecodeState") -> None:
        if self.is_fixed:
            super().run(model, state)
        else:
            self.run_counting(model, state)

    def run_counting(self, model: Model, state: "DecodeState") -> list[tuple[tuple[int, ...], ...]]:
        """Run a decode from its first pass, the host reading the tokens kept after each pair.

        `state.passes` has a pair for every place to begin at; those within the tokens kept are
        skipped. Returns the tokens kept by each pair, the same in all rows, as of a single block;
        before them the token of a prefill pass.
        """
        passes, counts, index = state.passes, [], 0
        while index < len(passes):
            pass_ = passes[index]
            self.step(model, state, pass_.kind)
            index += 1
            if not pass_.reveal:
                continue
            block = state.tokens[0, pass_.block_start : pass_.block_start + pass_.block_len]
            counts.append(int((block != state.config.mask_id).sum()))
            known = pass_.block_start + counts[-1]
            while index < len(passes) and passes[index].block_start < known:
                index += 1
            state.index.fill_(index)
        state.check_unmasked()
        return [(tuple(counts),)]
