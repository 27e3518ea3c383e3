"""The device and the model asked for by arguments."""

import argparse
import sys

import torch

from dlm_bench.cost.memory import DecodeMemory, decode_memory
from dlm_bench.cost.work import work_of
from dlm_bench.errors import PointError
from dlm_bench.models.backbones import backbone_info, known_config
from dlm_bench.models.device import AUTO, Device
from dlm_bench.models.device import find_device as find
from dlm_bench.models.factory import build_model
from dlm_bench.models.own import Config
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.sweep.memory import lack_of_memory
from dlm_bench.timing.memory import total_memory
from dlm_bench.training.checkpoint import load_checkpoint
from dlm_bench.training.stated import check_holds, checkpoint_config


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
        name = f", {torch.cuda.get_device_name(device.index)}"
    if args.device_is_auto:
        why = "; no CUDA device is here" if device.type == "cpu" else "; --device cpu for the CPU"
    stream = sys.stderr if for_programs or "quiet" in args else sys.stdout
    print(f"device: {device}{name}{why}", file=stream)


def load_model(
    args: argparse.Namespace,
    dtype: str,
    forced: dict[str, str],
    decode: tuple[Sampler, DecodeShape] | None = None,
) -> Model:
    """Return the model with random weights, or with those of --checkpoint if they fit.

    decode: what the model is for. Raises PointError if the model, or this decode, needs more memory
    than the device has: the system would kill this process, or another one, without a reason.
    """
    if args.checkpoint is not None:
        check_holds(args.checkpoint, args.backbone, args.size)
    config = _config(args)
    needed = _least_memory(config, dtype, decode, args.seed)
    lack = lack_of_memory(needed, total_memory(torch.device(args.device)))
    if lack is not None:
        raise PointError(
            f"{args.backbone} {lack}; a smaller size, length or batch, another dtype or device may "
            "do"
        )
    if args.checkpoint is not None:
        return load_checkpoint(args.checkpoint, args.device, dtype, kernels=forced)
    return build_model(
        args.backbone,
        args.size,
        args.device,
        dtype,
        args.seed,
        kernels=forced,
        random_weights=args.random_weights,
    )


def _config(args: argparse.Namespace) -> Config | None:
    """Return the configuration of the model asked for; None for a model of unknown shape."""
    if args.checkpoint is not None:
        return checkpoint_config(args.checkpoint)
    info = backbone_info(args.backbone)
    return known_config(args.backbone, args.size or info.default_size, info.folder)


def _least_memory(
    config: Config | None, dtype: str, decode: tuple[Sampler, DecodeShape] | None, seed: int
) -> DecodeMemory | None:
    if config is None:
        return None
    if decode is None:
        return DecodeMemory(work_of(config).parameter_bytes(dtype), caches=0, activations=0)
    sampler, shape = decode
    return decode_memory(config, sampler, shape, dtype, seed)
