"""Attention of a block over a cache, with or without groups of heads that share keys and values."""

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from kernel_case import Bench, Case, Check
from torch import Tensor

from dlm_bench.kernels.attention import choose_attend_cached
from dlm_bench.models.config import ModelConfig
from dlm_bench.models.transformer_config import TransformerConfig

BLOCK = 32


def cached_cases(
    bench: Bench, config: ModelConfig | TransformerConfig, operation: str
) -> Iterator[Case]:
    """The cases of a model's heads, under the name `operation`."""
    heads, kv_heads, head_dim = config.heads, config.kv_heads, config.head_dim
    q = bench.randn(1, BLOCK, heads, head_dim)
    rows = q.transpose(1, 2)

    def run(name: str, keys: Tensor, values: Tensor, start: Tensor) -> Tensor:
        if name == "triton":
            from dlm_bench.kernels.cuda.split_kv import attend_split_kv

            return attend_split_kv(q, keys, values, start, (BLOCK,))
        attend = choose_attend_cached(name)
        return attend(rows, keys, values, start + BLOCK).transpose(1, 2)

    for context in bench.contexts:
        visible = context + BLOCK
        size = 2 * visible * kv_heads * head_dim * q.element_size()
        shape = (1, kv_heads, visible + BLOCK, head_dim)  # of the last block but one
        caches = [  # of a layer each, as in a pass
            (bench.randn(*shape), bench.randn(*shape)) for _ in range(bench.copies(size))
        ]
        start = torch.full((1,), context, device=bench.device)

        def reference(cache: tuple[Tensor, Tensor] = caches[0], n: int = visible) -> Tensor:
            each = (x[:, :, :n].float().repeat_interleave(heads // kv_heads, 1) for x in cache)
            return F.scaled_dot_product_attention(rows.float(), *each).transpose(1, 2)

        for name in bench.implementations("cached_attention"):
            runs = tuple(partial(run, name, *cache, start) for cache in caches)
            yield Case(
                operation,
                name,
                f"q={BLOCK} context={context}",
                {"cached_attention": name},
                runs,
                {"output": Check(runs[0], reference)},
                flops=4.0 * BLOCK * visible * heads * head_dim,
                bytes=size,
            )
