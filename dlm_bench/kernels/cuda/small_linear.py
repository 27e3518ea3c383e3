"""Matmuls of up to 64 rows that read the weights once, with what lies around them inside.

The weights are the wide operand of the product, as in the LM head of few rows. In front the input
is normed: LayerNorm and modulation of the residual stream, or Mamba-2's gated RMSNorm. Behind
follow the bias and GELU; or rotary embedding, with keys and values written to the caches; or gate
and addition to the stream. A sum over many inputs is split; the program of a tile that ends last
adds the parts in their order, whichever it is.
"""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from dlm_bench.kernels.cuda.common import SMS, counters
from dlm_bench.kernels.cuda.dependent import launch_options
from dlm_bench.kernels.cuda.small_linear_kernel import linear_of_few_rows

RESIDENT = 2  # programs of an SM, by shared memory
LEAST_STEPS = 4  # of a program, or its pipeline never fills


class Stream(NamedTuple):
    """The residual stream between two matmuls.

    x: (rows, d_model) float32. copy: the same in the model's dtype, what norms read.
    moments: (tiles, rows, 2) float32: the mean and the sum of squares around it of each tile of
        `width` columns of x.
    """

    x: Tensor
    copy: Tensor
    moments: Tensor
    width: int


class Rows(NamedTuple):
    """The adaLN rows of a pass: of a sequence and a segment (batch or 1, segments, d_model), or of
    all tokens (d_model,), contiguous along d_model.

    length: tokens of a sequence; first: of those in the first segment.
    """

    length: int
    first: int
    unit_scale: bool


class _Tiles(NamedTuple):
    """Outputs of a tile, inputs of a step, and splits of the inputs."""

    width: int
    step: int
    splits: int


def _tiles(outputs: int, inputs: int, exact: bool) -> _Tiles:
    """Choose tiles for all SMs to have as much to read: they depend on the weight alone, so that a
    row's sums are the same whatever other rows there are."""
    width = 128 if outputs >= 64 * RESIDENT * SMS and not exact else 64
    step = min(32 if exact else 64, inputs & -inputs)
    tiles, steps = triton.cdiv(outputs, width), triton.cdiv(inputs, step)
    most = max(1, min(RESIDENT * SMS // tiles, steps // LEAST_STEPS))
    each = triton.cdiv(steps, most)
    return _Tiles(width, step, triton.cdiv(steps, each))


def _strides(rows: Tensor | None) -> tuple[int, int]:
    """Return the strides of batch and segment; 0 for a row shared by all."""
    if rows is None or rows.dim() == 1:
        return 0, 0
    batch, segments, _ = rows.shape
    return rows.stride(0) if batch > 1 else 0, rows.stride(1) if segments > 1 else 0


class Norm(NamedTuple):
    """LayerNorm and modulation in front of a matmul: see `kernels.adaln.add_norm`."""

    scale: Tensor
    shift: Tensor
    rows: Rows
    epsilon: float


class Gated(NamedTuple):
    """The gated RMSNorm in front of a matmul, of y SiLU(z) (rows, directions, d_inner).

    squares: (directions, parts, rows) float32, which add up to the sum of its squares.
    weight: (directions, d_inner).
    """

    squares: Tensor
    weight: Tensor
    epsilon: float


class Turn(NamedTuple):
    """Rotary embedding and the caches behind the matmul of q, k and v.

    cos, sin: (table_length, head_dim / 2) float32, a row a position.
    start: (1,) int64 on the device, the position of a sequence's first token.
    k_cache, v_cache: (batch, kv_heads, length, head_dim), contiguous.
    """

    cos: Tensor
    sin: Tensor
    start: Tensor
    k_cache: Tensor
    v_cache: Tensor


def small_linear(
    x: Tensor | Stream,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    norm: Norm | None = None,
    gelu: bool = False,
) -> Tensor:
    """norm(x) W^T + b of up to 64 rows, and GELU, (rows, outputs).

    x (rows, inputs) in the dtype of weight (outputs, inputs), both contiguous, or a Stream with its
    norm. Products are summed in float32.
    """
    out = _launch(x, weight, bias, norm, gelu, None, None, None, None)
    assert isinstance(out, Tensor)
    return out


def turned_linear(
    x: Stream, weight: Tensor, bias: Tensor | None, turn: Turn, *, norm: Norm
) -> Tensor:
    """The queries of norm(x) W^T + b, turned by rotary embedding, (rows, heads * head_dim); the
    turned keys and the values go into the caches.

    weight: the heads of q, then those of k, then those of v.
    """
    q = _launch(x, weight, bias, norm, False, turn, None, None, None)
    assert isinstance(q, Tensor)
    return q


def add_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stream: Stream,
    gate: Tensor | None,
    rows: Rows,
    *,
    norm: Gated | None = None,
) -> Stream:
    """The stream and gate * (norm(x) W^T + b) added up, x in place; gate None stands for 1."""
    moved = _launch(x, weight, bias, norm, False, None, stream, gate, rows)
    assert isinstance(moved, Stream)
    return moved


def _launch(
    x: Tensor | Stream,
    weight: Tensor,
    bias: Tensor | None,
    norm: Norm | Gated | None,
    gelu: bool,
    turn: Turn | None,
    residual: Stream | None,
    gate: Tensor | None,
    rows: Rows | None,
) -> Tensor | Stream:
    """Launch the matmul; with `residual` return the stream moved on."""
    stream = x if isinstance(x, Stream) else None
    source = stream.copy if stream is not None else x
    assert isinstance(source, Tensor)
    (count, inputs), outputs = source.shape, weight.shape[0]
    device, dtype = source.device, weight.dtype
    tiles = _tiles(outputs, inputs, dtype == torch.float32)
    if isinstance(norm, Gated):
        while (inputs // norm.squares.shape[0]) % tiles.step:
            tiles = tiles._replace(step=tiles.step // 2)
    each = triton.cdiv(outputs, tiles.width)
    padded = max(16, triton.next_power_of_2(count))
    partial = None
    if tiles.splits > 1:
        size = tiles.splits, each * tiles.width, padded
        partial = torch.empty(size, dtype=torch.float32, device=device)
    heads = kv_heads = cached = head_dim = 0
    if turn is not None:
        _, kv_heads, cached, head_dim = turn.k_cache.shape
        heads = outputs // head_dim - 2 * kv_heads
    if residual is None:
        out = torch.empty(count, heads * head_dim or outputs, dtype=dtype, device=device)
        moved = None
    else:
        out = residual.x
        copy = torch.empty(count, outputs, dtype=dtype, device=device)
        moments = torch.empty(each, count, 2, dtype=torch.float32, device=device)
        moved = Stream(out, copy, moments, tiles.width)
    layer = norm if isinstance(norm, Norm) else None
    gated = norm if isinstance(norm, Gated) else None
    place = layer.rows if layer is not None else rows or Rows(count, count, False)
    scale_strides = _strides(layer.scale if layer is not None else None)
    gate_strides = _strides(gate)
    kind, width, number, parts = "none", 1, 1, 1
    if layer is not None:
        assert stream is not None
        kind, width = "layer", stream.width
        number = stream.moments.shape[0]
    elif gated is not None:
        kind, width = "gated", inputs // gated.squares.shape[0]
        number = parts = gated.squares.shape[1]
    linear_of_few_rows[(each, tiles.splits)](
        source,
        weight,
        bias,
        out,
        None if moved is None else moved.copy,
        partial,
        counters(device) if tiles.splits > 1 else None,
        stream.moments if layer is not None and stream is not None else None,
        None if layer is None else layer.scale,
        None if layer is None else layer.shift,
        gate,
        None if moved is None else moved.moments,
        None if gated is None else gated.squares,
        None if gated is None else gated.weight,
        *((None,) * 5 if turn is None else turn),
        cached,
        count,
        place.length,
        place.first,
        *scale_strides,
        *gate_strides,
        0.0 if norm is None else norm.epsilon,
        N=outputs,
        K=inputs,
        NORM=kind,
        UNIT_SCALE=place.unit_scale,
        SHARED=not any((*scale_strides, *gate_strides)),
        MOMENT_WIDTH=width,
        MOMENT_TILES=triton.next_power_of_2(number),
        PARTS=parts,
        GELU=gelu,
        RESIDUAL=residual is not None,
        HEADS=heads,
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        SPLITS=tiles.splits,
        ROWS=padded,
        WIDTH=tiles.width,
        STEP=tiles.step,
        num_warps=4,
        num_stages=4,
        **launch_options(),
    )
    return out if moved is None else moved
