"""The rotary embedding of a config.json: plain or YaRN, of a whole head or a part."""

import math
from dataclasses import dataclass
from typing import Any

from dlm_bench.errors import ConfigError
from dlm_bench.models.hf.fields import Fields
from dlm_bench.models.transformer_config import Yarn


@dataclass(frozen=True)
class Rope:
    """The rotary fields of a `TransformerConfig`.

    width: leading columns of a head that rotary turns.
    max_length: the most tokens for which these fields are enough; None without a limit.
    """

    theta: float
    width: int
    yarn: Yarn | None
    max_length: int | None


def read_rope(fields: Fields, head_dim: int, longest: int | None) -> Rope:
    """Read `rope_theta` and `rope_parameters`, called `rope_scaling` before `transformers` 5; the
    former may be inside the latter. Raises ConfigError for a kind other than plain and YaRN.

    longest: `max_position_embeddings`, from which a missing factor of YaRN follows.
    """
    outer: dict[str, Any] = {
        key: fields.take(key) for key in ("rope_theta", "partial_rotary_factor")
    }
    stated = fields.take("rope_parameters", "rope_scaling") or {}
    if not isinstance(stated, dict):
        raise fields.error("rope_parameters", f"{stated!r} is not allowed; must be an object")
    given = {key: value for key, value in outer.items() if value is not None}
    inner = Fields(f"{fields.where}: rope_parameters", given | stated)
    kind = inner.take("rope_type", "type") or "default"
    if kind not in ("default", "yarn"):
        raise inner.error("rope_type", f"{kind!r} is not supported; allowed: default, yarn")
    theta = inner.number("rope_theta", default=10000.0)
    width = int(head_dim * inner.number("partial_rotary_factor", default=1.0))
    if width % 2 or not 0 < width <= head_dim:
        raise inner.error("partial_rotary_factor", f"turns {width} of {head_dim} columns")
    length = inner.integer("original_max_position_embeddings", default=longest or 0)
    # Ministral's scale on q, 1 + beta log(1 + floor(i / length)): 1 in the first `length` tokens.
    limit = length if inner.take("llama_4_scaling_beta") else None
    yarn = _yarn(inner, length, longest) if kind == "yarn" else None
    inner.allow("truncate", (True,))
    inner.finish(("max_position_embeddings",))
    return Rope(theta, width, yarn, limit)


def _yarn(fields: Fields, length: int, longest: int | None) -> Yarn:
    """Read the fields of YaRN; a missing `attention_factor` follows from `factor`, as in
    `transformers`."""
    if not length:
        raise ConfigError(
            f"{fields.where} lacks original_max_position_embeddings", field="backbone"
        )
    factor = fields.number("factor", default=(longest or length) / length)
    scale, whole = fields.take("mscale"), fields.take("mscale_all_dim")
    attention = _scale(factor, 1.0)
    if scale and whole:
        attention = _scale(factor, scale) / _scale(factor, whole)
    return Yarn(
        factor=factor,
        length=length,
        fast=fields.number("beta_fast", default=32.0),
        slow=fields.number("beta_slow", default=1.0),
        attention=fields.number("attention_factor", default=attention),
    )


def _scale(factor: float, by: float) -> float:
    """Return the paper's 0.1 ln(s) + 1 (Eq. 22), of a stretch only."""
    return 1.0 if factor <= 1 else 0.1 * by * math.log(factor) + 1.0
