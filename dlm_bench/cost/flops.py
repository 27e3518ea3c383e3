"""FLOPs and bytes of the passes of a decode, from the configuration and the sampler's plan alone.

FLOPs are those of the matrix products, a multiply-add being 2: projections, MLP, q k^T and its
product with v, the scan, the timestep's MLP and adaLN, and the LM head on the rows it is run on
(the masked ones; a commit has none). Elementwise work (norms, convolution, rotary, softmax, gates)
is left out: it is about 1 % of the arithmetic, and none of it runs on tensor cores.

Bytes are each weight once a pass (of the embedding the rows looked up, the head only where it is
run), what a pass reads of the caches that earlier passes left, and what it leaves in them.
Activations are not counted, in passes over the whole sequence either: how often they go through
memory is decided by the fusion of the kernels and by the size of the last-level cache, not by the
model, and without them the bytes are a floor that no kernel can pass. Keys and values that a pass
computes for itself are activations too.

The scan (arXiv 2405.21060), per token, layer and direction, with n = d_state: the recurrence adds
dt x B^T to a state of d_inner × n numbers and reads it with C, two products of 2 d_inner n FLOPs
each, so 4 d_inner n. Every algorithm does at least that, whatever the machine, and it is what is
counted by default. The chunked form also multiplies within a chunk of q tokens: C B^T, 2 q² n, and
its product with x, 2 q² d_inner (whole squares: half of each is masked). `chunk` adds that, cut as
`dlm_bench.kernels.ssd` cuts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dlm_bench.cost.work import Work, layer_counts, work_of
from dlm_bench.errors import check_int
from dlm_bench.models.config import ModelConfig
from dlm_bench.models.device import item_bytes
from dlm_bench.models.own import Config
from dlm_bench.samplers.fast_dllm import FastDLLM
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import PREFILL, PlannedPass, role_of

Array = NDArray[np.float64]

ADVANCING = ("commit", "keep", "fused", "decode", PREFILL)  # roles that move the Mamba state on


@dataclass(frozen=True)
class Cost:
    """Work and traffic of passes: floats, or arrays (passes,) with an entry a pass.

    flops: of the matrix products, a multiply-add being 2.
    weight_bytes: each weight the pass uses, once.
    cache_read_bytes: keys and values of the context, and the Mamba states continued from.
    cache_write_bytes: keys and values of the query, and the Mamba states kept.
    """

    flops: float | Array
    weight_bytes: float | Array
    cache_read_bytes: float | Array
    cache_write_bytes: float | Array

    @property
    def bytes(self) -> float | Array:
        """All bytes moved."""
        return self.weight_bytes + self.cache_read_bytes + self.cache_write_bytes

    @property
    def intensity(self) -> float | Array:
        """Arithmetic intensity, FLOPs per byte."""
        return self.flops / self.bytes

    def total(self) -> "Cost":
        """The sum over the passes, as floats."""
        return Cost(*(float(np.sum(getattr(self, field.name))) for field in fields(self)))


@dataclass(frozen=True)
class Passes:
    """Properties of a plan's passes that decide costs, arrays (passes,): query and context tokens,
    the block's start and length, masked and unmasked tokens of the block, and the passes that
    prefill, refresh, are fused, and move the Mamba state on."""

    query: Array
    context: Array
    start: Array
    block: Array
    masked: Array
    reveal: Array
    prefill: NDArray[np.bool_]
    refresh: NDArray[np.bool_]
    fused: NDArray[np.bool_]
    advancing: NDArray[np.bool_]


def passes_in(plan: Iterable[PlannedPass]) -> Passes:
    """The passes of a plan, at least one, as arrays."""
    codes: dict[str, int] = {}
    # Numbers at once: a list of a million tuples is what the garbage collector is slowest with.
    rows = np.fromiter(
        ((codes.setdefault(p.kind, len(codes)), *p[1:7]) for p in plan), dtype=np.dtype((float, 7))
    )
    kinds, *numbers = np.ascontiguousarray(rows.T)
    roles = [role_of(kind) for kind in codes]
    wanted = ((PREFILL,), ("refresh",), ("fused",), ADVANCING)
    are = ([code for code, role in enumerate(roles) if role in each] for each in wanted)
    return Passes(*numbers, *(np.isin(kinds, each) for each in are))


@lru_cache(maxsize=4)  # the plans of a million passes take tens of MB each
def passes_of(sampler: Sampler, length: int, prompt_len: int = 0) -> Passes:
    """The passes of a decode of `length` tokens after a prompt, without its prefill pass. The last
    few are kept: listing a plan takes longer than its costs, and the backbones of a study share
    it. Raises ConfigError if they depend on the model."""
    sampler.check_fixed()
    sampler.check_timed(length, prompt_len)
    return passes_in(step for step in sampler.passes(length, prompt_len) if step.kind != PREFILL)


def parameter_count(config: Config) -> int:
    """Return the number of parameters, embedding and head included."""
    work = work_of(config)
    return work.embedding * (1 if work.tied else 2) + work.body + work.body_float32


def parameter_bytes(config: Config, dtype: str = "bfloat16") -> int:
    """Bytes of all parameters. Mamba's dt_bias, A_log and D stay in float32 in any dtype."""
    return work_of(config).parameter_bytes(dtype)


def cache_bytes(
    config: Config,
    sampler: Sampler,
    length: int,
    batch: int = 1,
    dtype: str = "bfloat16",
    prompt_len: int = 0,
) -> int:
    """Bytes of the caches that decoding `length` tokens after a prompt keeps; 0 for a sampler
    without any."""
    if not _keeps_caches(sampler):
        return 0
    work = work_of(config)
    tokens = (prompt_len + length) * work.token_cache_bytes(dtype)
    return batch * (tokens + _state_bytes(work, sampler, dtype))


def pass_costs(
    config: Config,
    sampler: Sampler,
    plan: Iterable[PlannedPass] | Passes,
    *,
    batch: int = 1,
    dtype: str = "bfloat16",
    chunk: int | None = None,
) -> Cost:
    """The cost of each pass of a plan (at least one pass), as arrays (passes,).

    `plan` is `passes_of(sampler, length)` or any passes of that sampler; `chunk` is the scan's
    chunk length in tokens, None for the recurrence. Raises ConfigError for a dtype, batch or chunk
    that is not allowed.
    """
    check_int("batch", batch)
    if chunk is not None:
        check_int("chunk", chunk)
    passes = plan if isinstance(plan, Passes) else passes_in(plan)
    query, context, masked = passes.query, passes.context, passes.masked
    # A fused pass has two segments: the clean block, and the next one, which sees it.
    clean = np.where(passes.fused, query - passes.block, 0)
    last = query - clean

    work = work_of(config)
    pairs = clean * (context + clean) + last * (context + query)  # (query, key) of one layer
    if not config.denoiser:  # in whose prefill a token sees those before it alone
        pairs = np.where(passes.prefill, query * (query + 1) / 2, pairs)
    flops = query * work.token_flops + work.pair_flops * pairs
    flops += masked * 2 * work.embedding
    if chunk is not None and isinstance(config, ModelConfig):
        start, stop = passes.start, passes.start + passes.block
        forward = np.where(
            passes.refresh,
            _squares(start, chunk) + _squares(query - start, chunk),
            _squares(clean, chunk) + _squares(last, chunk),
        )
        reverse = forward
        if isinstance(sampler, FastDLLM):
            # A prefix cache keeps no reverse state, so that scan is not cut at the block's end.
            cut = _squares(stop, chunk) + _squares(query - stop, chunk)
            kept = cut if sampler.cache == "dual" else _squares(query, chunk)
            reverse = np.where(passes.refresh, kept, forward)
        squares = forward + reverse if config.directions == 2 else forward
        flops += layer_counts(config)[1] * 2 * (config.d_state + config.d_inner) * squares

    # All sequences of a batch are at the same timestep.
    flops = batch * flops + (1 + (clean > 0)) * work.timestep_flops

    head = work.embedding * item_bytes(dtype)
    looked_up = np.minimum(batch * query * config.d_model * item_bytes(dtype), head)
    if work.tied:  # what the head reads, the embedding need not read again
        looked_up = np.where(masked > 0, 0, looked_up)
    weights = work.body_bytes(dtype) + looked_up + np.where(masked > 0, head, 0)

    read, write = np.zeros_like(query), np.zeros_like(query)
    if _keeps_caches(sampler):
        token, state = work.token_cache_bytes(dtype), _state_bytes(work, sampler, dtype)
        read += token * context + np.where(passes.refresh | passes.prefill, 0, state)
        write += token * query + np.where(passes.refresh | passes.advancing, state, 0)
    return Cost(flops, weights, batch * read, batch * write)


def decode_cost(
    config: Config,
    sampler: Sampler,
    length: int,
    *,
    batch: int = 1,
    dtype: str = "bfloat16",
    chunk: int | None = None,
    prompt_len: int = 0,
) -> Cost:
    """The cost of decoding `length` tokens (of each of `batch` sequences) after a prompt, summed
    over its passes, without the prefill pass.

    Raises ConfigError for a value that is not allowed or a backbone the sampler cannot decode with.
    """
    sampler.check_backbone(config.backbone)
    passes = passes_of(sampler, length, prompt_len)
    return pass_costs(config, sampler, passes, batch=batch, dtype=dtype, chunk=chunk).total()


def _squares(length: Array, chunk: int) -> Array:
    """Sum of the squared lengths of the chunks that `length` tokens are cut into."""
    return length // chunk * chunk**2 + (length % chunk) ** 2


def _keeps_caches(sampler: Sampler) -> bool:
    return type(sampler).caches is not Sampler.caches


def _state_bytes(work: Work, sampler: Sampler, dtype: str) -> int:
    """Bytes of the Mamba states and convolution tails kept, of one sequence."""
    both = isinstance(sampler, FastDLLM) and sampler.cache == "dual"
    return (2 if both else 1) * work.state_bytes(dtype)
