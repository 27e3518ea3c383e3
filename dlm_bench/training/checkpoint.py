"""Trained weights in a file: safetensors, with the model's configuration in its metadata."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dlm_bench.errors import ConfigError, first_line
from dlm_bench.models.factory import empty_model, parse_device, parse_dtype
from dlm_bench.models.language_model import LanguageModel
from dlm_bench.results.files import replacing
from dlm_bench.training.stated import KEY, checkpoint_config, digest
from dlm_bench.version import __version__


def save_checkpoint(model: LanguageModel, path: str | Path) -> None:
    """Write the weights, in their dtypes, and the configuration.

    Raises ConfigError if the file cannot be written or the model has no weights (`meta`).
    """
    if model.head.weight.is_meta:
        raise ConfigError("device: a model on 'meta' has no weights to save")
    metadata = {"format": "pt", "dlm-bench": __version__, KEY: json.dumps(asdict(model.config))}
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with replacing(path, "checkpoint", ConfigError) as beside:
        try:
            save_file(tensors, beside, metadata)
        except SafetensorError as error:  # which is what an OSError becomes there
            raise ConfigError(f"checkpoint {str(path)!r}: {first_line(error)}") from None


def load_checkpoint(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = torch.float32,
    *,
    kernels: Mapping[str, str] | None = None,
) -> LanguageModel:
    """Load the model of a checkpoint in inference mode; `model.checkpoint` is the file's digest.

    device, dtype, kernels: as in `build_model`. Raises ConfigError if the file is no checkpoint, or
    the tensors do not fit the configuration.
    """
    config = checkpoint_config(path)
    target = parse_device(device)
    if target.type == "meta":
        raise ConfigError("device: 'meta' has no weights to load; allowed: cpu, cuda")
    model = empty_model(config, target, parse_dtype(dtype), kernels)
    tensors = load_file(path, device=str(target))
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ConfigError(
                f"checkpoint {str(path)!r}: tensor {name!r} is {found.get(name, 'missing')}; "
                f"its configuration wants {wanted.get(name, 'none')}"
            )
    model.load_state_dict(tensors)
    model.checkpoint = digest(path)
    return model
