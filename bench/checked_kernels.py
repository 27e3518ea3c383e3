"""The kernels of a model without those that kernel_floors.py found wrong, as a sweep takes them."""

from pathlib import Path

import torch

from dlm_bench.errors import ConfigError
from dlm_bench.models.factory import parse_dtype
from dlm_bench.models.own import own_config
from dlm_bench.results.record import Point
from dlm_bench.sweep.kernel_check import read_faults, why_left_out
from dlm_bench.sweep.kernels import without


def checked_kernels(path: Path | None, point: Point) -> dict[str, str]:
    """The kernels to insist on for a point. Raises ConfigError for a point without a stand-in for
    one of its kernels."""
    if path is None or not path.exists():
        return {}
    config, dtype = own_config(point.backbone, point.size), parse_dtype(point.dtype)
    heads = {(dtype, config.head_dim, config.heads // config.kv_heads)}
    choice = without(read_faults(path), torch.device(point.device), heads, {})
    why = why_left_out(choice.left_out, point)
    if why:
        raise ConfigError(why)
    return choice.kernels
