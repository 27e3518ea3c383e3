"""Build a random-weight model: the real mathematics of a backbone, untrained."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, overload

import torch

from dlm_bench.errors import MAX_SEED, ConfigError, check_int, unknown
from dlm_bench.kernels.choice import choose_kernels, choose_unmask_kernels
from dlm_bench.models.backbones import FOLDER, backbone_info, loaded
from dlm_bench.models.config import ModelConfig, model_config
from dlm_bench.models.device import ITEM_BYTES, find_device
from dlm_bench.models.hf.folder import Folder, read_folder
from dlm_bench.models.hf.tensors import load_weights
from dlm_bench.models.language_model import LanguageModel
from dlm_bench.models.measured import settle_attention, settle_scan, settle_small_pass
from dlm_bench.models.own import OWN, Config, own_config
from dlm_bench.models.transformer import Transformer
from dlm_bench.models.transformer_config import TransformerConfig
from dlm_bench.plugins.api import Model, check_model
from dlm_bench.plugins.entry_points import failure, find

DTYPES = {name: getattr(torch, name) for name in ITEM_BYTES}


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return a dtype by name. Raises ConfigError for another dtype than the models'."""
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
        return DTYPES[dtype]
    if dtype not in DTYPES.values():
        raise unknown("dtype", str(dtype).removeprefix("torch."), DTYPES)
    return dtype


def parse_device(device: str | torch.device) -> torch.device:
    """Return an available device, with an index as tensors have. Raises ConfigError for another."""
    return torch.device(str(find_device(str(device))))


def build_model(
    backbone: str,
    size: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = torch.float32,
    seed: int = 0,
    *,
    layers: int | None = None,
    heads: int | None = None,
    kernels: Mapping[str, str] | None = None,
    random_weights: bool = False,
) -> Model:
    """Build a backbone in inference mode.

    backbone: this project's or a package's, with random weights; or "hf:FOLDER", a local folder in
        the format of Hugging Face, with the folder's weights, or random if `random_weights`.
    size: "small" by default, or the default of the package.
    device: "cpu", "cuda" or "meta" (shapes alone, without memory). CUDA becomes the current device.
    dtype: a torch.dtype, or a name such as "bfloat16".
    seed: of random weights, which depend on the kind of device, too.
    layers, heads: override those of the size, in this project's backbones.
    kernels: implementations to insist on, by operation, as {"attention": "cudnn"}.

    Raises ConfigError for an unknown or missing backbone, size, dtype, device or kernel.
    """
    if backbone in OWN and find("backbone", backbone, OWN) is None:
        size = backbone_info(backbone).default_size if size is None else size
        config = own_config(backbone, size, layers=layers, heads=heads)
        return _drawn(config, device, dtype, seed, kernels)
    for name, value in (("layers", layers), ("heads", heads)):
        if value is not None:
            raise ConfigError(f"{name}: {value!r} is not allowed with backbone {backbone!r}")
    target, kind = parse_device(device), parse_dtype(dtype)
    check_int("seed", seed, minimum=0, maximum=MAX_SEED)
    if target.type == "cuda":
        torch.cuda.set_device(target)  # Triton launches on the current one
    found = backbone_info(backbone)
    size = found.default_size if size is None else size
    found.check_size(size)
    if backbone.startswith(FOLDER):
        return _build_folder(read_folder(found.folder), target, kind, seed, kernels, random_weights)
    return _build_plugin(backbone, size, target, kind, seed, kernels)


def _build_folder(
    folder: Folder,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    kernels: Mapping[str, str] | None,
    random_weights: bool,
) -> Model:
    """Build the model of a folder: here if the field's, else by `transformers`."""
    if not isinstance(folder.config, TransformerConfig):
        from dlm_bench.models.hf.model import build_hugging_face  # needs transformers

        return build_hugging_face(
            folder, device, dtype, seed, random_weights=random_weights, kernels=kernels
        )
    checkpoint = folder.weights_digest(random_weights)
    if random_weights:
        model: Model = _drawn(folder.config, device, dtype, seed, kernels)
        return model
    loaded_model = empty_model(folder.config, device, dtype, kernels)
    assert isinstance(loaded_model, Transformer)
    if device.type != "meta":
        load_weights(loaded_model, folder)
    loaded_model.checkpoint = checkpoint
    return loaded_model


def _build_plugin(
    backbone: str,
    size: str,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    kernels: Mapping[str, str] | None,
) -> Model:
    """Build a model of a package's backbone, and check the interface."""
    plugin = find("backbone", backbone, OWN)
    assert plugin is not None
    announced = loaded(plugin)
    try:
        model: Any = announced.build(size, device, dtype, seed)
        check_model(model, backbone, size, announced, (device, dtype))
    except ConfigError as error:
        raise ConfigError(f"{error} (package {plugin.package})") from None
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # whatever somebody else's code raises
        raise failure(plugin, "cannot be built", error) from error
    model.kernels = choose_unmask_kernels(device, dtype, model.head.weight.shape[1], kernels)
    built: Model = model.eval().requires_grad_(False)
    return built


def build_denoiser(
    backbone: str,
    size: str,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = torch.float32,
    seed: int = 0,
    *,
    layers: int | None = None,
    heads: int | None = None,
    kernels: Mapping[str, str] | None = None,
) -> LanguageModel:
    """As `build_model`, of the paper's backbones only."""
    config = model_config(backbone, size, layers=layers, heads=heads)
    return _drawn(config, device, dtype, seed, kernels)


@overload
def _drawn(config: ModelConfig, *where: Any) -> LanguageModel: ...
@overload
def _drawn(config: Config, *where: Any) -> LanguageModel | Transformer: ...
def _drawn(
    config: Config,
    device: str | torch.device,
    dtype: str | torch.dtype,
    seed: int,
    kernels: Mapping[str, str] | None,
) -> LanguageModel | Transformer:
    """A model with random weights."""
    target, kind = parse_device(device), parse_dtype(dtype)
    check_int("seed", seed, minimum=0, maximum=MAX_SEED)
    model = empty_model(config, target, kind, kernels)
    if target.type != "meta":
        model.init_weights(torch.Generator(target).manual_seed(seed))
    return model


@overload
def empty_model(
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    kernels: Mapping[str, str] | None = None,
) -> LanguageModel: ...
@overload
def empty_model(
    config: Config,
    device: torch.device,
    dtype: torch.dtype,
    kernels: Mapping[str, str] | None = None,
) -> LanguageModel | Transformer: ...
def empty_model(
    config: Config,
    device: torch.device,
    dtype: torch.dtype,
    kernels: Mapping[str, str] | None = None,
) -> LanguageModel | Transformer:
    """Return a model in inference mode without weights yet. A CUDA device becomes current. Raises
    ConfigError for an unknown or missing kernel."""
    if device.type == "cuda":
        torch.cuda.set_device(device)  # Triton launches on the current one
    group = config.heads // config.kv_heads
    chosen = choose_kernels(device, dtype, config.head_dim, kernels, group=group)
    if device.type == "cuda" and "attention" not in (kernels or {}):
        chosen = settle_attention(chosen, config, device, dtype)
    if device.type == "cuda" and "walking_scan" not in (kernels or {}):
        chosen = settle_scan(chosen, config, device, dtype)
    if not isinstance(config, ModelConfig):
        chosen = replace(chosen, small_pass="torch")  # the paper's layers alone have another form
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        # Born on meta, so that no memory is touched twice and nn's own initialisers cost nothing.
        with torch.device("meta"):
            model = (
                LanguageModel(config, chosen)
                if isinstance(config, ModelConfig)
                else Transformer(config, chosen)
            )
    finally:
        torch.set_default_dtype(before)
    if device.type != "meta":
        model.to_empty(device=device)
    if device.type == "cuda" and isinstance(model, LanguageModel):
        model.eval().requires_grad_(False)
        if model.kernels.small_pass != "torch" and "small_pass" not in (kernels or {}):
            settle_small_pass(model)
    if isinstance(model, Transformer):
        model.tie()  # to_empty parts what is tied
    return model.eval().requires_grad_(False)


def count_parameters(model: Model) -> int:
    """Number of parameters, embedding and head included."""
    return sum(parameter.numel() for parameter in model.parameters())
