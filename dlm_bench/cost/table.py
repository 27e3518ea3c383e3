"""The counterpart of the paper's Table 3 (arXiv 2511.15927): the cost of each way of decoding, in
leading order and in numbers.

The symbols: L tokens, p of them a step, blocks of B, width d, state n (d_state), a the share of
attention layers in DiffuMamba-H, F the hardware's FLOP/s and W its bytes/s. Constants, the number
of layers and the vocabulary are left out, and so is a block cache's factor 1 + p/B for commits by
separate passes, which is at most 2. A block is taken to be below the hardware's ridge (B < F/W):
weights and caches bound its pass, and arithmetic bounds a pass over the whole sequence. Fast-dLLM's
laws are those of its refreshes, which outweigh its other passes in FLOPs where L exceeds B²/p, and
in time where L exceeds (B/p)(F/W).
"""

from dataclasses import dataclass

import numpy as np

from dlm_bench.cost.flops import cache_bytes, parameter_bytes, pass_costs, passes_of
from dlm_bench.cost.roofline import Hardware, floor_seconds
from dlm_bench.errors import check_int, unknown
from dlm_bench.models.config import model_config
from dlm_bench.results.table import grid
from dlm_bench.samplers import build_sampler
from dlm_bench.samplers.block_cache import BlockCache
from dlm_bench.samplers.fast_dllm import FastDLLM
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.streams import folded, screen_width

FORMATS = ("text", "markdown", "latex")


@dataclass(frozen=True)
class Method:
    """A row of the table: a backbone, a sampler, and the laws as Python expressions.

    flops are those of a whole decode, memory the numbers held (weights and caches), intensity the
    FLOPs per byte over the decode, throughput the bound in tokens per second.
    """

    title: str
    backbone: str
    sampler: str
    flops: str
    memory: str
    intensity: str
    throughput: str


# Per token and layer: d**2 is the projections and the MLP, d*n the scan, L*d attention.
METHODS = (
    Method(
        "AR Transformer",
        "ar-transformer",
        "ar",
        flops="L*(d**2 + L*d)",
        memory="d**2 + L*d",
        intensity="1",
        throughput="W/(d**2 + L*d)",
    ),
    Method(
        "DiffuTran",
        "diffutran",
        "full",
        flops="L**2*(d**2 + L*d)/p",
        memory="d**2",
        intensity="L*(d + L)/d",
        throughput="F*p/(L*(d**2 + L*d))",
    ),
    Method(
        "DiffuMamba",
        "diffumamba",
        "full",
        flops="L**2*(d**2 + d*n)/p",
        memory="d**2",
        intensity="L*(d + n)/d",
        throughput="F*p/(L*(d**2 + d*n))",
    ),
    Method(
        "DiffuMamba-H",
        "diffumamba-h",
        "full",
        flops="L**2*(d**2 + d*n + a*L*d)/p",
        memory="d**2",
        intensity="L*(d + n + a*L)/d",
        throughput="F*p/(L*(d**2 + d*n + a*L*d))",
    ),
    Method(
        "DiffuMamba-H, Fast-dLLM",
        "diffumamba-h",
        "fast-dllm",
        flops="L**2*(d**2 + d*n + a*L*d)/B",
        memory="d**2 + d*n + a*L*d",
        intensity="L*p/B",
        throughput="F*B/(L*(d**2 + d*n + a*L*d))",
    ),
    Method(
        "DiffuTran, block cache",
        "diffutran",
        "block-cache",
        flops="L*B*(d**2 + L*d)/p",
        memory="d**2 + L*d",
        intensity="B",
        throughput="W*p/(d**2 + L*d)",
    ),
    Method(
        "DiffuMamba, block cache",
        "diffumamba",
        "block-cache",
        flops="L*B*(d**2 + d*n)/p",
        memory="d**2 + d*n",
        intensity="B",
        throughput="W*p/(d**2 + d*n)",
    ),
    Method(
        "DiffuMamba-H, block cache",
        "diffumamba-h",
        "block-cache",
        flops="L*B*(d**2 + d*n + a*L*d)/p",
        memory="d**2 + d*n + a*L*d",
        intensity="B",
        throughput="W*p/(d**2 + d*n + a*L*d)",
    ),
)


@dataclass(frozen=True)
class Numbers:
    """A method's numbers: passes (NFE) and FLOPs of a decode, bytes of weights and caches, FLOPs
    per byte, floor in seconds of a decode, tokens per second at the floor, and the share of the
    floor bound by arithmetic rather than by memory."""

    passes: int
    flops: float
    weights: int
    caches: int
    intensity: float
    seconds: float
    tokens_per_second: float
    arithmetic_bound: float


def numbers(
    method: Method,
    hardware: Hardware,
    *,
    size: str = "1.3b",
    length: int = 8192,
    tokens_per_step: int = 8,
    block_size: int = 32,
) -> Numbers:
    """A method's numbers in the precision of the hardware's peak, at batch 1 and the samplers'
    default options. Raises ConfigError for a wrong value."""
    check_int("length", length)
    config = model_config(method.backbone, size)
    sampler = _sampler(method, tokens_per_step, block_size)
    dtype = hardware.dtype
    costs = pass_costs(config, sampler, passes_of(sampler, DecodeShape(length)), dtype=dtype)
    floors = np.asarray(floor_seconds(costs, hardware))
    by_arithmetic = np.asarray(costs.intensity) > hardware.ridge
    seconds, total = float(floors.sum()), costs.total()
    return Numbers(
        passes=floors.size,
        flops=float(total.flops),
        weights=parameter_bytes(config, dtype),
        caches=cache_bytes(config, sampler, length, dtype=dtype),
        intensity=float(total.intensity),
        seconds=seconds,
        tokens_per_second=length / seconds,
        arithmetic_bound=float(floors[by_arithmetic].sum()) / seconds,
    )


def cost_report(
    hardware: Hardware,
    *,
    size: str = "1.3b",
    length: int = 8192,
    tokens_per_step: int = 8,
    block_size: int = 32,
    style: str = "text",
) -> str:
    """The two tables, of laws and of numbers, as text, markdown or LaTeX (booktabs).

    Raises ConfigError for a wrong value.
    """
    if style not in FORMATS:
        raise unknown("format", style, FORMATS)
    laws, found = [], []
    for method in METHODS:
        formulas = (method.flops, method.memory, method.intensity, method.throughput)
        laws.append([method.title, *(formula(law, style) for law in formulas)])
        row = numbers(
            method,
            hardware,
            size=size,
            length=length,
            tokens_per_step=tokens_per_step,
            block_size=block_size,
        )
        fits = row.weights + row.caches <= hardware.memory
        found.append(
            [
                method.title,
                f"{row.passes:,}",
                _short(row.flops / 1e12),
                _short(row.weights / 1e9),
                _short(row.caches / 1e9),
                _short(row.intensity),
                f"{row.tokens_per_second:,.1f}" if fits else "out of memory",
                f"{100 * row.arithmetic_bound:.0f}",
            ]
        )
    percent = r"\%" if style == "latex" else "%"
    titles = ["", "FLOPs", "memory", "FLOPs/byte", "tokens/s at most"]
    columns = ["", "passes", "TFLOPs", "weights GB", "caches GB", "FLOPs/byte"]
    columns += ["tokens/s at most", f"{percent} arithmetic-bound"]
    legend = (
        "Leading order: L tokens, p a step, blocks of B, width d, state n,\n"
        "a the share of attention layers, F FLOP/s, W bytes/s"
    )
    setting = (
        f"One decode: {size}, L = {length}, p = {tokens_per_step}, B = {block_size}, batch 1, "
        f"{hardware.dtype}; Fast-dLLM cache={FastDLLM.cache}, block cache commit="
        f"{BlockCache.commit}\n{hardware.summary}"
    )
    notes = [legend, setting]
    if style == "latex":
        notes = ["\n".join(f"% {line}" for line in note.splitlines()) for note in notes]
    if style == "text":
        notes = [folded(note) for note in notes]
    width = screen_width()
    tables = [grid(titles, laws, style, width), grid(columns, found, style, width)]
    return "\n\n".join((notes[0], tables[0], notes[1], tables[1]))


def _short(value: float) -> str:
    """Three digits, or all those before the point: 0.0478, 30.7, 31,289."""
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def formula(law: str, style: str) -> str:
    """Typeset a law's Python expression: L²(d² + Ld)/p, or in LaTeX's mathematics."""
    if style == "latex":
        return f"${law.replace('**2', '^2').replace('*', ' ')}$"
    return law.replace("**2", "²").replace("*", "")


def _sampler(method: Method, tokens_per_step: int, block_size: int) -> Sampler:
    if method.sampler == "ar":
        return build_sampler("ar")
    if method.sampler == "full":
        return build_sampler("full", tokens_per_step=tokens_per_step)
    return build_sampler(method.sampler, tokens_per_step=tokens_per_step, block_size=block_size)
