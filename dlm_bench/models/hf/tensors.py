"""The weights of a folder, copied from its safetensors files into a `Transformer`.

A file is mapped anew for each piece, and a piece goes straight to the place, device and dtype of
the model, so that memory holds the weights and a piece besides.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dlm_bench.errors import ConfigError, first_line
from dlm_bench.models.hf.folder import WEIGHTS, Folder
from dlm_bench.models.hf.tokenizer import read_json
from dlm_bench.models.transformer import Transformer

INDEX = "model.safetensors.index.json"
PIECE = 1 << 26  # bytes
DTYPES = "BF16, F16, F32, F64"
SHOWN = 3  # names in an error
# Buffers that some versions of `transformers` saved: the model here computes them.
COMPUTED = re.compile(r"\.(inv_freq|masked_bias|rotary_emb\.\w+_cached)$")


def _layered(prefix: str, head: str) -> dict[str, tuple[str, ...]]:
    """Return Llama's and Qwen's names under a prefix, by the names of parameters here; a parameter
    here may hold several tensors, in this order."""
    layer = f"{prefix}.layers.{{}}"
    q, k, v = (f"{layer}.self_attn.{each}_proj" for each in "qkv")
    return {
        "embedding.weight": (f"{prefix}.embed_tokens.weight",),
        "blocks.{}.norm1.weight": (f"{layer}.input_layernorm.weight",),
        "blocks.{}.mixer.qkv.weight": (f"{q}.weight", f"{k}.weight", f"{v}.weight"),
        "blocks.{}.mixer.qkv.bias": (f"{q}.bias", f"{k}.bias", f"{v}.bias"),
        "blocks.{}.mixer.q_norm.weight": (f"{layer}.self_attn.q_norm.weight",),
        "blocks.{}.mixer.k_norm.weight": (f"{layer}.self_attn.k_norm.weight",),
        "blocks.{}.mixer.out.weight": (f"{layer}.self_attn.o_proj.weight",),
        "blocks.{}.norm2.weight": (f"{layer}.post_attention_layernorm.weight",),
        "blocks.{}.gate_up.weight": (
            f"{layer}.mlp.gate_proj.weight",
            f"{layer}.mlp.up_proj.weight",
        ),
        "blocks.{}.down.weight": (f"{layer}.mlp.down_proj.weight",),
        "final_norm.weight": (f"{prefix}.norm.weight",),
        "head.weight": (f"{head}.weight",),
    }


def _llada() -> dict[str, tuple[str, ...]]:
    """Return LLaDA's names, as `_layered`."""
    layer = "model.transformer.blocks.{}"
    q, k, v = (f"{layer}.{each}_proj" for each in "qkv")
    return {
        "embedding.weight": ("model.transformer.wte.weight",),
        "blocks.{}.norm1.weight": (f"{layer}.attn_norm.weight",),
        "blocks.{}.mixer.qkv.weight": (f"{q}.weight", f"{k}.weight", f"{v}.weight"),
        "blocks.{}.mixer.qkv.bias": (f"{q}.bias", f"{k}.bias", f"{v}.bias"),
        "blocks.{}.mixer.out.weight": (f"{layer}.attn_out.weight",),
        "blocks.{}.norm2.weight": (f"{layer}.ff_norm.weight",),
        "blocks.{}.gate_up.weight": (f"{layer}.ff_proj.weight", f"{layer}.up_proj.weight"),
        "blocks.{}.down.weight": (f"{layer}.ff_out.weight",),
        "final_norm.weight": ("model.transformer.ln_f.weight",),
        "head.weight": ("model.transformer.ff_out.weight",),
    }


NAMES = {
    "llama": _layered("model", "lm_head"),
    "nemotron": _layered("encoder", "diffusion_head"),
    "llada": _llada(),
}


@torch.no_grad()
def load_weights(model: Transformer, folder: Folder) -> None:
    """Fill a model with the weights of its folder. Raises ConfigError, before anything is read, for
    a file that is missing, damaged or of another format, and for a tensor that is missing, left
    over or of another shape."""
    names = NAMES[folder.names]
    files = _files(folder)
    shapes: dict[str, list[int]] = {}
    places: dict[str, Path] = {}
    for path in files:
        with _opened(folder, path) as file:
            for name in file.keys():  # noqa: SIM118  # not a dict
                if name in places:
                    raise _refusal(folder, f"{name} is in {places[name].name} and {path.name}")
                stored = file.get_slice(name)
                if stored.get_dtype() not in DTYPES.split(", ") and not COMPUTED.search(name):
                    raise _refusal(folder, f"{name} is {stored.get_dtype()}; allowed: {DTYPES}")
                places[name], shapes[name] = path, stored.get_shape()
    parts = dict(parts_of(model, names))
    _check_names(folder, model, set(parts), set(places))
    for name, target in parts.items():
        if shapes[name] != list(target.shape):
            raise _refusal(
                folder, f"{name} has shape {shapes[name]}, and config.json says {[*target.shape]}"
            )
    for name, target in parts.items():
        _copy(folder, places[name], name, target)


def parts_of(model: Transformer, names: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, Tensor]]:
    """Yield the name of each tensor in the files, with the place in the model. A tied head is the
    embedding, and comes up once."""
    config = model.config
    for own, parameter in model.named_parameters():
        layer = re.search(r"\d+", own)
        sources = names[re.sub(r"\d+", "{}", own, count=1)] if layer else names[own]
        rows = [len(parameter) // len(sources)] * len(sources)
        if ".qkv." in own:
            rows = [config.query_width, config.kv_width, config.kv_width]
        for source, target in zip(sources, parameter.split(rows), strict=True):
            yield source.format(layer[0] if layer else ""), target


def _files(folder: Folder) -> list[Path]:
    """List the files of the weights: those in the index, or all."""
    index = folder.path / INDEX
    if not index.is_file():
        return sorted(folder.path.glob(WEIGHTS))
    stated = read_json(index).get("weight_map")
    if not isinstance(stated, dict) or not all(isinstance(each, str) for each in stated.values()):
        raise _refusal(folder, f"{INDEX} has no weight_map")
    found = [folder.path / name for name in sorted(set(stated.values()))]
    for path in found:
        if not path.is_file():
            raise _refusal(folder, f"{path.name}, named by {INDEX}, is missing")
    return found


def _check_names(folder: Folder, model: Transformer, expected: set[str], found: set[str]) -> None:
    """Raise ConfigError unless the files have the tensors of the model and no others."""
    head = NAMES[folder.names]["head.weight"] if model.config.tied else ()
    others = (name for name in found - expected if not COMPUTED.search(name) and name not in head)
    for what, wrong in (("missing", sorted(expected - found)), ("not known", sorted(others))):
        if wrong:
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            are = "is" if len(wrong) == 1 else "are"
            raise _refusal(folder, f"{', '.join(wrong[:SHOWN])}{more} {are} {what}")


def _copy(folder: Folder, path: Path, name: str, target: Tensor) -> None:
    """Copy a tensor, some rows at a time."""
    step = max(1, PIECE // max(1, target[:1].numel() * target.element_size()))
    for start in range(0, len(target), step):
        with _opened(folder, path, target.device) as file:
            piece = file.get_slice(name)[start : start + step]
            target[start : start + step].copy_(piece)


def _opened(folder: Folder, path: Path, device: Any = "cpu") -> Any:
    """Open a file of weights. Raises ConfigError for a file that is damaged or of another kind."""
    try:
        return safe_open(path, framework="pt", device=str(device))
    except (OSError, SafetensorError) as error:
        raise _refusal(folder, f"{path.name}: {first_line(error)}") from None


def _refusal(folder: Folder, what: str) -> ConfigError:
    """Return the error about a folder's weights."""
    return ConfigError(f"backbone: {folder.name!r}: weights: {what}")
