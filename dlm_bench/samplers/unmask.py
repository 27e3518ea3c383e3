"""The unmasking of a pass: the LM head on the masked tokens, and the choice among them.

Nothing here waits for the device. The forms, plain or by Triton, are chosen when the buffers of a
decode are allocated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dlm_bench.kernels.forms import choose_launch, choose_predict, fused
from dlm_bench.kernels.lm_head import Predict
from dlm_bench.kernels.unmask import TIE, most_confident
from dlm_bench.plugins.api import Model, UsedKernels
from dlm_bench.samplers.acceptance.acceptance import Acceptance, Edits
from dlm_bench.samplers.order import ordered, score_of

if TYPE_CHECKING:
    from dlm_bench.samplers.state import DecodeState


class Candidates(NamedTuple):
    """A block before its unmasking; every tensor is (batch, block_len) unless said otherwise.

    tokens: the block's, some of them MASK.
    masked: bool, where they are.
    predicted: the token for each place.
    score: the places with the largest are taken first.
    number: (batch,) tokens to unmask.
    start: (1,) the position of the first place; None for the current block's.
    descending: the scores in that order, those of decoded tokens negative; None if not sorted yet.
    """

    tokens: Tensor
    masked: Tensor
    predicted: Tensor
    score: Tensor
    number: Tensor
    start: Tensor | None = None
    descending: Tensor | None = None

    def decided(self, state: "DecodeState", count: Callable[[Tensor], Tensor]) -> "Candidates":
        """Return the same with the number of tokens, (batch,), that `count` finds by the scores in
        descending order; after a seek with that planned."""
        score, descending = ranked(self.score, self.masked)
        number = torch.where(state.now("after_seek"), self.number, count(descending))
        return self._replace(score=score, descending=descending, number=number)


@dataclass(frozen=True)
class Forms:
    """The plain or fused forms for a model.

    take: the tokens of the sequences from a position on, and where they are MASK.
    predict: the LM head.
    reveal: the choice of tokens.
    """

    take: Callable[["DecodeState", Tensor, int], tuple[Tensor, Tensor]]
    predict: Predict
    reveal: Callable[["DecodeState", Candidates], None]


def choose_forms(kernels: UsedKernels) -> Forms:
    """Return the forms by a model's kernels."""
    head = choose_predict(kernels.lm_head)
    if kernels.elementwise == "torch":
        return Forms(take, head, reveal)
    triton = fused()
    launch = choose_launch(kernels.named().get("small_pass", "torch"))

    def reveal_fused(state: "DecodeState", block: Candidates) -> None:
        """Reveal in a single launch; torch sorts a block that is too long for a program, and takes
        rows that are apart."""
        if block.score.shape[1] > triton.longest or state.places is not None:
            return reveal(state, block)
        start = state.now("block_start") if block.start is None else block.start
        mask_id = state.config.mask_id
        return triton.reveal_block(
            state.tokens, start, mask_id, block.predicted, block.score, block.number
        )

    def take_fused(state: "DecodeState", start: Tensor, count: int) -> tuple[Tensor, Tensor]:
        return triton.take(state.tokens, start, count, state.config.mask_id)

    return Forms(launch(take_fused), launch(head), launch(reveal_fused))


def take(state: "DecodeState", start: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`count` tokens of each sequence from `start` on, and where they are MASK, (batch, count)."""
    tokens = state.tokens.index_select(1, state.positions(start, count))
    return tokens, tokens == state.config.mask_id


def unmask(
    model: Model,
    state: "DecodeState",
    hidden: Tensor,
    *,
    order: str,
    temperature: float,
    acceptance: Acceptance | None = None,
) -> None:
    """Unmask state.now("reveal") tokens of the block at state.now("block_start"), or in each row
    the number by an `acceptance` that decides.

    hidden (batch, block_len, d_model) are the block's last hidden states. The places that `order`
    (see samplers.order) or the acceptance scores highest are taken first; ties go to the lowest
    index (kernels.unmask). A token whose logits are not finite stays MASK.
    """
    batch, block_len, _ = hidden.shape
    tokens, masked = state.block(block_len)
    rule = acceptance if acceptance is not None and acceptance.decides else None
    edits = None if acceptance is None else acceptance.edits
    needed, wanted = None if edits else masked, rule.score if rule else score_of(order)
    predicted, score = state.predict(model, hidden, temperature, needed, wanted)
    if edits:
        tokens = edited(state, tokens, masked, predicted, score, edits)
        state.write(tokens)
    number = state.now("reveal").expand(batch)
    block = Candidates(tokens, masked, predicted, ordered(order, state, score), number)
    if rule:
        block = block.decided(state, lambda scores: rule.count(scores, state.now))
    state.forms.reveal(state, block)


def ranked(score: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
    """Make the scores of decoded tokens negative; return them, and sorted descending."""
    score = score.nan_to_num(0.0).masked_fill_(~masked, -1.0)  # a NaN has no rank
    return score, score.sort(dim=1, descending=True).values


def edited(
    state: "DecodeState",
    block: Tensor,
    masked: Tensor,
    predicted: Tensor,
    confidence: Tensor,
    edits: Edits,
) -> Tensor:
    """Return a block (batch, block_len) with decoded tokens replaced by those predicted surely
    enough; none after a seek, as the tokens are none of the model's."""
    passes = state.full_passes
    passes.copy_(torch.where(masked.any(dim=1, keepdim=True), 0, passes + 1))
    sure = confidence > edits.threshold * (1 + TIE)  # not NaN
    may = (passes <= edits.max_passes) & ~state.now("after_seek")
    return torch.where(~masked & sure & may, predicted, block)


def reveal(state: "DecodeState", block: Candidates) -> None:
    """Write the predicted tokens with the largest scores, by the rule of kernels.unmask."""
    score, descending = block.score, block.descending
    if descending is None:
        score, descending = ranked(score, block.masked)
    chosen = most_confident(score, descending, block.number)
    revealed = torch.where(chosen, block.predicted, block.tokens)
    if block.start is None:
        state.write(revealed)
    else:
        state.tokens.index_copy_(1, state.positions(block.start, revealed.shape[1]), revealed)
