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
from dlm_bench.timing.measure import watch_of
from dlm_bench.timing.telemetry import Watch


def env(args: argparse.Namespace) -> int:
    """Print the environment of a record, and the kernels of a model built here."""
    target = find_device(args)
    device = parse_device(args.device)
    dtype = parse_dtype(default_dtype(device.type) if args.dtype is None else args.dtype)
    head_dim = model_config("diffutran", args.size).head_dim
    kernels = choose_kernels(device, dtype, head_dim, forced_kernels(args))
    rows = environment(device.type, device.index or 0)
    rows |= state_rows(watch_of(device))
    rows |= {f"kernel {operation}": name for operation, name in kernels.named().items()}
    print_device(args, target)
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}} {value}")
    return 0


def state_rows(watch: Watch) -> dict[str, str]:
    """Return the settings of a GPU as rows: `power limit`, `clocks`, ..., or the reason for none;
    nothing of a CPU."""
    state, note = watch.state()
    rows = {"sensors": note} if note else {}
    limit, own = (state.get(f"power_limit_{name}watts") for name in ("", "default_"))
    if limit:
        rows["power limit"] = f"{limit:g} of {own:g} W" if own else f"{limit:g} W"
    for name, title in (("sm", "SM clock"), ("memory", "memory clock")):
        highest, asked = (
            state.get(f"{name}_clock_{which}_mhz") for which in ("max", "application")
        )
        if highest:
            rows[title] = f"up to {highest:g} MHz" + (f", set to {asked:g}" if asked else "")
    rows |= {name: state[name] for name in ("persistence", "ecc", "mig") if name in state}
    if "compute_processes" in state:
        rows["processes"] = f"{state['compute_processes']} with CUDA on this GPU"
    return rows
