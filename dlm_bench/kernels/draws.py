"""Uniform draws by place and seed alone, the same on every device and in every batch."""

import torch
from torch import Tensor

# The finaliser of SplitMix64 (Steele, Lea and Flood, 2014), as int64 of the same bits.
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
SECOND = 0x94D049BB133111EB - (1 << 64)
BITS = 24  # of a draw: as many as a float32 has


def uniform(seed: Tensor, count: int) -> Tensor:
    """Draw `count` numbers in [0, 1) for each seed (rows,) int64: (rows, count) float32."""
    place = torch.arange(1, count + 1, device=seed.device)
    mixed = _mix(_mix(seed)[:, None] + place * GOLDEN)
    return (_shifted(mixed, 64 - BITS)).float() * 2.0**-BITS


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * FIRST
    x = (x ^ _shifted(x, 27)) * SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift to the right, zeros from the left: torch's own shift repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
