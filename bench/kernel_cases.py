"""The operations of the CUDA path at the sizes of a model, each with its plain reference."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm_bench.errors import ConfigError
from dlm_bench.kernels.adaln import choose_add_norm
from dlm_bench.kernels.attention import attend, attend_cached
from dlm_bench.kernels.choice import IMPLEMENTATIONS, choose_kernels
from dlm_bench.kernels.lm_head import predict
from dlm_bench.kernels.rotary import rotary_angles, rotate
from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.cache import MambaCache, Window
from dlm_bench.models.config import ModelConfig, model_config

BLOCK = 32


@dataclass(frozen=True)
class Case:
    """One implementation of an operation at one size; `bytes` are each operand's once."""

    operation: str
    implementation: str
    size: str
    run: Callable[[], Tensor]
    reference: Callable[[], Tensor]
    flops: float
    bytes: float
    check: Callable[[], Tensor] | None = None  # compared with the reference, if not `run` itself


@dataclass(frozen=True)
class Bench:
    """Where and at which sizes to measure."""

    device: torch.device
    dtype: torch.dtype
    config: ModelConfig
    sequence: int
    contexts: tuple[int, ...]
    told: set[tuple[str, str]] = field(default_factory=set)  # what is not here, said once

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device).to(self.dtype)

    def implementations(
        self, operation: str, *, plain: bool = False, **others: str
    ) -> Iterator[str]:
        """Those of an operation that are there, with these of others."""
        for name in IMPLEMENTATIONS[operation]:
            try:
                forced = {operation: name} | others
                choose_kernels(self.device, self.dtype, self.config.head_dim, forced)
            except ConfigError as error:
                if (operation, name) not in self.told:
                    print(f"not here: {error}")
                self.told.add((operation, name))
                continue
            if name != "torch" or plain:
                yield name


def attention_cases(bench: Bench) -> Iterator[Case]:
    heads, head_dim, length = bench.config.heads, bench.config.head_dim, bench.sequence
    q, k, v = (bench.randn(1, heads, length, head_dim) for _ in range(3))
    numbers = 4 * q.numel() * q.element_size()
    # In float32 the plain one may build (L, L) scores, which would not fit.
    exact = "efficient" if bench.device.type == "cuda" else "torch"
    for name in bench.implementations("attention"):
        yield Case(
            "attention",
            name,
            f"L={length}",
            lambda name=name: attend(q, k, v, backend=name),
            lambda: attend(q.float(), k.float(), v.float(), backend=exact),
            4.0 * length * length * heads * head_dim,
            numbers,
        )


def cached_attention_cases(bench: Bench) -> Iterator[Case]:
    heads, head_dim = bench.config.heads, bench.config.head_dim
    allocated = max(bench.contexts) + BLOCK
    k, v = (bench.randn(1, heads, allocated, head_dim) for _ in range(2))
    q = bench.randn(1, BLOCK, heads, head_dim)
    rows = q.transpose(1, 2)
    for context in bench.contexts:
        start = torch.full((1,), context, device=bench.device)
        visible = context + BLOCK

        def reference(n: int = visible) -> Tensor:
            keys, values = k[:, :, :n].float(), v[:, :, :n].float()
            return F.scaled_dot_product_attention(rows.float(), keys, values).transpose(1, 2)

        for name in bench.implementations("cached_attention"):

            def run(name: str = name, start: Tensor = start) -> Tensor:
                if name == "triton":
                    from dlm_bench.kernels.cuda.split_kv import attend_split_kv

                    return attend_split_kv(q, k, v, start, (BLOCK,))
                return attend_cached(rows, k, v, start + BLOCK, backend=name).transpose(1, 2)

            yield Case(
                "cached_attention",
                name,
                f"q={BLOCK} context={context}",
                run,
                reference,
                4.0 * BLOCK * visible * heads * head_dim,
                2 * visible * heads * head_dim * k.element_size(),
            )


def mixer_cases(bench: Bench) -> Iterator[Case]:
    """The whole mixer, matmuls included, against the plain one in float32."""
    config, plain = bench.config, dict.fromkeys(IMPLEMENTATIONS, "torch")
    exact = _exact(bench, _mixer(bench, bench.dtype, plain))
    weights = sum(p.numel() for p in exact.parameters())
    n = config.d_inner * config.d_state
    per_token = 2 * weights + config.directions * 4 * n
    for name in bench.implementations("ssd", conv="triton"):
        for convolution in bench.implementations("conv"):
            mixer = _mixer(bench, bench.dtype, {"ssd": name, "conv": convolution})
            x = bench.randn(1, bench.sequence, config.d_model)
            yield Case(
                "mixer",
                f"{name}, {convolution}",
                f"L={bench.sequence}",
                lambda mixer=mixer, x=x: mixer(x),
                lambda x=x: exact(x.float()),
                per_token * bench.sequence,
                (weights + 2 * x.numel()) * x.element_size(),
            )
        yield _refresh_case(bench, exact, name)
    for name in bench.implementations("block_scan"):
        yield _continued_case(bench, exact, "block_scan", name, BLOCK)
        yield _continued_case(bench, exact, "block_scan", name, 2 * BLOCK)
    causal = model_config("ar-mamba", config.size)
    alone = Bench(bench.device, bench.dtype, causal, bench.sequence, bench.contexts)
    for name in bench.implementations("step"):
        exact = _exact(alone, _mixer(alone, bench.dtype, plain))
        yield _continued_case(alone, exact, "step", name, 1)


def _exact(bench: Bench, rounded: BiMamba) -> BiMamba:
    """The plain mixer in float32, with the weights of one in the dtype that is measured."""
    exact = _mixer(bench, torch.float32, dict.fromkeys(IMPLEMENTATIONS, "torch"))
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


def _refresh_case(bench: Bench, exact: BiMamba, name: str) -> Case:
    """The state that a refresh keeps in the middle of the sequence, and the whole mixer's time."""
    config, length = bench.config, bench.sequence
    mixer = _mixer(bench, bench.dtype, {"ssd": name, "conv": "triton"})
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
        lambda: mixer(x, window, caches[0]),
        lambda: states(exact, x.float(), caches[1]),
        (2 * weights + config.directions * 4 * config.d_inner * config.d_state) * length,
        (weights + 2 * x.numel()) * x.element_size(),
        check=lambda: states(mixer, x, caches[0]),
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
    return Case(
        operation,
        name,
        f"q={tokens}",
        lambda: mixer(x, window, caches[0]),
        lambda: exact(x.float(), window, caches[1]),
        tokens * (2 * weights + config.directions * 4 * config.d_inner * config.d_state),
        weights * x.element_size() + state.numel() * state.element_size(),
    )


def head_cases(bench: Bench) -> Iterator[Case]:
    config = bench.config
    weight = bench.randn(config.vocab_size, config.d_model) * config.d_model**-0.5
    for rows, part in ((BLOCK, 1.0), (bench.sequence, 1.0), (bench.sequence, 0.5)):
        hidden = bench.randn(rows, config.d_model)
        needed = torch.rand(rows, device=bench.device) < part
        count = int(needed.sum())

        def head(name: str, hidden: Tensor = hidden, needed: Tensor = needed) -> Tensor:
            return predict(hidden, weight, config.mask_id, needed, backend=name)[1]

        def chosen(name: str, hidden: Tensor = hidden, needed: Tensor = needed) -> Tensor:
            """Probabilities, and the logits of the tokens: a wrong token has a lower one."""
            tokens, probability = predict(hidden, weight, config.mask_id, needed, backend=name)
            logits = (hidden.float() * weight[tokens].float()).sum(-1) * needed
            return torch.cat((probability, logits))

        for name in bench.implementations("lm_head", plain=rows == BLOCK):
            yield Case(
                "lm_head",
                name,
                f"rows={rows} needed={part}",
                partial(head, name),
                partial(chosen, "torch"),
                2.0 * count * config.d_model * config.vocab_size,
                weight.numel() * weight.element_size() + count * config.d_model * 2,
                check=partial(chosen, name),
            )


def elementwise_cases(bench: Bench) -> Iterator[Case]:
    config = bench.config
    for name in bench.implementations("elementwise", plain=True):
        for length in (BLOCK, bench.sequence):
            x = torch.randn(1, length, config.d_model, device=bench.device)
            branch = bench.randn(1, length, config.d_model)
            gate, scale, shift = bench.randn(1, 1, 3 * config.d_model).chunk(3, -1)

            def norm(
                branch: Tensor, gate: Tensor, scale: Tensor, shift: Tensor, name: str, x: Tensor = x
            ) -> Tensor:
                add_norm = choose_add_norm(name)
                x, segments = x.clone(), x.shape[1:2]
                return add_norm(x, branch, gate, scale, shift, segments, unit_scale=True)[1]

            yield Case(
                "add_norm (and a copy of x)",
                name,
                f"L={length}",
                lambda f=norm, b=branch, g=gate, c=scale, s=shift, n=name: f(b, g, c, s, n),
                lambda f=norm, b=branch, g=gate, c=scale, s=shift: f(
                    b.float(), g.float(), c.float(), s.float(), "torch"
                ),
                0,
                x.numel() * (4 * 4 + 2 * branch.element_size()),
            )
        if name == "triton":
            yield from _rotary_cases(bench)


def _rotary_cases(bench: Bench) -> Iterator[Case]:
    from dlm_bench.kernels.cuda.rotary import rotate_qkv

    heads, head_dim = bench.config.heads, bench.config.head_dim
    for length in (BLOCK, bench.sequence):
        angles = rotary_angles(torch.arange(length, device=bench.device), head_dim)
        qkv = bench.randn(1, length, 3, heads, head_dim)

        def run(qkv: Tensor = qkv, angles: tuple[Tensor, Tensor] = angles) -> Tensor:
            turned = qkv.clone()
            rotate_qkv(turned, *angles)
            return turned

        def reference(qkv: Tensor = qkv, angles: tuple[Tensor, Tensor] = angles) -> Tensor:
            q, k, v = qkv.float().permute(2, 0, 3, 1, 4)
            return torch.stack((rotate(q, angles), rotate(k, angles), v)).permute(1, 3, 0, 2, 4)

        size = qkv.numel() * qkv.element_size()
        yield Case(
            "rotary (and a copy of qkv)",
            "triton",
            f"L={length}",
            run,
            reference,
            0,
            2 * size + 4 * size // 3,
        )


GROUPS = (
    attention_cases,
    mixer_cases,
    cached_attention_cases,
    head_cases,
    elementwise_cases,
)
