"""Tokens of a block: taken from the sequence with their embeddings, and unmasked."""

from collections.abc import Iterator

import torch
from kernel_case import Bench, Case, Check, Run
from torch import Tensor

BLOCK, REVEALED = 32, 8
START = 5  # of the block in its sequence


def window_cases(bench: Bench) -> Iterator[Case]:
    """Integers and copies, which are exact."""
    if "triton" in bench.implementations("elementwise"):
        yield _take_case(bench)
        yield _unmask_case(bench)


def _take_case(bench: Bench) -> Case:
    from dlm_bench.kernels.cuda.lookup import embed, take

    config = bench.config
    weight = bench.randn(config.vocab_size, config.d_model)
    tokens = _tokens(bench)
    start = torch.tensor([START], device=bench.device)

    def run() -> Tensor:
        taken, masked = take(tokens, start, BLOCK, config.mask_id)
        return torch.cat((embed(taken, weight), masked[..., None]), dim=-1)

    def reference() -> Tensor:
        taken = tokens[:, START : START + BLOCK]
        return torch.cat((weight[taken].float(), (taken == config.mask_id)[..., None]), dim=-1)

    size = BLOCK * config.d_model * (4 + weight.element_size())
    return _case("take and embed", run, reference, size)


def _unmask_case(bench: Bench) -> Case:
    from dlm_bench.kernels.cuda.unmask import reveal_block

    mask_id, device = bench.config.mask_id, bench.device
    tokens = _tokens(bench)
    predicted = torch.arange(BLOCK, device=device)[None]
    score = torch.randperm(BLOCK, device=device)[None] / BLOCK + 0.1  # no two tie
    start, count = (torch.tensor([each], device=device) for each in (START, REVEALED))

    def run() -> Tensor:
        revealed = tokens.clone()
        reveal_block(revealed, start, mask_id, predicted, score, count)
        return revealed

    def reference() -> Tensor:
        revealed = tokens.clone()
        block = revealed[:, START : START + BLOCK]
        places = (score * (block == mask_id)).topk(REVEALED).indices
        block.scatter_(1, places, predicted.gather(1, places))
        return revealed

    return _case("unmask", run, reference, 4 * 8 * BLOCK)


def _tokens(bench: Bench) -> Tensor:
    """A sequence, most of it masked."""
    tokens = torch.arange(START + 2 * BLOCK, device=bench.device)[None]
    return torch.where(tokens % 3 > 0, bench.config.mask_id, tokens)


def _case(operation: str, run: Run, reference: Run, size: float) -> Case:
    return Case(
        operation,
        "triton",
        f"B={BLOCK}",
        {"elementwise": "triton"},
        (run,),
        {"output": Check(run, reference)},
        flops=0,
        bytes=size,
    )
