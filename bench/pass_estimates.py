"""Estimates of the seconds of a pass at 1.3b, from bytes, FLOPs and launches.

Assumptions, not measurements: the copy rates below, products of 32 tokens at 80 % of them by cuBLAS
and 85 % by own kernels, 680 TFLOP/s of whole sequences under a power limit, attention with heads of
80 at 390 by a library that computes 128 columns at 620 and at 450 by the own kernel, and 1.3 us
between the kernels of a graph. At 1.7 GHz the own kernel's products take 0.51 of the time if its
softmax follows them (430 TFLOP/s), and nearly all of it if the two overlap (830). The walking scan
takes 2,200 cycles for a tile, of which 1,600 issue an instruction.
"""

from dataclasses import dataclass
from typing import NamedTuple

from dlm_bench.models.config import ModelConfig, model_config

GAP = 1.3e-6  # between kernels of a graph that wait for each other
TINY = 2.2e-6  # a small kernel by itself
SKINNY, OWN = 0.80, 0.85  # of the bandwidth, that a product of few tokens reaches
SPLITS, L2 = 16, 100e9  # of a head's keys; bytes/s at which one program reads what they leave
L2_RATE = 5.5e12  # bytes/s at which all programs together read it
START = 2e-6  # of a product of few tokens, until its pipeline is full
PEAK = 790e12  # FLOP/s of products at the highest clock, for floors
GEMM, HEAD = 680e12, 550e12  # FLOP/s of whole sequences
LIBRARY_ATTENTION, OWN_ATTENTION = 390e12, 450e12
WALKED_TILE = 2200 / 1.7e9  # seconds
SHORT = 256  # query tokens up to which a pass is one of a block
PREDICTING = ("LM head", "its winners", "unmasking")  # parts
AR_SHARE = 0.75  # of a denoiser's block pass: no adaLN, and no second direction


@dataclass(frozen=True)
class Gpu:
    """A GPU's rate of copies, in bytes/s."""

    name: str
    bandwidth: float


GPUS = {"h100": Gpu("h100", 3.0e12), "h200": Gpu("h200", 4.3e12)}


class Early(NamedTuple):
    """Kernels that begin while the one before ends (`small_pass=triton-pdl`).

    saves: seconds of a launch. prefetched: a block's scan brings half of the next weights to L2, as
    its own bytes leave memory idle.
    """

    saves: float
    prefetched: bool


# Measured by others on an H100 in CUDA graphs: 0.15 and 0.21 us between a norm and a product that
# reads 100 or 34 MB of weights, prefetching none; 0.96 us between empty kernels
# (github.com/pegainfer-project/pegainfer/issues/569). No figure is known of what prefetching in
# front of the wait adds; it is left out, but for the scan's, which follows from the rates.
LEAST, MOST = Early(0.15e-6, False), Early(0.96e-6, True)


class Part(NamedTuple):
    """Launches of a pass over a block that are alike.

    launches: their number. read: bytes of each, at `rate` bytes/s. beside: seconds of each that
    are not reading: until its pipeline is full, split sums, arithmetic. own: by a Triton kernel.
    """

    name: str
    launches: int
    read: float
    rate: float
    beside: float
    own: bool = True

    def reading(self) -> float:
        """Seconds of all of them to read."""
        return self.launches * self.read / self.rate

    def gaps(self, early: Early | None = None) -> float:
        """Seconds in front of all of them."""
        saved = early.saves if early is not None and self.own else 0.0
        return self.launches * (GAP - saved)

    def seconds(self, early: Early | None = None) -> float:
        """Seconds of all of them."""
        return self.reading() + self.launches * self.beside + self.gaps(early)


def pass_seconds(
    backbone: str,
    query_len: int,
    context_len: int,
    gpu: Gpu,
    *,
    own_attention: bool = False,
    walking: bool = False,
    early: Early | None = None,
    predicts: bool = True,
) -> float:
    """Seconds of a pass. own_attention, walking: over a whole sequence by own kernels. predicts:
    the LM head and unmasking follow, as after no commit."""
    denoiser = {"ar-mamba": "diffumamba", "ar-transformer": "diffutran"}.get(backbone, backbone)
    config = model_config(denoiser, "1.3b")
    if query_len > SHORT:
        return whole_seconds(config, query_len, gpu, own_attention, walking)
    share = AR_SHARE if denoiser != backbone else 1.0
    shape = config, context_len, query_len, gpu
    if early is None:  # by the faster of the implementations of `small_pass`
        ways = [block_parts(*shape, own) for own in (False, True)]
    else:
        ways = [early_parts(*shape, early)]
    return share * min(
        sum(part.seconds(early) for part in parts if predicts or part.name not in PREDICTING)
        for parts in ways
    )


def block_parts(
    config: ModelConfig, context: int, tokens: int, gpu: Gpu, own: bool = True
) -> list[Part]:
    """The launches of a pass over a block, bound by reading weights and caches. `own`: norms,
    gates, GELU and rotary inside own products, else by a kernel each."""
    d, rate = config.d_model, gpu.bandwidth
    hidden = config.mlp_ratio * d
    attentions = sum(config.is_attention(layer) for layer in range(config.layers))
    scans = config.layers - attentions

    def product(name: str, launches: int, outputs: int, inputs: int) -> Part:
        # Of split sums: the last program of a tile adds them (fewer tiles of 64 outputs than
        # processors have two splits and more), or a kernel of cuBLAS.
        split = outputs <= 64 * 132 if own else inputs > outputs
        reduced = 0.0 if not split else (0.7e-6 if own else TINY + GAP)
        reached = (OWN if own else SKINNY) * rate
        return Part(name, launches, 2 * outputs * inputs, reached, START + reduced, own)

    cache = (context + tokens) * d * 2 * 2
    least = max(3e-6 - cache / (0.85 * rate), 1.5e-6)
    combined = 1e-6 + SPLITS * tokens * config.head_dim * 4 / L2
    scan = 7.5e-6 * (1.0 if tokens <= 32 else 1.6)
    head = config.vocab_size * d * 2
    parts = [
        product("qkv", attentions, 3 * d, d),
        Part("attention", attentions, cache, 0.85 * rate, least + combined),
        product("out", attentions, d, d),
        product("in_proj", scans, _projected(config), d),
        Part("block_scan", scans, 0, rate, scan),
        product("out_proj", scans, d, 2 * config.d_inner),
        product("up", config.layers, hidden, d),
        product("down", config.layers, d, hidden),
        Part("LM head", 1, head, 0.88 * rate, 3e-6),
        Part("its winners", 1, 0, rate, 4e-6),
        Part("unmasking", 1, 0, rate, 1.6e-6),
        # Numbers, adaLN's rows and the count by torch; tokens, embeddings and a norm.
        Part("torch", 3, 0, rate, 1.6e-6, own=False),
        Part("around", 3, 0, rate, 1.6e-6),
    ]
    if not own:
        parts.append(Part("rotary", attentions, 0, rate, TINY + 0.4e-6))
        parts.append(Part("norms", 2 * config.layers, 0, rate, TINY + 0.4e-6))
        parts.append(Part("gated norms", scans, 0, rate, TINY + 0.8e-6))
    return [part for part in parts if part.launches]


def early_parts(
    config: ModelConfig, context: int, tokens: int, gpu: Gpu, early: Early
) -> list[Part]:
    """The launches of `triton-pdl`."""
    parts = block_parts(config, context, tokens, gpu)
    if not early.prefetched:
        return parts
    # Half of the bytes are in L2; both halves are read at once, so that L2 gives all of them.
    return [
        part._replace(read=part.read / 2, rate=min(part.rate, L2_RATE / 2))
        if part.name == "out_proj"
        else part
        for part in parts
    ]


def whole_seconds(
    config: ModelConfig, length: int, gpu: Gpu, own_attention: bool, walking: bool
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
            total += _scan_seconds(config, length, rate, walking)
    return total


def _scan_seconds(config: ModelConfig, length: int, rate: float, walking: bool) -> float:
    """Seconds of convolution, scan and gated norm: in chunks, bound by memory, or walking."""
    inner, state, chunk = config.d_inner, config.d_state, 256
    heads = 2 * config.ssm_heads
    states = length / chunk * heads * 64 * state  # elements, of all chunks
    moved = length * 4 * (inner + 2 * state) * 2 / 0.85  # convolution
    moved += length * 12 * inner / 0.9  # gated norm
    if walking:
        walked = length * (8 * inner + 8 * state + 8 * heads) / 0.75
        return moved / rate + max(walked / rate, length / 64 * WALKED_TILE) + 12e-6
    moved += (length * heads * 10 + length * chunk * 4 + length * 8 * state) / 0.6  # C B^T
    moved += (length * 2 * inner * 2 + 2 * states) / 0.75  # states of the chunks
    moved += 4 * states / 0.8  # passed on
    moved += (length * 8 * inner + 2 * states) / 0.75  # outputs
    return moved / rate + 24e-6


def _projected(config: ModelConfig) -> int:
    return 2 * (2 * config.d_inner + 2 * config.d_state + config.ssm_heads)
