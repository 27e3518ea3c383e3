"""The models in use, by name and size: their shapes, with random weights.

Sizes, MASK ids, block sizes and rules are those of the public configurations and code of LLaDA
(arXiv 2502.09992), Dream (2508.15487), Fast-dLLM v2 (2509.26328), SDAR (2510.06303),
Nemotron-Labs-Diffusion and Open-dCoder; docs/models.md names the source of each.
"""

from functools import cache
from typing import Any

from dlm_bench.errors import unknown
from dlm_bench.models.transformer_config import TransformerConfig, Yarn

QWEN2 = {"norm_eps": 1e-6, "rope_theta": 1e6, "qkv_bias": True, "bos_id": 151643, "eos_id": 151643}
QWEN3 = {"norm_eps": 1e-6, "rope_theta": 1e6, "qk_norm": True, "bos_id": 151643, "eos_id": 151643}
LLAMA = {"norm_eps": 1e-5, "rope_theta": 5e5}
MINISTRAL = {"norm_eps": 1e-5, "rope_theta": 1e6, "yarn": Yarn(16.0, 16384)}
MINISTRAL |= {"bos_id": 1, "eos_id": 11}


def _shape(
    layers: int, d_model: int, heads: tuple[int, int], ffn: int, vocab: int, head_dim: int = 128
) -> dict[str, int]:
    return {
        "layers": layers,
        "d_model": d_model,
        "heads": heads[0],
        "kv_heads": heads[1],
        "head_dim": head_dim,
        "rotary_dim": head_dim,
        "ffn": ffn,
        "vocab_size": vocab,
    }


def _tiny(heads: tuple[int, int], d_model: int) -> dict[str, int]:
    """Bytes, end of text (256) and MASK (257), in a vocabulary padded to 272 rows as those of the
    large models are: small enough to test a decode against a recomputation."""
    ids = {"bos_id": 256, "eos_id": 256, "mask_id": 257}
    return _shape(3, d_model, heads, 96, 272, head_dim=16) | ids


# Autoregressive models; a denoiser has the shape of the model that it was converted from.
_CAUSAL: dict[str, dict[str, dict[str, Any]]] = {
    "llama": {
        "tiny": LLAMA | _tiny((4, 4), 64),
        "8b": LLAMA
        | _shape(32, 4096, (32, 32), 12288, 126464)
        | {"bos_id": 126081, "eos_id": 126081},
        "nemotron-3b": MINISTRAL | _shape(26, 3072, (32, 8), 9216, 131072),
        "nemotron-8b": MINISTRAL | _shape(34, 4096, (32, 8), 14336, 131072),
        "nemotron-14b": MINISTRAL | _shape(40, 5120, (32, 8), 16384, 131072),
    },
    "qwen2": {
        "tiny": QWEN2 | _tiny((7, 1), 112),
        "0.5b": QWEN2 | _shape(24, 896, (14, 2), 4864, 151936, head_dim=64) | {"tied": True},
        "1.5b": QWEN2 | _shape(28, 1536, (12, 2), 8960, 151936) | {"tied": True},
        "7b": QWEN2 | _shape(28, 3584, (28, 4), 18944, 152064),
    },
    "qwen3": {
        "tiny": QWEN3 | _tiny((4, 1), 48),
        "1.7b": QWEN3 | _shape(28, 2048, (16, 8), 6144, 151936) | {"tied": True},
        "4b": QWEN3 | _shape(36, 2560, (32, 8), 9728, 151936),
        "8b": QWEN3 | _shape(36, 4096, (32, 8), 12288, 151936),
    },
}


def _converted(twin: str, *sizes: str, mask_id: int, **fields: Any) -> dict[str, dict[str, Any]]:
    """The sizes of a denoiser, each from the twin's size of this name, with further fields."""
    tiny = _CAUSAL[twin]["tiny"] | fields
    large = {size: _CAUSAL[twin][size] | fields | {"mask_id": mask_id} for size in sizes}
    return {"tiny": tiny} | large


_DENOISERS: dict[str, dict[str, dict[str, Any]]] = {
    "llada": _converted("llama", "8b", mask_id=126336),
    "dream": _converted("qwen2", "7b", mask_id=151666, token_shift=True),
    "fast-dllm-v2": _converted(
        "qwen2", "1.5b", "7b", mask_id=151665, token_shift=True, block_size=32
    ),
    "sdar": _converted("qwen3", "1.7b", "4b", "8b", mask_id=151669, block_size=4),
    "nemotron-ld": {
        "tiny": MINISTRAL | _tiny((8, 2), 96) | {"yarn": Yarn(16.0, 64), "block_size": 32}
    }
    | {
        size: _CAUSAL["llama"][f"nemotron-{size}"] | {"mask_id": 100, "block_size": 32}
        for size in ("3b", "8b", "14b")
    },
    # Its MASK stands in no configuration; 151665 is the first id without a token.
    "open-dcoder": _converted("qwen2", "0.5b", mask_id=151665, tied=True),
}
_TWINS = {
    "llada": "llama",
    "dream": "qwen2",
    "fast-dllm-v2": "qwen2",
    "sdar": "qwen3",
    "nemotron-ld": "llama",
    "open-dcoder": "qwen2",
}
# The options that a model's own code decodes with, by sampler; docs/models.md has the sources.
SHIPPED: dict[str, dict[str, dict[str, int | float | str]]] = {
    "llada": {"full": {"tokens_per_step": 1, "block_size": 32}},
    "dream": {"full": {"tokens_per_step": 1, "spread": "dream", "order": "entropy"}},
    "fast-dllm-v2": {
        "block-cache": {
            "accept": "strict",
            "threshold": 0.9,
            "block_size": 32,
            "sub_block_size": 8,
            "first_token": "commit",
        }
    },
    "sdar": {"block-cache": {"accept": "strict", "threshold": 0.85, "block_size": 4}},
    "nemotron-ld": {"self-speculation": {"accept": "agreement", "block_size": 32}},
}
# Llama's sizes of Nemotron's shapes have its name, since other models are as large.
_NAMED_SIZES = {("nemotron-ld", size) for size in ("3b", "8b", "14b")}
PRESETS = (*_DENOISERS, *_CAUSAL)


@cache
def preset_sizes(backbone: str) -> tuple[str, ...]:
    """The names of a preset's sizes, the smallest first."""
    return tuple((_DENOISERS | _CAUSAL)[backbone])


def twin_of(backbone: str, size: str) -> tuple[str, str] | None:
    """Return backbone and size of the autoregressive preset of the same shape; None without."""
    if backbone not in _DENOISERS:
        return None
    return _TWINS[backbone], f"nemotron-{size}" if (backbone, size) in _NAMED_SIZES else size


def is_preset_denoiser(backbone: str) -> bool:
    """Tell a denoiser from an autoregressive model."""
    return backbone in _DENOISERS


def preset(backbone: str, size: str) -> TransformerConfig:
    """The configuration of a preset. Raises ConfigError for an unknown size."""
    sizes = (_DENOISERS | _CAUSAL)[backbone]
    if size not in sizes:
        raise unknown("size", size, sizes)
    fields = sizes[size]
    denoiser = backbone in _DENOISERS
    if not denoiser:
        fields = fields | {"mask_id": fields["vocab_size"]}
    return TransformerConfig(backbone=backbone, size=size, denoiser=denoiser, **fields)
