"""The steps of the attention mixer by Triton kernels; `attention` has the plain form of each."""

from typing import TYPE_CHECKING

from torch import Tensor

from dlm_bench.kernels.cuda.rotary import rotate_qkv
from dlm_bench.kernels.cuda.split_kv import attend_split_kv
from dlm_bench.models.cache import AttentionCache
from dlm_bench.models.window import Window

if TYPE_CHECKING:
    from dlm_bench.models.attention import Angles, Attention

# Up to so many queries the keys are split over the GPU's processors; more queries fill it anyway.
SPLIT_QUERIES = 256


def rotated(layer: "Attention", qkv: Tensor, angles: "Angles") -> tuple[Tensor, Tensor, Tensor]:
    """Norm and turn q and k in place by a single kernel."""
    _rotate(layer, qkv, angles)
    return layer.split_heads(qkv)


def stored(
    layer: "Attention", qkv: Tensor, angles: "Angles", window: Window, cache: AttentionCache
) -> Tensor:
    """Norm and turn q in place, and write k and v into the cache, by a single kernel."""
    _rotate(layer, qkv, angles, window.start, cache.k, cache.v)
    return layer.split_heads(qkv)[0]


def _rotate(layer: "Attention", qkv: Tensor, angles: "Angles", *stored: Tensor) -> None:
    norms = layer.q_norm, layer.k_norm
    weights = None
    if norms[0] is not None and norms[1] is not None:
        weights = norms[0].weight, norms[1].weight
    config = layer.config
    rotate_qkv(
        qkv,
        *angles,
        *stored,
        kv_heads=config.kv_heads,
        norms=weights,
        epsilon=config.norm_eps,
    )


def attend_window(layer: "Attention", q: Tensor, window: Window, cache: AttentionCache) -> Tensor:
    """Attend with the keys split over the GPU's processors."""
    if window.whole_context and q.shape[2] > SPLIT_QUERIES:
        return layer.attend(q, cache.k, cache.v)
    start = None if window.whole_context else window.seen_start
    segments = (1,) * q.shape[2] if window.causal else window.segments
    mixed = attend_split_kv(q.transpose(1, 2), cache.k, cache.v, start, segments)
    return mixed.transpose(1, 2)
