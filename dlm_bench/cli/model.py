"""The device and the model that a command's arguments ask for."""

import argparse
import sys
from typing import TYPE_CHECKING

from dlm_bench.errors import ConfigError

if TYPE_CHECKING:
    from dlm_bench.models.place import Place
    from dlm_bench.plugins.api import Model


def find_device(args: argparse.Namespace, *, for_programs: bool = False) -> "Place":
    """Return the device of --device, with auto resolved in `args`, and say which it is.

    The line goes to standard error where standard output is for programs, or with --quiet.
    """
    import torch

    from dlm_bench.models.place import find_place

    why = ""
    if args.device == "auto":
        here = torch.cuda.is_available()
        args.device = "cuda" if here else "cpu"
        why = "; --device cpu is the other choice" if here else "; no CUDA device is here"
    place = find_place(args.device)
    stream = sys.stderr if for_programs or "quiet" in args else sys.stdout
    name = f", {torch.cuda.get_device_name(place.index)}" if place.type == "cuda" else ""
    print(f"device: {place}{name}{why}", file=stream)
    return place


def load_model(args: argparse.Namespace, dtype: str, forced: dict[str, str]) -> "Model":
    """Return the model with random weights, or with those of --checkpoint if they fit."""
    from dlm_bench.models.factory import build_model
    from dlm_bench.training.checkpoint import checkpoint_config, load_checkpoint

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
    config = checkpoint_config(args.checkpoint)
    for name, asked in (("backbone", args.backbone), ("size", args.size)):
        found = getattr(config, name)
        if asked not in (None, found):
            raise ConfigError(
                f"{name}: {asked!r} is not allowed; checkpoint {str(args.checkpoint)!r} holds "
                f"{found!r}"
            )
    return load_checkpoint(args.checkpoint, args.device, dtype, kernels=forced)
