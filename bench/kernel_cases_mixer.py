"""The Mamba mixer's operations: whole sequences, a refresh, and tokens continued from a state.

The weights of a mixer (90 MB at 1.3b) are more than a GPU's cache holds: its operands need not
rotate.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from kernel_case import Bench, Case, Check
from torch import Tensor

from dlm_bench.kernels.choice import IMPLEMENTATIONS, choose_kernels
from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.cache import MambaCache, Window
from dlm_bench.models.config import ModelConfig, model_config

BLOCK = 32
PLAIN = dict.fromkeys(IMPLEMENTATIONS, "torch")


def mixer_cases(bench: Bench) -> Iterator[Case]:
    """The whole mixer, matmuls included, against the plain one in float32."""
    exact = _exact(bench, _mixer(bench, bench.dtype, PLAIN))
    for convolution in bench.implementations("conv"):
        for name in bench.implementations("ssd", conv="triton"):
            kernels = {"ssd": name, "walking_scan": "torch", "conv": convolution}
            yield _whole_case(bench, exact, f"{name}, {convolution}", kernels)
        for name in bench.implementations("walking_scan", conv="triton"):
            kernels = {"walking_scan": name, "conv": convolution}
            yield _whole_case(bench, exact, f"walking {name}, {convolution}", kernels)
    for name in bench.implementations("ssd", conv="triton"):
        kernels = {"ssd": name, "walking_scan": "torch", "conv": "triton"}
        yield _refresh_case(bench, exact, name, kernels)
    for name in bench.implementations("walking_scan", conv="triton"):
        kernels = {"walking_scan": name, "conv": "triton"}
        yield _refresh_case(bench, exact, f"walking {name}", kernels)
    for name in bench.implementations("block_scan"):
        yield _continued_case(bench, exact, "block_scan", name, BLOCK)
        yield _continued_case(bench, exact, "block_scan", name, 2 * BLOCK)
    alone = replace(bench, config=model_config("ar-mamba", bench.config.size))
    for name in alone.implementations("step"):
        exact = _exact(alone, _mixer(alone, bench.dtype, PLAIN))
        yield _continued_case(alone, exact, "step", name, 1)


def _flops_per_token(config: ModelConfig, weights: int) -> float:
    return 2.0 * weights + config.directions * 4 * config.d_inner * config.d_state


def _exact(bench: Bench, rounded: BiMamba) -> BiMamba:
    """The plain mixer in float32, with the weights of one in the dtype that is measured."""
    exact = _mixer(bench, torch.float32, PLAIN)
    exact.load_state_dict({name: weight.float() for name, weight in rounded.state_dict().items()})
    return exact


def _mixer(bench: Bench, dtype: torch.dtype, forced: dict[str, str]) -> BiMamba:
    chosen = choose_kernels(bench.device, dtype, bench.config.head_dim, forced)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(bench.device):
            mixer = BiMamba(bench.config, chosen)
    finally:
        torch.set_default_dtype(before)
    mixer.init_weights(torch.Generator(bench.device).manual_seed(0))
    return mixer.eval().requires_grad_(False)


def _whole_case(bench: Bench, exact: BiMamba, name: str, kernels: dict[str, str]) -> Case:
    """A whole sequence from zeros."""
    mixer = _mixer(bench, bench.dtype, kernels)
    x = bench.randn(1, bench.sequence, bench.config.d_model)
    weights = sum(p.numel() for p in exact.parameters())

    def run() -> Tensor:
        return mixer(x)

    return Case(
        "mixer",
        name,
        f"L={bench.sequence}",
        kernels,
        (run,),
        {"output": Check(run, lambda: exact(x.float()))},
        flops=_flops_per_token(bench.config, weights) * bench.sequence,
        bytes=(weights + 2 * x.numel()) * x.element_size(),
    )


def _refresh_case(bench: Bench, exact: BiMamba, name: str, kernels: dict[str, str]) -> Case:
    """The state that a refresh keeps in the middle of the sequence, and the whole mixer's time."""
    config, length = bench.config, bench.sequence
    mixer = _mixer(bench, bench.dtype, kernels)
    x = bench.randn(1, length, config.d_model)
    start = torch.full((1,), length // 4 + 3, device=bench.device)
    window = Window(torch.zeros_like(start), (length,), edges=(start, start + BLOCK))
    caches = [
        MambaCache(config, 1, bench.device, dtype, 2) for dtype in (bench.dtype, torch.float32)
    ]

    def states(mixer: BiMamba, x: Tensor, cache: MambaCache) -> Tensor:
        mixer(x, window, cache)
        return torch.stack(cache.states)

    weights = sum(p.numel() for p in exact.parameters())
    return Case(
        "refresh",
        name,
        f"L={length}",
        kernels,
        (lambda: mixer(x, window, caches[0]),),
        {
            "states": Check(
                lambda: states(mixer, x, caches[0]), lambda: states(exact, x.float(), caches[1])
            )
        },
        flops=_flops_per_token(config, weights) * length,
        bytes=(weights + 2 * x.numel()) * x.element_size(),
    )


def _continued_case(bench: Bench, exact: BiMamba, operation: str, name: str, tokens: int) -> Case:
    """A few tokens continued from a state by a whole mixer."""
    config = bench.config
    mixer = _mixer(bench, bench.dtype, {operation: name})
    x = bench.randn(1, tokens, config.d_model)
    caches = [
        MambaCache(config, 1, bench.device, dtype, 1) for dtype in (bench.dtype, torch.float32)
    ]
    caches[0].fill(torch.Generator(bench.device).manual_seed(0))
    for ours, theirs in zip(
        caches[0].states + caches[0].tails, caches[1].states + caches[1].tails, strict=True
    ):
        theirs.copy_(ours)
    window = Window(torch.zeros(1, dtype=torch.int64, device=bench.device), (tokens,))
    weights = sum(p.numel() for p in exact.parameters())
    state = caches[0].states[0]

    def run() -> Tensor:
        return mixer(x, window, caches[0])

    kept = [each.clone() for each in caches[0].states + caches[0].tails]

    def again() -> Tensor:  # mamba-ssm's step moves the state on
        for each, at_first in zip(caches[0].states + caches[0].tails, kept, strict=True):
            each.copy_(at_first)
        return run()

    return Case(
        operation,
        name,
        f"q={tokens}",
        {operation: name},
        (run,),
        {"output": Check(again, lambda: exact(x.float(), window, caches[1]))},
        flops=tokens * _flops_per_token(config, weights),
        bytes=weights * x.element_size() + state.numel() * state.element_size(),
    )
