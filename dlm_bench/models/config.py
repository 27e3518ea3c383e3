"""Backbones and sizes, in the paper's notation (arXiv 2511.15927, Tables 5 and 6)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

from dlm_bench.errors import ConfigError, check_int, unknown

FREQUENCIES = 256  # width of the sinusoidal embedding of t, as in DiT and MDLM


@dataclass(frozen=True)
class Backbone:
    """An architecture.

    attention_every: layer i is attention where i % attention_every == 0, else Mamba-2; 0 means
        no attention.
    denoiser: bidirectional, with adaLN from the timestep; the others are causal.
    """

    title: str
    attention_every: int
    mlp_ratio: int
    denoiser: bool


# The MLP ratios are the ones that give the paper's parameter counts.
BACKBONES = {
    "diffutran": Backbone("DiffuTran", attention_every=1, mlp_ratio=4, denoiser=True),
    "diffumamba": Backbone("DiffuMamba", attention_every=0, mlp_ratio=2, denoiser=True),
    "diffumamba-h": Backbone("DiffuMamba-H", attention_every=5, mlp_ratio=2, denoiser=True),
    "ar-transformer": Backbone("AR Transformer", attention_every=1, mlp_ratio=4, denoiser=False),
    "ar-mamba": Backbone("AR Mamba-2", attention_every=0, mlp_ratio=2, denoiser=False),
}


@dataclass(frozen=True)
class Size:
    """Dimensions shared by all backbones of a size.

    The vocabulary's last two ids are the end-of-text token (an AR decode starts from it) and MASK.
    """

    layers: int
    d_model: int
    heads: int
    vocab_size: int = 50258  # GPT-2's 50257 and MASK
    d_state: int = 128
    headdim: int = 64


SIZES = {
    # Bytes, end of text and MASK; small enough to test a decode against a recomputation.
    "tiny": Size(layers=3, d_model=64, heads=4, vocab_size=258, d_state=16, headdim=16),
    # 5 layers: one of attention in DiffuMamba-H, near 1.3b's 5 of 24. GPT-2's vocabulary would make
    # the head most of a pass of this width; with 2050 it is a fifth.
    "small": Size(layers=5, d_model=128, heads=4, vocab_size=2050, d_state=64, headdim=64),
    # 12 layers: the paper's Table 5 prints 24, which gives 0.38 B instead of its 0.24 B.
    "240m": Size(layers=12, d_model=960, heads=24),
    "0.5b": Size(layers=36, d_model=960, heads=24),
    "1.3b": Size(layers=24, d_model=1920, heads=24),
}


@dataclass(frozen=True)
class ModelConfig:
    """A backbone in a size: the shapes of parameters and caches."""

    backbone: str
    size: str
    denoiser: bool
    layers: int
    d_model: int
    heads: int
    vocab_size: int
    mlp_ratio: int
    attention_every: int
    d_state: int
    headdim: int
    expand: int = 2
    d_conv: int = 4
    time_dim: int = 128
    # Its attention has neither biases nor norms of q and k.
    qkv_bias: ClassVar[bool] = False
    qk_norm: ClassVar[bool] = False
    norm_eps: ClassVar[float] = 1e-5

    @property
    def mask_id(self) -> int:
        """The absorbing state's token id, the last of the vocabulary; never decoded."""
        return self.vocab_size - 1

    @property
    def bos_id(self) -> int:
        """The token an autoregressive decode starts from (GPT-2's end of text)."""
        return self.vocab_size - 2

    @property
    def eos_id(self) -> int:
        """The token that ends a text: GPT-2's end of text, too."""
        return self.bos_id

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.d_model // self.heads

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values: as many as of queries."""
        return self.heads

    @property
    def d_inner(self) -> int:
        """Width of a direction of the Mamba-2 mixer."""
        return self.expand * self.d_model

    @property
    def ssm_heads(self) -> int:
        """Heads of a direction of the Mamba-2 mixer."""
        return self.d_inner // self.headdim

    @property
    def directions(self) -> int:
        """Scans of a Mamba mixer: forward and reverse in a denoiser, forward alone in AR."""
        return 2 if self.denoiser else 1

    def is_attention(self, layer: int) -> bool:
        """Tell if this layer's mixer is attention (else Mamba-2)."""
        return self.attention_every > 0 and layer % self.attention_every == 0


def model_config(
    backbone: str, size: str, *, layers: int | None = None, heads: int | None = None
) -> ModelConfig:
    """The configuration of a named backbone and size.

    `layers` and `heads` override the size's (the paper contradicts itself on both). Raises
    ConfigError for an unknown name or an override that does not divide the width.
    """
    if backbone not in BACKBONES:
        raise unknown("backbone", backbone, BACKBONES)
    if size not in SIZES:
        raise unknown("size", size, SIZES)
    kind, dims = BACKBONES[backbone], SIZES[size]
    layers = check_int("layers", dims.layers if layers is None else layers)
    heads = check_int("heads", dims.heads if heads is None else heads)
    if dims.d_model % heads or (dims.d_model // heads) % 2:
        raise ConfigError(
            f"heads: {heads} is not allowed; must split d_model {dims.d_model} into heads of even "
            "width (rotary embedding turns pairs)"
        )
    return ModelConfig(
        backbone=backbone,
        size=size,
        denoiser=kind.denoiser,
        layers=layers,
        d_model=dims.d_model,
        heads=heads,
        vocab_size=dims.vocab_size,
        mlp_ratio=kind.mlp_ratio,
        attention_every=kind.attention_every,
        d_state=dims.d_state,
        headdim=dims.headdim,
    )


def stated_model_config(stated: object) -> ModelConfig:
    """The configuration that a file or a record states by field. Raises ConfigError unless it is of
    a backbone of this project's, and states each field, and nothing else, by a value that a model
    can have."""
    expected = {field.name: field.type for field in fields(ModelConfig)}
    backbone = stated.get("backbone") if isinstance(stated, Mapping) else None
    if isinstance(backbone, str) and backbone not in BACKBONES:
        raise unknown("backbone", backbone, BACKBONES)
    if not isinstance(stated, Mapping) or stated.keys() != expected.keys():
        raise ConfigError(f"must be a JSON object of {', '.join(expected)}")
    for name, kind in expected.items():
        least = 0 if name == "attention_every" else 1
        if type(stated[name]) is not kind or (kind is int and stated[name] < least):
            raise ConfigError(f"{name}: {stated[name]!r}")
    return ModelConfig(**stated)
