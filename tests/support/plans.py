"""Samplers whose plans differ in every way that the sampled mode must know, and a law of time."""

from dlm_bench import build_sampler
from dlm_bench.samplers.acceptance.trace import Trace

SAMPLERS = {
    "full": build_sampler("full"),
    "full, T <= 64": build_sampler("full", tokens_per_step=32),
    "dual": build_sampler("fast-dllm"),
    "prefix": build_sampler("fast-dllm", cache="prefix"),
    "separate": build_sampler("block-cache"),
    "fused": build_sampler("block-cache", commit="fused"),
    "none": build_sampler("block-cache", commit="none"),
    "p = 1": build_sampler("block-cache", tokens_per_step=1),
    "long blocks": build_sampler("block-cache", tokens_per_step=1, block_size=128),
    "long blocks, dual": build_sampler("fast-dllm", tokens_per_step=1, block_size=128),
    "p = B": build_sampler("block-cache", tokens_per_step=32, commit="none"),
    "p = B, dual": build_sampler("fast-dllm", tokens_per_step=32),
    "sub-blocks": build_sampler("block-cache", sub_block_size=8, tokens_per_step=2),
    "first token": build_sampler("block-cache", sub_block_size=8, first_token="commit"),
    "p = S": build_sampler("block-cache", sub_block_size=8, commit="fused"),
    "full, blocks": build_sampler("full", block_size=64),
    "remdm": build_sampler("remdm"),
    "ar": build_sampler("ar"),
}


def pass_cost(p):
    """A plausible law, in seconds: launches, weights, attention over the context, head rows."""
    return (
        1e-3 + 1e-5 * p.query_len + 1e-8 * p.query_len * (p.query_len + p.context_len)
        + 2e-6 * p.masked
    )  # fmt: skip


def irregular(name, blocks, **options):
    """A sampler that follows a trace in which hardly two of `blocks` blocks are alike; the first
    takes 13 passes."""
    counts = [[1] * (n % 13) + [32 - n % 13] for n in range(12, 12 + 5 * blocks, 5)]
    trace = Trace.by_hand([counts], 32, sampler=name)
    return build_sampler(name, trace=trace, **options)
