"""Unmasking of the tokens that a pass is sure of, without a host sync."""

import torch
from torch import Tensor

from dlm_bench.kernels.lm_head import predict
from dlm_bench.kernels.unmask import most_confident
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.acceptance.rules import accepted
from dlm_bench.samplers.state import DecodeState


def unmask(
    model: Model,
    state: DecodeState,
    hidden: Tensor,
    *,
    rule: str,
    temperature: float,
    accept: tuple[str, float] | None = None,
) -> None:
    """Unmask state.now("reveal") tokens of the block at state.now("block_start"), or as many in
    each row as `accept`, a rule of samplers.accept and its value, says.

    hidden (batch, block_len, d_model) are the block's last hidden states. `confidence` takes the
    tokens with the largest softmax probability, `random` takes them in a random order drawn when
    the decode was prepared; ties go to the lowest index (kernels.unmask). A token whose logits are
    not finite stays MASK.
    """
    batch, block_len, width = hidden.shape
    positions = state.now("block_start") + torch.arange(block_len, device=hidden.device)
    block = state.tokens.index_select(1, positions)
    masked = block == state.config.mask_id
    tokens, confidence = predict(
        hidden.reshape(-1, width),
        model.head.weight,
        state.config.mask_id,
        masked.flatten(),
        temperature=temperature,
        generators=state.generators,
        seed=state.noise_seed() if temperature > 0 else None,
        backend=model.kernels.lm_head,
    )
    if rule == "confidence":
        score = confidence.view(batch, block_len)
    else:
        score = state.priority.index_select(1, positions)
    count = state.now("reveal").expand(batch)
    fused = model.kernels.elementwise == "triton"
    if fused:
        from dlm_bench.kernels.cuda.unmask import LONGEST, reveal_block

        fused = block_len <= LONGEST  # a longer block is sorted, by torch
    if accept is not None or not fused:
        score = torch.where(masked, score.nan_to_num(0.0), -1.0)  # a NaN has no rank
        order = score.sort(dim=1, descending=True).values
    if accept is not None:
        count = torch.where(state.now("after_seek"), count, accepted(order, *accept))
    predicted = tokens.view(batch, block_len)
    if fused:
        start, mask_id = state.now("block_start"), state.config.mask_id
        return reveal_block(state.tokens, start, mask_id, predicted, score, count)
    chosen = most_confident(score, order, count)
    state.tokens.index_copy_(1, positions, torch.where(chosen, predicted, block))
    return None
