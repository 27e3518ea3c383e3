"""The operations of the CUDA path at the sizes of a model, each with its plain reference."""

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch
from kernel_case import Bench, Case, Check
from kernel_cases_cached import BLOCK, cached_cases
from kernel_cases_field import field_cases
from kernel_cases_mixer import mixer_cases
from kernel_cases_small import small_pass_cases
from kernel_cases_window import window_cases
from torch import Tensor

from dlm_bench.kernels.attention import choose_attend
from dlm_bench.kernels.forms import choose_add_norm, choose_predict
from dlm_bench.kernels.rotary import rotary_angles, rotate


def attention_cases(bench: Bench) -> Iterator[Case]:
    heads, head_dim, length = bench.config.heads, bench.config.head_dim, bench.sequence
    q, k, v = (bench.randn(1, heads, length, head_dim) for _ in range(3))
    # In float32 the plain one may build (L, L) scores, which would not fit.
    exact = choose_attend("efficient" if bench.device.type == "cuda" else "torch")
    for name, causal in product(bench.implementations("attention"), (False, True)):
        run = partial(choose_attend(name), q, k, v, causal=causal)

        def reference(causal: bool = causal) -> Tensor:
            return exact(q.float(), k.float(), v.float(), causal=causal)

        yield Case(
            "attention",
            name,
            f"L={length}{' causal' if causal else ''}",
            {"attention": name},
            (run,),
            {"output": Check(run, reference)},
            flops=4.0 * length * length * heads * head_dim / (1 + causal),
            bytes=4 * q.numel() * q.element_size(),
        )


def cached_attention_cases(bench: Bench) -> Iterator[Case]:
    yield from cached_cases(bench, bench.config, "cached_attention")


def head_cases(bench: Bench) -> Iterator[Case]:
    config = bench.config
    weight = bench.randn(config.vocab_size, config.d_model) * config.d_model**-0.5
    exact = weight.float()
    for rows, part in ((BLOCK, 1.0), (bench.sequence, 1.0), (bench.sequence, 0.5)):
        hidden = bench.randn(rows, config.d_model)
        needed = torch.rand(rows, device=bench.device) < part
        count = int(needed.sum())
        for name in bench.implementations("lm_head", plain=rows == BLOCK):

            def head(name: str = name, hidden: Tensor = hidden, needed: Tensor = needed) -> Tensor:
                return choose_predict(name)(hidden, weight, config.mask_id, needed)[1]

            yield Case(
                "lm_head",
                name,
                f"rows={rows} needed={part}",
                {"lm_head": name},
                (head,),
                head_checks(name, hidden, weight, exact, config.mask_id, needed),
                flops=2.0 * count * config.d_model * config.vocab_size,
                bytes=weight.numel() * weight.element_size() + count * config.d_model * 2,
                capturable=name != "torch",  # it counts the needed rows on the host
            )


def head_checks(
    name: str, hidden: Tensor, weight: Tensor, exact: Tensor, mask_id: int, needed: Tensor
) -> dict[str, Check]:
    """Compare the log-probabilities, and the logits of the winners, each by itself: next to a logit
    of 4 a probability of 0.001 could be anything. A wrong winner has a lower logit.

    A logit of 4 to 8 is rounded by up to 2^-6 in bfloat16, and so two that compete by twice that.
    """

    def chosen(backend: str, hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return choose_predict(backend)(hidden, weight, mask_id, needed)

    def confidence(backend: str, hidden: Tensor, weight: Tensor) -> Tensor:
        probability = chosen(backend, hidden, weight)[1]
        return torch.where(needed, probability.log(), probability)  # 0 of those not needed

    def logits(backend: str, hidden: Tensor, weight: Tensor) -> Tensor:
        tokens = chosen(backend, hidden, weight)[0]
        return (hidden.float() * exact[tokens]).sum(-1) * needed

    return {
        check: Check(
            partial(value, name, hidden, weight),
            partial(value, "torch", hidden.float(), exact),
            absolute=True,
            scale=scale,
        )
        for check, value, scale in (("log p", confidence, 1.0), ("logit", logits, 2.0))
    }


def elementwise_cases(bench: Bench) -> Iterator[Case]:
    config = bench.config
    for name in bench.implementations("elementwise", plain=True):
        for length in (BLOCK, bench.sequence):
            gate, scale, shift = bench.randn(1, 1, 3 * config.d_model).chunk(3, -1)

            def norm(
                x: Tensor, branch: Tensor, gate: Tensor, scale: Tensor, shift: Tensor, name: str
            ) -> Tensor:
                add_norm = choose_add_norm(name)
                x, segments = x.clone(), x.shape[1:2]
                return add_norm(x, branch, gate, scale, shift, segments, unit_scale=True)[1]

            size = length * config.d_model * (4 * 4 + 2 * gate.element_size())
            operands = [
                (
                    torch.randn(1, length, config.d_model, device=bench.device),
                    bench.randn(1, length, config.d_model),
                )
                for _ in range(bench.copies(size))
            ]
            runs = tuple(partial(norm, *each, gate, scale, shift, name) for each in operands)
            exact = [each.float() for each in (*operands[0], gate, scale, shift)]
            yield Case(
                "add_norm (and a copy of x)",
                name,
                f"L={length}",
                {"elementwise": name},
                runs,
                {"output": Check(runs[0], partial(norm, *exact, "torch"))},
                flops=0,
                bytes=size,
            )
        if name == "triton":
            yield from _rotary_cases(bench)


def _rotary_cases(bench: Bench) -> Iterator[Case]:
    from dlm_bench.kernels.cuda.rotary import rotate_qkv

    heads, head_dim = bench.config.heads, bench.config.head_dim
    for length in (BLOCK, bench.sequence):
        angles = rotary_angles(torch.arange(length, device=bench.device), head_dim)

        def run(qkv: Tensor, angles: tuple[Tensor, Tensor] = angles) -> Tensor:
            turned = qkv.clone()
            rotate_qkv(turned, *angles, kv_heads=heads)
            return turned

        def reference(qkv: Tensor, angles: tuple[Tensor, Tensor] = angles) -> Tensor:
            q, k, v = qkv.float().transpose(1, 2).chunk(3, dim=1)
            return torch.cat((rotate(q, angles), rotate(k, angles), v), dim=1).transpose(1, 2)

        first = bench.randn(1, length, 3 * heads, head_dim)
        size = first.numel() * first.element_size()
        copies = bench.copies(size) - 1
        operands = [first, *(bench.randn(*first.shape) for _ in range(copies))]
        runs = tuple(partial(run, each) for each in operands)
        yield Case(
            "rotary (and a copy of qkv)",
            "triton",
            f"L={length}",
            {"elementwise": "triton"},
            runs,
            {"output": Check(runs[0], partial(reference, first))},
            flops=0,
            bytes=2 * size + 4 * size // 3,
        )


GROUPS = (
    attention_cases,
    mixer_cases,
    cached_attention_cases,
    head_cases,
    elementwise_cases,
    window_cases,
    small_pass_cases,  # of kernels that were tried by themselves
)
FIELD_GROUPS = (field_cases,)
