"""Estimates of the seconds of a pass at 1.3b, from bytes, FLOPs and launches.

Assumptions, not measurements: the copy rates below, products of 32 tokens at 80 % of them by cuBLAS
and 85 % by own kernels, 680 TFLOP/s of whole sequences under a power limit, attention with heads of
80 at 390 by a library that computes 128 columns at 620 and at 450 by the own kernel, and 1.3 us
between the kernels of a graph. At 1.7 GHz the own kernel's products take 0.51 of the time if its
softmax follows them (430 TFLOP/s), and nearly all of it if the two overlap (830).
"""

from dataclasses import dataclass

from dlm_bench.models.config import ModelConfig, model_config

GAP = 1.3e-6  # between kernels of a graph that wait for each other
TINY = 2.2e-6  # a small kernel by itself
SKINNY, OWN = 0.80, 0.85  # of the bandwidth, that a product of few tokens reaches
SPLITS, L2 = 16, 100e9  # of a head's keys; bytes/s at which one program reads what they leave
START = 2e-6  # of a product of few tokens, until its pipeline is full
PEAK = 790e12  # FLOP/s of products at the highest clock, for floors
GEMM, HEAD = 680e12, 550e12  # FLOP/s of whole sequences
LIBRARY_ATTENTION, OWN_ATTENTION = 390e12, 450e12
SHORT = 256  # query tokens up to which a pass is one of a block
AR_SHARE = 0.75  # of a denoiser's block pass: no adaLN, and no second direction


@dataclass(frozen=True)
class Gpu:
    """A GPU's rate of copies, in bytes/s."""

    name: str
    bandwidth: float


GPUS = {"h100": Gpu("h100", 3.0e12), "h200": Gpu("h200", 4.3e12)}


def pass_seconds(
    backbone: str, query_len: int, context_len: int, gpu: Gpu, *, own_attention: bool = False
) -> float:
    """Seconds of a pass."""
    denoiser = {"ar-mamba": "diffumamba", "ar-transformer": "diffutran"}.get(backbone, backbone)
    config = model_config(denoiser, "1.3b")
    if query_len > SHORT:
        return whole_seconds(config, query_len, gpu, own_attention=own_attention)
    share = AR_SHARE if denoiser != backbone else 1.0
    return share * block_seconds(config, context_len, query_len, gpu)


def block_seconds(config: ModelConfig, context: int, tokens: int, gpu: Gpu) -> float:
    """Seconds of a pass over a block, by the faster of the implementations of `small_pass`."""
    return min(_block_seconds(config, context, tokens, gpu, own) for own in (False, True))


def _block_seconds(config: ModelConfig, context: int, tokens: int, gpu: Gpu, own: bool) -> float:
    """Seconds of a pass over a block, bound by reading weights and caches. `own`: norms, gates,
    GELU and rotary inside own products, else by a kernel each."""
    d, rate = config.d_model, gpu.bandwidth
    norm = 0.0 if own else TINY + 0.4e-6 + GAP

    def product(outputs: int, inputs: int) -> float:
        # Of split sums: the last program of a tile adds them, or a kernel of cuBLAS.
        split = outputs <= 64 * 132 if own else inputs > outputs
        reduced = 0.0 if not split else (0.7e-6 if own else TINY + GAP)
        return outputs * inputs * 2 / ((OWN if own else SKINNY) * rate) + START + GAP + reduced

    hidden = config.mlp_ratio * d
    total = config.layers * (product(hidden, d) + product(d, hidden) + 2 * norm)
    for layer in range(config.layers):
        if config.is_attention(layer):
            cache = (context + tokens) * d * 2 * 2
            total += product(3 * d, d) + product(d, d)
            total += 0.0 if own else TINY + 0.4e-6 + GAP  # rotary, and the write to the cache
            parts = SPLITS * tokens * config.head_dim * 4
            total += max(3e-6, cache / (0.85 * rate) + 1.5e-6) + 1e-6 + parts / L2 + GAP
        else:
            total += product(_projected(config), d) + product(d, 2 * config.d_inner)
            total += 7.5e-6 * (1.0 if tokens <= 32 else 1.6) + GAP  # the scan of the block
            total += 0.0 if own else TINY + 0.8e-6 + GAP  # the gated norm
    head = config.vocab_size * d * 2 / (0.88 * rate) + 7e-6 + 2 * GAP
    return total + head + 6 * (1.6e-6 + GAP)  # numbers, tokens, embeddings, adaLN's rows, a norm


def whole_seconds(
    config: ModelConfig, length: int, gpu: Gpu, *, own_attention: bool = False
) -> float:
    """Seconds of a pass over a whole sequence."""
    d, rate = config.d_model, gpu.bandwidth
    attention = OWN_ATTENTION if own_attention else LIBRARY_ATTENTION

    def product(outputs: int, inputs: int) -> float:
        moved = (length * (outputs + inputs) + outputs * inputs) * 2
        return max(2 * length * outputs * inputs / GEMM, moved / rate) + GAP + 2e-6

    hidden = config.mlp_ratio * d
    total = 2 * length * config.vocab_size * d / HEAD + 180e-6
    for layer in range(config.layers):
        total += product(hidden, d) + product(d, hidden)
        total += 2 * (length * d * 12 / (0.9 * rate) + 2e-6 + GAP)  # norms
        if config.is_attention(layer):
            total += product(3 * d, d) + product(d, d)
            total += 4 * length**2 * d / attention + length * d * 8 / (0.9 * rate) + 6e-6
        else:
            total += product(_projected(config), d) + product(d, 2 * config.d_inner)
            total += _scan_seconds(config, length, rate)
    return total


def _scan_seconds(config: ModelConfig, length: int, rate: float) -> float:
    """Seconds of convolution, chunked scan and gated norm, bound by memory."""
    inner, state, chunk = config.d_inner, config.d_state, 256
    heads = 2 * config.ssm_heads
    states = length / chunk * heads * 64 * state  # elements, of all chunks
    moved = length * 4 * (inner + 2 * state) * 2 / 0.85  # convolution
    moved += (length * heads * 10 + length * chunk * 4 + length * 8 * state) / 0.6  # C B^T
    moved += (length * 2 * inner * 2 + 2 * states) / 0.75  # states of the chunks
    moved += 4 * states / 0.8  # passed on
    moved += (length * 8 * inner + 2 * states) / 0.75  # outputs
    moved += length * 12 * inner / 0.9  # gated norm
    return moved / rate + 24e-6


def _projected(config: ModelConfig) -> int:
    return 2 * (2 * config.d_inner + 2 * config.d_state + config.ssm_heads)
