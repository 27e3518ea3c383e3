"""Which masked tokens a pass unmasks, and to what; without a host sync."""

import torch
from torch import Tensor

from dlm_bench.kernels.lm_head import predict
from dlm_bench.protocols import Model
from dlm_bench.samplers.accept import accepted
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
    accept: tuple[str, float] | None = None,
) -> None:
    """Unmask state.now("reveal") tokens of the block at state.now("block_start"), or as many in
    each row as `accept`, a rule of samplers.accept and its value, says.

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
    count = state.now("reveal")  # (1,)
    fused = model.kernels.elementwise == "triton"
    if fused:
        from dlm_bench.kernels.cuda.unmask import LONGEST, reveal_block

        fused = block_len <= LONGEST  # a longer block is sorted, by torch
    if accept is not None or not fused:
        # A stable sort, so that ties go to the lowest index; topk promises no order among ties. A
        # model that went wrong is as unsure as can be: a NaN has no rank.
        score = score.nan_to_num(0.0)
        ranked = torch.where(masked, score, -1.0)
        scores, order = ranked.sort(dim=1, descending=True, stable=True)
    if accept is not None:
        count = torch.where(state.now("as_planned"), count, accepted(scores, *accept))  # (batch,)
    if fused:
        predicted, start = tokens.view(batch, -1), state.now("block_start")
        mask_id = state.config.mask_id
        return reveal_block(state.tokens, start, mask_id, predicted, score, count)
    best = order[:, :at_most]
    rank = torch.arange(best.shape[1], device=best.device)
    chosen = torch.where(
        rank < count[:, None], tokens.view(batch, -1).gather(1, best), block.gather(1, best)
    )
    state.tokens.index_copy_(1, positions, block.scatter(1, best, chosen))
    return None
