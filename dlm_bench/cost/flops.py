"""FLOPs and bytes of the passes of a decode, from the configuration and the sampler's plan alone.

FLOPs are those of the matrix products, a multiply-add being 2: projections, MLP, q k^T and the
product with v, the scan, the timestep's MLP and adaLN, and the LM head on the masked rows (a commit
has none, or that of the token behind it). Elementwise work (norms, convolution, rotary, softmax,
gates) is left out: about 1 % of the arithmetic, and not on tensor cores.

Bytes are each weight once a pass (the looked-up rows of the embedding; the head in passes with a
masked row), the reads from the caches of earlier passes, and the writes to the caches. Activations
are not counted, in passes over the whole sequence either: the fusion of the kernels and the size of
the last-level cache decide their traffic, not the model, and without them the bytes are a floor for
every kernel. Keys and values for the pass itself are activations too.

The scan (arXiv 2405.21060), per token, layer and direction, with n = d_state: the recurrence adds
dt x B^T to a state of d_inner × n numbers and reads the state with C, two products of 2 d_inner n
FLOPs each, so 4 d_inner n: the least of every algorithm on every machine, and the default. The
chunked form also multiplies within a chunk of q tokens: C B^T, 2 q² n, and the product with x, 2 q²
d_inner (whole squares: half of each is masked). `chunk` adds these, cut as `dlm_bench.kernels.ssd`
cuts. A CPU's passes differ a little: the form for few tokens (`dlm_bench.models.bimamba_small`)
moves no state on where none is kept, that for many (`bimamba_long`) fills the last chunk up, and
adaLN's rows are kept for the next passes at the same timestep.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from dlm_bench.cost.work import Work, layer_counts, work_of
from dlm_bench.errors import check_int
from dlm_bench.models.config import ModelConfig
from dlm_bench.models.device import item_bytes
from dlm_bench.models.own import Config
from dlm_bench.samplers.denoising import DenoisingSampler
from dlm_bench.samplers.fast_dllm import FastDLLM
from dlm_bench.samplers.pipeline import Pipeline
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import PREFILL, DecodeShape, PlannedPass, role_of
from dlm_bench.samplers.self_speculation import SelfSpeculation

Array = NDArray[np.float64]

# The numbers of `Passes`, by the fields of a PlannedPass.
_NUMBERS = {
    "query": "query_len",
    "context": "context_len",
    "start": "block_start",
    "block": "block_len",
    "masked": "mean_masked",
    "reveal": "mean_reveal",
    "advancing": "mean_advance",
}
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
    """The properties of passes that decide costs, arrays (passes,).

    query, context: tokens.
    start, block: the block's first position and length.
    masked, reveal: masked tokens of the block, and tokens to unmask; where the sequences of a batch
        differ, their mean.
    prefill, refresh, fused, verify, denoise: True for passes of this role.
    advancing: the share of the sequences whose Mamba state moves on.
    """

    query: Array
    context: Array
    start: Array
    block: Array
    masked: Array
    reveal: Array
    prefill: NDArray[np.bool_]
    refresh: NDArray[np.bool_]
    fused: NDArray[np.bool_]
    verify: NDArray[np.bool_]
    denoise: NDArray[np.bool_]
    advancing: Array


def passes_in(plan: Iterable[PlannedPass]) -> Passes:
    """Return passes, at least a single pass, as arrays."""
    codes: dict[str, int] = {}
    numbers_of = attrgetter(*_NUMBERS.values())
    # Numbers at once: the garbage collector is slowest with a list of a million tuples.
    rows = np.fromiter(
        ((codes.setdefault(p.kind, len(codes)), *numbers_of(p)) for p in plan),
        dtype=np.dtype((float, 1 + len(_NUMBERS))),
    )
    kinds, *columns = np.ascontiguousarray(rows.T)
    numbers = dict(zip(_NUMBERS, columns, strict=True))
    share = numbers.pop("advancing")
    roles = [role_of(kind) for kind in codes]

    def are(*wanted: str) -> NDArray[np.bool_]:
        return np.isin(kinds, [code for code, role in enumerate(roles) if role in wanted])

    return Passes(
        **numbers,
        prefill=are(PREFILL),
        refresh=are("refresh"),
        fused=are("fused"),
        verify=are("verify"),
        denoise=are("denoise"),
        advancing=are(*ADVANCING) + share,
    )


def passes_of(sampler: Sampler, shape: DecodeShape, seed: int = 0) -> Passes:
    """Return the passes of a decode, the prefill pass excluded: those of its very seed where that
    decides them (a spread that is drawn, a trace of several sequences).

    The last few results are kept: the list takes longer than the costs, and all backbones of a
    study share the list. Raises ConfigError for passes that depend on the model.
    """
    return _passes_of(sampler, *deciding(sampler, shape, seed))


def deciding(sampler: Sampler, shape: DecodeShape, seed: int) -> tuple[DecodeShape, int]:
    """Return the shape and the seed that decide the passes of a decode: a batch of 1 and seed 0
    stand for all where the passes are the same."""
    if sampler.rows_differ:
        return shape, seed
    return replace(shape, batch=1), seed if getattr(sampler, "trace", "") else 0


@lru_cache(maxsize=4)  # the plans of a million passes take tens of MB each
def _passes_of(sampler: Sampler, shape: DecodeShape, seed: int) -> Passes:
    sampler.check_fixed()
    sampler.check_shape_timed(shape)
    return passes_in(step for step in sampler.planned(shape, seed) if step.kind != PREFILL)


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
    """Return the bytes of the caches of a decode of `length` tokens after a prompt; 0 for a sampler
    without caches."""
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
    """Return the cost of each pass, as arrays (passes,).

    plan: `passes_of(sampler, shape)`, or any passes of the sampler, at least a single pass.
    chunk: the scan's chunk length in tokens, None for the recurrence.
    Raises ConfigError for a wrong dtype, batch or chunk.
    """
    check_int("batch", batch)
    if chunk is not None:
        check_int("chunk", chunk)
    passes = plan if isinstance(plan, Passes) else passes_in(plan)
    query, context, head_rows = passes.query, passes.context, passes.masked
    if isinstance(sampler, DenoisingSampler) and sampler.acceptance.edits:
        head_rows = np.where((passes.masked > 0) | passes.denoise, passes.block, 0)
    # A pass has segments of `size` tokens and a shorter last one, each of which sees those before
    # it: the clean block and the next one of a fused pass, the blocks under way, or all tokens.
    size = np.where(passes.fused, passes.start - context, query)
    if isinstance(sampler, Pipeline):
        size = np.where(passes.prefill, query, sampler.block_size)
    whole, rest = query // size, query % size

    work = work_of(config)
    own = size**2 * whole * (whole + 1) / 2 + rest * query
    causal = passes.verify
    if not config.denoiser or isinstance(sampler, SelfSpeculation):
        causal = causal | passes.prefill
    own = np.where(causal, query * (query + 1) / 2, own)  # a token sees those before it alone
    pairs = query * context + own  # (query, key) of one layer
    flops = query * work.token_flops + work.pair_flops * pairs
    flops += head_rows * 2 * work.embedding
    if chunk is not None and isinstance(config, ModelConfig):
        start, stop = passes.start, passes.start + passes.block
        forward = np.where(
            passes.refresh,
            _squares(start, chunk) + _squares(query - start, chunk),
            whole * _squares(size, chunk) + _squares(rest, chunk),
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
    flops = batch * flops + (whole + (rest > 0)) * work.timestep_flops

    head = work.embedding * item_bytes(dtype)
    looked_up = np.minimum(batch * query * config.d_model * item_bytes(dtype), head)
    if work.tied:  # what the head reads, the embedding need not read again
        looked_up = np.where(head_rows > 0, 0, looked_up)
    weights = work.body_bytes(dtype) + looked_up + np.where(head_rows > 0, head, 0)

    read, write = np.zeros_like(query), np.zeros_like(query)
    if _keeps_caches(sampler):
        token, state = work.token_cache_bytes(dtype), _state_bytes(work, sampler, dtype)
        read += token * context + np.where(passes.refresh | passes.prefill, 0, state)
        write += token * query + state * np.where(passes.refresh, 1, passes.advancing)
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
    seed: int = 0,
) -> Cost:
    """The cost of decoding `length` tokens (of each of `batch` sequences) after a prompt, summed
    over all passes but the prefill pass; of the decode with this seed, where the seed decides.

    Raises ConfigError for a wrong value or a backbone the sampler cannot decode with.
    """
    sampler.check_backbone(config.backbone)
    passes = passes_of(sampler, DecodeShape(length, prompt_len, batch), seed)
    return pass_costs(config, sampler, passes, batch=batch, dtype=dtype, chunk=chunk).total()


def _squares(length: Array, chunk: int) -> Array:
    """Return the sum of the squared lengths of the chunks of `length` tokens."""
    return length // chunk * chunk**2 + (length % chunk) ** 2


def _keeps_caches(sampler: Sampler) -> bool:
    return type(sampler).caches is not Sampler.caches


def _state_bytes(work: Work, sampler: Sampler, dtype: str) -> int:
    """Bytes of the Mamba states and convolution tails kept, of one sequence."""
    both = isinstance(sampler, FastDLLM) and sampler.cache == "dual"
    return (2 if both else 1) * work.state_bytes(dtype)
