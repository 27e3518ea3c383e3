"""Which masked tokens a pass unmasks, and to what; without a host sync."""

import torch
from torch import Tensor

from dlm_bench.kernels.lm_head import predict
from dlm_bench.protocols import Model
from dlm_bench.samplers.state import DecodeState

RULES = ("confidence", "random")


def unmask(
    model: Model,
    state: DecodeState,
    hidden: Tensor,
    *,
    rule: str,
    temperature: float,
    at_most: int,
) -> None:
    """Unmask state.now("reveal") tokens of the block at state.now("block_start").

    hidden (batch, block_len, d_model) are the block's last hidden states. `confidence` takes the
    tokens with the largest softmax probability, `random` takes them in a random order drawn when
    the decode was prepared; ties go to the lowest index. `at_most` bounds the tokens of any pass.
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
    if model.kernels.elementwise == "triton":
        from dlm_bench.kernels.cuda.unmask import LONGEST, reveal_block

        if block_len <= LONGEST:  # a longer block is sorted, by torch
            predicted, start = tokens.view(batch, -1), state.now("block_start")
            mask_id, count = state.config.mask_id, state.now("reveal")
            return reveal_block(state.tokens, start, mask_id, predicted, score, count)
    score = torch.where(masked, score, -1.0)
    # A stable sort, so that ties go to the lowest index; topk promises no order among ties.
    best = score.sort(dim=1, descending=True, stable=True).indices[:, :at_most]
    rank = torch.arange(best.shape[1], device=best.device)
    chosen = torch.where(
        rank < state.now("reveal"), tokens.view(batch, -1).gather(1, best), block.gather(1, best)
    )
    state.tokens.index_copy_(1, positions, block.scatter(1, best, chosen))
    return None
