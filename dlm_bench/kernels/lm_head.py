"""The LM head with its argmax and a score, without a (length, vocabulary) tensor.

A score says how sure the model is of a place, by p = softmax(logits); the larger the surer, always
above 0. Scores that rounding moves are a tie (`kernels.unmask.TIE`, relative), so each is written
as a number whose relative rounding does not depend on its size:

- confidence: p of the token;
- margin: 1 + p1 - p2, of the two largest. The rounding of p1 - p2 is that of p1 and of p2 however
  close they are, so the band must be absolute;
- entropy: exp(-H), H = -sum p log p. The rounding of H is absolute, as that of the logits is.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from dlm_bench.kernels.linear import linear

Score = Literal["confidence", "margin", "entropy"]
SCORES: tuple[Score, ...] = ("confidence", "margin", "entropy")
NEVER = -100.0  # a logit so far below the largest has no part in any sum
LOGIT_ELEMENTS = 1 << 22  # logits held at a time: 16 MB in float32, within a CPU's last-level cache


class Predict(Protocol):
    """The signature of `predict`, plain and fused."""

    def __call__(
        self,
        hidden: Tensor,
        weight: Tensor,
        mask_id: int,
        needed: Tensor | None = None,
        *,
        temperature: float = 0.0,
        generators: Sequence[torch.Generator] = (),
        seed: Tensor | None = None,
        score: Score = "confidence",
    ) -> tuple[Tensor, Tensor]: ...


def predict(
    hidden: Tensor,
    weight: Tensor,
    mask_id: int,
    needed: Tensor | None = None,
    *,
    temperature: float = 0.0,
    generators: Sequence[torch.Generator] = (),
    seed: Tensor | None = None,
    score: Score = "confidence",
) -> tuple[Tensor, Tensor]:
    """Predict the token of each row, MASK excluded, with a score of the row.

    hidden: (rows, d_model).
    weight: (vocabulary, d_model).
    needed: (rows,) bool, None for all; the other rows come back as token 0 with score 0.
    temperature: 0 for the argmax; else a sample of softmax(logits / temperature) by the Gumbel-max
        trick. The draws of a sequence do not depend on the other sequences.
    generators: the noise of the plain form, for each sequence. Every sequence has equally many
        rows, and they follow each other.
    seed: (sequences,) int64 on the device, the noise of the fused form, without a step of the host.

    Returns tokens (rows,) int64 and scores (rows,) float32 by softmax(logits) in float32. A row
    with logits that are not finite has token `mask_id` and score NaN: the position stays MASK, and
    the decode can be told from a sound decode. On a GPU all rows are computed, as the host would
    have to wait for the number of the needed.
    """
    rows = hidden.shape[0]
    tokens = torch.zeros(rows, dtype=torch.int64, device=hidden.device)
    scores = torch.zeros(rows, device=hidden.device)
    index = torch.arange(rows, device=hidden.device)
    if needed is not None and not hidden.is_cuda:
        index, needed = needed.nonzero()[:, 0], None
    at_once = max(1, LOGIT_ELEMENTS // weight.shape[0])
    for part in index.split(at_once) if len(index) > at_once else (index,):
        logits = linear(hidden.index_select(0, part), weight)  # (part, vocabulary)
        logits = logits if logits.dtype == torch.float32 else logits.float()
        logits[:, mask_id : mask_id + 1].fill_(-torch.inf)  # a causal model may have no such id
        largest, chosen = logits.max(dim=-1)
        top = None
        if temperature > 0:
            noise = torch.empty_like(logits)
            for row, waits in zip(part.tolist(), noise, strict=True):
                waits.exponential_(generator=generators[row * len(generators) // rows])
            chosen = torch.argmax(logits - temperature * noise.log(), dim=-1)
            top = logits.gather(-1, chosen[:, None])[:, 0].sub_(largest).exp_()
        found = _SCORES[score](logits, largest, top)
        tokens.index_copy_(0, part, chosen.masked_fill_(found.isnan(), mask_id))
        scores.index_copy_(0, part, found)
    if needed is not None:
        tokens, scores = tokens * needed, scores.masked_fill_(~needed, 0)
    return tokens, scores


def _confidence(logits: Tensor, largest: Tensor, top: Tensor | None) -> Tensor:
    """p of the token: 1 / sum exp(l - largest), or by `top`, exp(l - largest) of a drawn token."""
    if top is None:
        return logits.softmax(dim=-1).amax(dim=-1)  # in the fewest walks through the logits
    return top.div_(logits.sub_(largest[:, None]).exp_().sum(dim=-1))


def _margin(logits: Tensor, largest: Tensor, _: Tensor | None) -> Tensor:
    """1 + p1 - p2."""
    second = logits.topk(2, dim=-1).values[:, 1]
    gap = 1 - (second - largest).exp_()
    return 1 + gap / logits.sub_(largest[:, None]).exp_().sum(dim=-1)


def _entropy(logits: Tensor, largest: Tensor, _: Tensor | None) -> Tensor:
    """exp(-H), with s = l - largest: H = log(sum exp(s)) - sum exp(s) s / sum exp(s)."""
    shifted = logits.sub_(largest[:, None]).clamp_(min=NEVER)  # of MASK, too: 0 times -inf is NaN
    power = shifted.exp()
    total = power.sum(dim=-1)
    mean = power.mul_(shifted).sum(dim=-1) / total
    return torch.exp(mean) / total


_SCORES: dict[Score, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "confidence": _confidence,
    "margin": _margin,
    "entropy": _entropy,
}
