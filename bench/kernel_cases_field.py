"""The operations that the Transformers of the field add, at the sizes of some of them."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from kernel_case import Bench, Case, Check
from kernel_cases_cached import BLOCK, cached_cases
from torch import Tensor

from dlm_bench.kernels.attention import choose_attend
from dlm_bench.kernels.forms import choose_add_rms_norm, choose_swiglu
from dlm_bench.kernels.rms_norm import rms_norm
from dlm_bench.kernels.rotary import rotary_angles, rotate
from dlm_bench.models.presets import preset
from dlm_bench.models.transformer_config import TransformerConfig


def field_cases(bench: Bench) -> Iterator[Case]:
    """Groups of 7 heads in attention, the widest MLP, and norms of the heads of q and k."""
    tiny = bench.config.size == "tiny"
    dream, sdar = (
        preset("dream", "tiny" if tiny else "7b"),
        preset("sdar", "tiny" if tiny else "4b"),
    )
    name = f"cached_attention {dream.heads}/{dream.kv_heads} heads"
    yield from cached_cases(bench, dream, name)
    for length in (BLOCK, bench.sequence):
        yield from _elementwise_cases(bench, dream, length)
        yield from _rotary_cases(bench, sdar, length)
    if "triton" in bench.implementations("attention"):
        yield _attention_case(bench, dream)


def _attention_case(bench: Bench, config: TransformerConfig) -> Case:
    """The own attention with groups; a library's may refuse them."""
    heads, kv_heads, head_dim = config.heads, config.kv_heads, config.head_dim
    groups, length = (heads, kv_heads, kv_heads), bench.sequence
    q, k, v = bench.randn(1, length, sum(groups), head_dim).transpose(1, 2).split(groups, dim=1)

    def run() -> Tensor:
        return choose_attend("triton")(q, k, v)

    def reference() -> Tensor:
        exact = choose_attend("efficient" if bench.device.type == "cuda" else "torch")
        keys = (x.float().repeat_interleave(heads // kv_heads, 1) for x in (k, v))
        return exact(q.float(), *keys)

    return Case(
        f"attention {heads}/{kv_heads} heads",
        "triton",
        f"L={length}",
        {"attention": "triton"},
        (run,),
        {"output": Check(run, reference)},
        flops=4.0 * length * length * heads * head_dim,
        bytes=2 * (heads + kv_heads) * length * head_dim * q.element_size(),
    )


def _elementwise_cases(bench: Bench, config: TransformerConfig, length: int) -> Iterator[Case]:
    width, ffn = config.d_model, config.ffn
    weight = bench.randn(width)

    def norm(x: Tensor, branch: Tensor, weight: Tensor, name: str) -> Tensor:
        return choose_add_rms_norm(name)(x.clone(), branch, weight, config.norm_eps)[1]

    def gated(gate_up: Tensor, name: str) -> Tensor:
        return choose_swiglu(name)(gate_up)

    for name in bench.implementations("elementwise", plain=True):
        size = length * width * (4 * 4 + 2 * weight.element_size())
        pairs = [
            (torch.randn(1, length, width, device=bench.device), bench.randn(1, length, width))
            for _ in range(bench.copies(size))
        ]
        x, branch = pairs[0]
        yield _case(
            "add_rms_norm (and a copy)",
            name,
            f"width={width} L={length}",
            tuple(partial(norm, *each, weight, name) for each in pairs),
            partial(norm, x, branch.float(), weight.float(), "torch"),
            size,
        )
        size = 3 * length * ffn * weight.element_size()
        products = [bench.randn(1, length, 2 * ffn) for _ in range(bench.copies(size))]
        yield _case(
            "swiglu",
            name,
            f"ffn={ffn} L={length}",
            tuple(partial(gated, each, name) for each in products),
            partial(gated, products[0].float(), "torch"),
            size,
        )


def _rotary_cases(bench: Bench, config: TransformerConfig, length: int) -> Iterator[Case]:
    groups = (config.heads, config.kv_heads, config.kv_heads)
    angles = rotary_angles(torch.arange(length, device=bench.device), config.head_dim)
    norms = bench.randn(config.head_dim), bench.randn(config.head_dim)
    kept = bench.randn(1, config.kv_heads, length, config.head_dim)
    start = torch.zeros(1, dtype=torch.int64, device=bench.device)

    def run(qkv: Tensor) -> Tensor:
        from dlm_bench.kernels.cuda.rotary import rotate_qkv

        turned, k, v = qkv.clone(), torch.empty_like(kept), torch.empty_like(kept)
        rotate_qkv(
            turned,
            *angles,
            start,
            k,
            v,
            kv_heads=config.kv_heads,
            norms=norms,
            epsilon=config.norm_eps,
        )
        return torch.cat((turned.transpose(1, 2)[:, : config.heads], k, v), dim=1)

    def reference(qkv: Tensor) -> Tensor:
        q, k, v = qkv.float().transpose(1, 2).split(groups, dim=1)
        q, k = (
            rms_norm(x, weight.float(), config.norm_eps)
            for x, weight in zip((q, k), norms, strict=True)
        )
        return torch.cat((rotate(q, angles), rotate(k, angles), v), dim=1)

    if "triton" in bench.implementations("elementwise"):
        qkv = bench.randn(1, length, sum(groups), config.head_dim)
        size = 2 * qkv.numel() * qkv.element_size()
        yield _case(
            "rotary normed (and copies)",
            "triton",
            f"heads={groups[0]}/{groups[1]} L={length}",
            (partial(run, qkv),),
            partial(reference, qkv),
            size,
        )


def _case(
    operation: str,
    name: str,
    size: str,
    runs: tuple[Callable[[], Tensor], ...],
    expected: Callable[[], Tensor],
    moved: float,
) -> Case:
    return Case(
        operation,
        name,
        size,
        {"elementwise": name},
        runs,
        {"output": Check(runs[0], expected)},
        flops=0,
        bytes=moved,
    )
