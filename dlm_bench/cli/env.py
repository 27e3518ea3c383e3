"""`env`: show the hardware, the versions and the kernels behind a number."""

import argparse

from dlm_bench.cli.arguments import (
    forced_kernels,
)
from dlm_bench.cli.model import find_device, print_device
from dlm_bench.kernels.choice import choose_kernels
from dlm_bench.models.config import model_config
from dlm_bench.models.device import default_dtype
from dlm_bench.models.factory import parse_device, parse_dtype
from dlm_bench.timing.environment import environment


def env(args: argparse.Namespace) -> int:
    """Print the environment of a record, and the kernels of a model built here."""
    target = find_device(args)
    device = parse_device(args.device)
    dtype = parse_dtype(default_dtype(device.type) if args.dtype is None else args.dtype)
    head_dim = model_config("diffutran", args.size).head_dim
    kernels = choose_kernels(device, dtype, head_dim, forced_kernels(args))
    rows = environment(device.type, device.index or 0)
    rows |= {f"kernel {operation}": name for operation, name in kernels.named().items()}
    print_device(args, target)
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}} {value}")
    return 0
