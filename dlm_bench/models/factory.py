"""Build a random-weight model: the real mathematics of a backbone, untrained."""

from collections.abc import Mapping

import torch

from dlm_bench.errors import LARGEST_SEED, ConfigError, check_int, unknown
from dlm_bench.kernels.choice import choose_kernels
from dlm_bench.models.config import ModelConfig, model_config
from dlm_bench.models.denoiser import Denoiser

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A dtype from its name. Raises ConfigError for one the models do not run in."""
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
        return DTYPES[dtype]
    if dtype not in DTYPES.values():
        raise unknown("dtype", str(dtype).removeprefix("torch."), DTYPES)
    return dtype


def parse_device(device: str | torch.device, *, here: bool = True) -> torch.device:
    """A device that is there; with here=False, one that may be elsewhere. Raises ConfigError if it
    is not there, or is none."""
    try:
        parsed = torch.device(device)
    except RuntimeError:
        raise unknown("device", device, ("cpu", "cuda", "cuda:N", "meta")) from None
    if here and parsed.type == "cuda" and (parsed.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device: {str(device)!r} is not here; this machine has "
            f"{torch.cuda.device_count()} CUDA devices"
        )
    if parsed.type not in ("cpu", "cuda", "meta"):
        raise unknown("device", device, ("cpu", "cuda", "cuda:N", "meta"))
    # As a tensor on it will name it, so that a device has one name in all records.
    return (
        torch.device("cuda", parsed.index or 0)
        if parsed.type == "cuda"
        else torch.device(parsed.type)
    )


def default_dtype(device: torch.device) -> str:
    """float32 on a CPU, which has no fast bfloat16 to count on; else bfloat16."""
    return "float32" if device.type == "cpu" else "bfloat16"


def build_model(
    backbone: str,
    size: str = "small",
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = torch.float32,
    seed: int = 0,
    *,
    layers: int | None = None,
    heads: int | None = None,
    kernels: Mapping[str, str] | None = None,
) -> Denoiser:
    """A backbone with random weights, in inference mode.

    device="meta" builds the shapes alone, in no memory. `layers` and `heads` override the size's.
    `kernels` insists on implementations by operation, as {"attention": "cudnn"} (see
    `dlm_bench.kernels.choice`). A CUDA device becomes the current one. The weights depend on the
    seed and on the kind of device. Raises ConfigError for an unknown backbone, size, dtype, device
    or kernel, or one that is not there.
    """
    config = model_config(backbone, size, layers=layers, heads=heads)
    place, kind = parse_device(device), parse_dtype(dtype)
    check_int("seed", seed, minimum=0, maximum=LARGEST_SEED)
    model = empty_model(config, place, kind, kernels)
    if place.type != "meta":
        model.init_weights(torch.Generator(place).manual_seed(seed))
    return model


def empty_model(
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    kernels: Mapping[str, str] | None = None,
) -> Denoiser:
    """A model in inference mode whose weights are not set yet. A CUDA device becomes the current
    one. Raises ConfigError for a kernel that is not known or not there."""
    if device.type == "cuda":
        torch.cuda.set_device(device)  # Triton launches on the current one
    chosen = choose_kernels(device, dtype, config.head_dim, kernels)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        # Born on meta, so that no memory is touched twice and nn's own initialisers cost nothing.
        with torch.device("meta"):
            model = Denoiser(config, chosen)
    finally:
        torch.set_default_dtype(before)
    if device.type != "meta":
        model.to_empty(device=device)
    return model.eval().requires_grad_(False)


def count_parameters(model: Denoiser) -> int:
    """Number of parameters, embedding and head included."""
    return sum(parameter.numel() for parameter in model.parameters())
