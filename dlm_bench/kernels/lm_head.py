"""The LM head with its argmax and confidence, without a (length, vocabulary) tensor."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

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
) -> tuple[Tensor, Tensor]:
    """Predict the token of each row, MASK excluded, with the softmax probability of the token.

    hidden: (rows, d_model).
    weight: (vocabulary, d_model).
    needed: (rows,) bool, None for all; the other rows come back as token 0 with probability 0.
    temperature: 0 for the argmax; else a sample of softmax(logits / temperature) by the Gumbel-max
        trick. The draws of a sequence do not depend on the other sequences.
    generators: the noise of the plain form, for each sequence. Every sequence has equally many
        rows, and they follow each other.
    seed: (sequences,) int64 on the device, the noise of the fused form, without a step of the host.

    Returns tokens (rows,) int64 and probabilities (rows,) float32 by softmax(logits) in float32. A
    row with logits that are not finite has token `mask_id` and probability NaN: the position stays
    MASK, and the decode can be told from a sound decode.
    """
    rows = hidden.shape[0]
    tokens = torch.zeros(rows, dtype=torch.int64, device=hidden.device)
    probability = torch.zeros(rows, device=hidden.device)
    index = torch.arange(rows, device=hidden.device) if needed is None else needed.nonzero()[:, 0]
    at_once = max(1, LOGIT_ELEMENTS // weight.shape[0])
    for part in index.split(at_once) if len(index) > at_once else (index,):
        logits = torch.mm(hidden.index_select(0, part), weight.t())  # (part, vocabulary)
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
        total = logits.sub_(largest[:, None]).exp_().sum(dim=-1)
        chance = total.reciprocal_() if top is None else top.div_(total)
        tokens.index_copy_(0, part, chosen.masked_fill_(chance.isnan(), mask_id))
        probability.index_copy_(0, part, chance)
    return tokens, probability
