"""The backbones of this project by name: the paper's, and those of the field."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace

from pydantic import TypeAdapter, ValidationError

from dlm_bench.errors import ConfigError, check_int, check_number, unknown
from dlm_bench.models.config import BACKBONES, SIZES, ModelConfig, model_config, stated_model_config
from dlm_bench.models.presets import PRESETS, is_preset_denoiser, preset, preset_sizes
from dlm_bench.models.transformer_config import TransformerConfig, Yarn

OWN = (*BACKBONES, *PRESETS)
YARN = tuple(field.name for field in fields(Yarn))

Config = ModelConfig | TransformerConfig


def own_sizes(backbone: str) -> tuple[str, ...]:
    """The names of a backbone's sizes."""
    return tuple(SIZES) if backbone in BACKBONES else preset_sizes(backbone)


def is_denoiser(backbone: str) -> bool:
    """Tell a denoiser from a causal model."""
    return BACKBONES[backbone].denoiser if backbone in BACKBONES else is_preset_denoiser(backbone)


def trained_block(backbone: str) -> int:
    """Return the tokens of the block that a backbone was trained with; 0 if with none."""
    return preset(backbone, "tiny").block_size if backbone in PRESETS else 0


def own_passes(
    denoiser: bool, attention_alone: bool = True, token_shift: bool = False
) -> tuple[str, ...]:
    """Return the capabilities of a denoiser or of a causal backbone, with Mamba layers or not. Keys
    and values can be written again; a Mamba state cannot be put back."""
    if not denoiser:
        return ("ar", "prefill")
    whole = ("full", "fast-dllm", "block-cache", "pipeline", "prefill")
    if not attention_alone:
        return whole
    parts = (*whole, "sub-blocks", "self-speculation")
    return (*parts, "next-token") if token_shift else parts


def backbone_passes(backbone: str) -> tuple[str, ...]:
    """Return the capabilities of a backbone by name."""
    if backbone in BACKBONES:
        paper = BACKBONES[backbone]
        return own_passes(paper.denoiser, paper.attention_every == 1)
    config = preset(backbone, "tiny")
    return own_passes(config.denoiser, token_shift=config.token_shift)


def own_config(
    backbone: str, size: str, *, layers: int | None = None, heads: int | None = None
) -> Config:
    """The configuration of a backbone of this project's.

    `layers` and `heads` override the size's; `heads` only in the paper's backbones. Raises
    ConfigError for an unknown name or a wrong number.
    """
    if backbone not in PRESETS:
        return model_config(backbone, size, layers=layers, heads=heads)
    if heads is not None:
        raise ConfigError(f"heads: {heads!r} is not allowed with backbone {backbone!r}")
    config = preset(backbone, size)
    return config if layers is None else replace(config, layers=check_int("layers", layers))


def stated_config(stated: object) -> Config:
    """The configuration that a file or a record states by field. Raises ConfigError unless it is of
    a backbone of this project's, and states each field, and nothing else, by a value that a model
    can have."""
    backbone = stated.get("backbone") if isinstance(stated, Mapping) else None
    if not isinstance(stated, Mapping) or backbone in BACKBONES:
        return stated_model_config(stated)
    if isinstance(backbone, str) and backbone not in PRESETS and "kv_heads" not in stated:
        raise unknown("backbone", backbone, OWN)
    expected = {field.name for field in fields(TransformerConfig)}
    needed = {field.name for field in fields(TransformerConfig) if field.default is MISSING}
    if not needed <= stated.keys() <= expected:
        raise ConfigError(f"must be a JSON object of {', '.join(sorted(expected))}")
    yarn = stated.get("yarn")
    if isinstance(yarn, Mapping) and (more := yarn.keys() - YARN):
        raise ConfigError(f"yarn: {min(more)!r} is not known; allowed: {', '.join(YARN)}")
    try:
        text = json.dumps(dict(stated))
        config = TypeAdapter(TransformerConfig).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{first['loc'][0]}: {first['input']!r}") from None
    _check_shape(config)
    return config


def _check_shape(config: TransformerConfig) -> None:
    """Raise ConfigError for numbers that no model can have together."""
    counts = ("layers", "d_model", "heads", "kv_heads", "head_dim", "ffn", "rotary_dim")
    for name in counts:
        check_int(name, getattr(config, name))
    check_int("vocab_size", config.vocab_size, 3)
    check_int("mask_id", config.mask_id, 0, config.vocab_size)
    check_int("bos_id", config.bos_id, 0, config.vocab_size - 1)
    check_int("block_size", config.block_size, 0)
    check_number("norm_eps", config.norm_eps, above=True)
    check_number("rope_theta", config.rope_theta, above=True)
    if config.heads % config.kv_heads:
        raise ConfigError(f"kv_heads: {config.kv_heads} is not allowed; must divide {config.heads}")
    if config.rotary_dim % 2 or config.rotary_dim > config.head_dim:
        raise ConfigError(
            f"rotary_dim: {config.rotary_dim} is not allowed; must be even, at most head_dim "
            f"({config.head_dim})"
        )
