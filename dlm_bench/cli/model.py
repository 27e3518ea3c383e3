"""The device and the model asked for by arguments."""

import argparse
import sys

from dlm_bench.models.device import AUTO, Device
from dlm_bench.models.device import find_device as find
from dlm_bench.models.factory import build_model
from dlm_bench.plugins.api import Model
from dlm_bench.training.checkpoint import load_checkpoint
from dlm_bench.training.stated import check_holds


def find_device(args: argparse.Namespace) -> Device:
    """Return the device of --device, with auto resolved in `args`."""
    device = find(args.device)
    args.device_is_auto = args.device == AUTO
    args.device = str(device)
    return device


def print_device(args: argparse.Namespace, device: Device, *, for_programs: bool = False) -> None:
    """Print the device, once the arguments are known to be right.

    The line goes to standard error where standard output is for programs, or with --quiet.
    """
    name = why = ""
    if device.type == "cuda":
        import torch

        name = f", {torch.cuda.get_device_name(device.index)}"
    if args.device_is_auto:
        why = "; no CUDA device is here" if device.type == "cpu" else "; --device cpu for the CPU"
    stream = sys.stderr if for_programs or "quiet" in args else sys.stdout
    print(f"device: {device}{name}{why}", file=stream)


def load_model(args: argparse.Namespace, dtype: str, forced: dict[str, str]) -> Model:
    """Return the model with random weights, or with those of --checkpoint if they fit."""
    if args.checkpoint is None:
        return build_model(
            args.backbone,
            args.size,
            args.device,
            dtype,
            args.seed,
            kernels=forced,
            random_weights=args.random_weights,
        )
    check_holds(args.checkpoint, args.backbone, args.size)
    return load_checkpoint(args.checkpoint, args.device, dtype, kernels=forced)
