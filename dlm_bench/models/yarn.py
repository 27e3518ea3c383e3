"""Rotary angles of a Transformer, stretched by YaRN (arXiv 2309.00071) if its fields say so."""

import math

import torch
from torch import Tensor

from dlm_bench.kernels.rotary import rotary_angles, rotary_rates
from dlm_bench.models.transformer_config import TransformerConfig, Yarn


def config_angles(
    config: TransformerConfig, length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosine and sine at positions 0 to length - 1, each (length, rotary_dim / 2) float32."""
    rates = rotary_rates(config.rotary_dim, config.rope_theta, device)
    positions = torch.arange(length, device=device)
    if config.yarn is None:
        return rotary_angles(positions, config.rotary_dim, rates)
    stretched = yarn_rates(rates, config.rotary_dim, config.rope_theta, config.yarn)
    cos, sin = rotary_angles(positions, config.rotary_dim, stretched)
    return config.yarn.attention * cos, config.yarn.attention * sin


def yarn_rates(rates: Tensor, width: int, theta: float, yarn: Yarn) -> Tensor:
    """NTK-by-parts: a pair of more than `fast` turns within `length` keeps its rate, one of fewer
    than `slow` has it divided by `factor`, and between them lies a ramp over the pairs' indices."""
    low, high = (
        width * math.log(yarn.length / (2 * math.pi * turns)) / (2 * math.log(theta))
        for turns in (yarn.fast, yarn.slow)
    )
    low, high = max(math.floor(low), 0), min(math.ceil(high), width - 1)
    index = torch.arange(len(rates), device=rates.device, dtype=torch.float32)
    divided = ((index - low) / max(high - low, 0.001)).clamp(0, 1)
    return rates * (1 - divided) + rates / yarn.factor * divided
