"""A pass over up to 64 tokens on a GPU, five kernels a layer: what lies between two matmuls is in
them (`kernels.cuda.small_linear`). `block`, `attention` and `bimamba` have the plain forms.
"""

from typing import TYPE_CHECKING

from torch import Tensor

from dlm_bench.kernels.adaln import EPSILON
from dlm_bench.kernels.cuda.adaln import add_norm
from dlm_bench.kernels.cuda.block_scan import block_scan
from dlm_bench.kernels.cuda.lookup import embed_stream
from dlm_bench.kernels.cuda.small_linear import (
    Gated,
    Norm,
    Rows,
    Stream,
    Turn,
    add_linear,
    small_linear,
    turned_linear,
)
from dlm_bench.kernels.norm import EPSILON as GATED_EPSILON
from dlm_bench.models.attention import Attention
from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.block import Block
from dlm_bench.models.block import Rows as Modulation
from dlm_bench.models.cache import AttentionCache, Cache, MambaCache
from dlm_bench.models.window import Window

if TYPE_CHECKING:
    from dlm_bench.models.language_model import LanguageModel


def run(
    model: "LanguageModel",
    tokens: Tensor,
    modulations: list[Modulation | None],
    angles: tuple[Tensor, Tensor] | None,
    window: Window,
    caches: list[Cache],
) -> Tensor:
    """Run a pass over a few tokens that continue from the caches, (batch, len, d_model)."""
    batch, length = tokens.shape
    rows = Rows(length, window.segments[0], model.config.denoiser)
    stream = embed_stream(tokens, model.embedding.weight)
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        stream = _layer(block, stream, modulations[layer], rows, angles, window, caches[layer])
    shift, scale = modulations[-1] or (model.final_norm.bias, model.final_norm.weight)
    x, plain = stream.x.view(batch, length, -1), None
    segments, unit = window.segments, rows.unit_scale
    final = add_norm(x, plain, plain, scale, shift, segments, unit_scale=unit, epsilon=EPSILON)
    return final[1]


def _layer(
    block: Block,
    x: Stream,
    modulation: Modulation | None,
    rows: Rows,
    angles: tuple[Tensor, Tensor] | None,
    window: Window,
    cache: Cache,
) -> Stream:
    """Eq. 11 and 12: both branches added to the stream by their last matmul."""
    shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(modulation)
    first = Norm(scale1, shift1, rows, EPSILON)
    if isinstance(block.mixer, Attention):
        assert isinstance(cache, AttentionCache)
        assert angles is not None
        x = _attention(block.mixer, x, first, gate1, angles, window, cache)
    else:
        assert isinstance(cache, MambaCache)
        x = _mamba(block.mixer, x, first, gate1, window, cache)
    second = Norm(scale2, shift2, rows, EPSILON)
    hidden = small_linear(x, block.up.weight, block.up.bias, norm=second, gelu=True)
    return add_linear(hidden, block.down.weight, block.down.bias, x, gate2, rows)


def _attention(
    mixer: Attention,
    x: Stream,
    norm: Norm,
    gate: Tensor | None,
    angles: tuple[Tensor, Tensor],
    window: Window,
    cache: AttentionCache,
) -> Stream:
    turn = Turn(*angles, window.start, cache.k, cache.v)
    q = turned_linear(x, mixer.qkv.weight, mixer.qkv.bias, turn, norm=norm)
    heads = q.view(-1, norm.rows.length, mixer.config.heads, mixer.config.head_dim)
    mixed = mixer.steps.attend_window(mixer, heads.transpose(1, 2), window, cache)
    mixed = mixed.transpose(1, 2).reshape(len(x.x), -1)
    return add_linear(mixed, mixer.out.weight, mixer.out.bias, x, gate, norm.rows)


def _mamba(
    mixer: BiMamba,
    x: Stream,
    norm: Norm,
    gate: Tensor | None,
    window: Window,
    cache: MambaCache,
) -> Stream:
    projected = small_linear(x, mixer.in_proj.flatten(0, 1), norm=norm)
    weight = mixer.out_proj.flatten(1)
    y, squares = block_scan(
        projected.view(len(projected) // norm.rows.length, -1, *mixer.in_proj.shape[:2]),
        mixer.conv_weight,
        mixer.conv_bias,
        mixer.dt_bias,
        mixer.A_log,
        mixer.D,
        window.segments,
        cache.states,
        cache.tails,
        advance=window.advance,
        gated=True,
        ahead=weight,
    )
    assert squares is not None
    gated = Gated(squares, mixer.norm_weight, GATED_EPSILON)
    return add_linear(y.view(len(x.x), -1), weight, None, x, gate, norm.rows, norm=gated)
