"""Masked and causal language models of Hugging Face `transformers`, as samplers decode with them.

A masked LM is a denoiser without a timestep. A causal LM decodes with a cache of keys and values
of `transformers` whose buffers do not move and whose position is on the device.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlm_bench.errors import ConfigError
from dlm_bench.kernels.choice import UnmaskKernels, choose_unmask_kernels
from dlm_bench.models.hf.cache import KeyValueCache
from dlm_bench.models.hf.families import TEXT_ENDS
from dlm_bench.models.hf.folder import Folder, transformers_quiet
from dlm_bench.models.hf.tokenizer import FILES, is_code
from dlm_bench.models.window import Window
from dlm_bench.plugins.api import HEAD_WIDTH

PADDED = 64  # a head that is copied anyway becomes a multiple of this wide: whole tiles
LOOK = 8  # tokens that a new model is checked on
# Of the norm of the logits, how far two ways to them may differ. They differ by rounding; a wrong
# position, mask or head gives other logits, which differ by about 1.
ALLOWED = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.25}


@dataclass(frozen=True)
class HuggingFaceConfig:
    """The description of a model for records.

    architecture: the class in `transformers`.
    attention: the implementation of attention.
    digest: the digest of config.json's content.
    """

    backbone: str
    size: str
    architecture: str
    digest: str
    attention: str
    layers: int | None
    d_model: int
    vocab_size: int
    mask_id: int
    bos_id: int
    max_length: int | None
    eos_id: int | None = None


class LinearHead(nn.Module):
    """The weight for the LM head, made of a Linear layer's.

    A bias is a further column of the weight, with a 1 in the hidden states; zeros fill both up to a
    width for every kernel. The layer's own weight (an embedding's, where they are tied) then lies
    inside the wider weight, so no number is stored twice.
    """

    weight: Tensor
    column: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        rows, self.width = linear.weight.shape
        self.linear = linear
        self.ones = int(linear.bias is not None)
        if not self.ones and self.width % HEAD_WIDTH == 0:
            self.weight = linear.weight
            return
        wide = -(-(self.width + self.ones) // PADDED) * PADDED
        whole = linear.weight.new_zeros(rows, wide, requires_grad=False)
        with torch.no_grad():
            whole[:, : self.width] = linear.weight
            linear.weight.data = whole[:, : self.width]
            if self.ones:
                whole[:, self.width] = linear.bias
                linear.bias.data = whole[:, self.width]
        self.register_buffer("weight", whole, persistent=False)
        column = whole.new_zeros(wide - self.width)
        column[: self.ones] = 1
        self.register_buffer("column", column, persistent=False)

    def extend(self, hidden: Tensor) -> Tensor:
        """Hidden states (batch, len, d_model) as wide as the weight."""
        hidden = hidden.to(self.weight.dtype)
        if self.weight.shape[1] == self.width:
            return hidden
        return torch.cat((hidden, self.column.expand(*hidden.shape[:-1], -1)), dim=-1)


class HuggingFaceModel(nn.Module):
    """A model of `transformers` that gives hidden states instead of logits (see
    `dlm_bench.plugins.api.Model`)."""

    def __init__(self, network: Any, config: HuggingFaceConfig, supports: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.supports = config, supports
        self.kernels = UnmaskKernels()
        self.checkpoint = ""
        self.network = network
        linear = network.get_output_embeddings()
        path = next(name for name, module in network.named_modules() if module is linear)
        # What stands before the head (BERT's transform) stays in the network, and what would come
        # after it (a soft cap) is noticed by the check of the logits.
        network.set_submodule(path, nn.Identity())
        self.head = LinearHead(linear)
        self._whole = _without_cache(network)

    def forward(
        self,
        tokens: Tensor,
        t: Tensor | None = None,
        window: Window | None = None,
        caches: list[KeyValueCache] | None = None,
    ) -> Tensor:
        """Hidden states (batch, len, d_model); a masked LM is not told the time."""
        if window is None or not caches:
            return self.head.extend(self.network(input_ids=tokens, **self._whole).logits)
        caches[0].start_at(window.start, window.first)
        out = self.network(input_ids=tokens, past_key_values=caches[0].cache, use_cache=True)
        return self.head.extend(out.logits)

    def new_caches(
        self, batch: int, length: int, *, reverse_state: bool = False
    ) -> list[KeyValueCache]:
        """Return a cache for all layers. A first pass makes the buffers, and finds their shapes
        out."""
        layers = self.network.config.get_text_config(decoder=True).num_hidden_layers
        cache = KeyValueCache(layers, length)
        device = self.head.weight.device
        with torch.no_grad():
            first = torch.zeros(batch, 1, dtype=torch.int64, device=device)
            self.network(input_ids=first, past_key_values=cache.cache, use_cache=True)
        return [cache]


def build_hugging_face(
    folder: Folder,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    *,
    random_weights: bool = False,
    kernels: Mapping[str, str] | None = None,
) -> HuggingFaceModel:
    """The model in a folder, in inference mode: its weights, or random ones by `transformers`.
    Raises ConfigError for weights of another configuration, or logits that differ from those of the
    model's own passes.
    """
    checkpoint = folder.weights_digest(random_weights)
    with transformers_quiet(folder.name):
        network = _network(folder, device, dtype, seed, random_weights)
        linear = network.get_output_embeddings()
        if not isinstance(linear, nn.Linear):
            raise ConfigError(
                f"backbone: {folder.name!r}: {type(network).__name__} has no Linear layer as head"
            )
        network.config.return_dict = True
        # Looking for padding in the tokens, to warn of it, would wait for the device in each pass.
        network.config.pad_token_id = None
        config = _config(folder, network, linear)
        if device.type == "meta":
            model = HuggingFaceModel(network, config, folder.supports)
        else:
            length = min(LOOK, config.max_length or LOOK)
            tokens = torch.arange(1, 1 + length, device=device)[None] % config.vocab_size
            with torch.no_grad():
                logits = network(input_ids=tokens, **_without_cache(network)).logits
                model = HuggingFaceModel(network, config, folder.supports)
                _check(model, tokens, logits)
    model.checkpoint = checkpoint
    model.kernels = choose_unmask_kernels(device, dtype, model.head.weight.shape[1], kernels)
    return model


def _network(
    folder: Folder, device: torch.device, dtype: torch.dtype, seed: int, random_weights: bool
) -> Any:
    """Build the network in inference mode, with the head still there."""
    if random_weights or device.type == "meta":
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.device(device):
            torch.manual_seed(seed)
            network = folder.model_class._from_config(folder.config, dtype=dtype)
    else:
        network, loading = folder.model_class.from_pretrained(
            folder.path,
            config=folder.config,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        for what in ("missing_keys", "mismatched_keys"):
            if loading[what]:
                raise ConfigError(
                    f"backbone: {folder.name!r}: the weights do not fit "
                    f"{type(network).__name__}: {what.replace('_', ' ')} "
                    f"{', '.join(map(str, sorted(loading[what])[:3]))}"
                )
    return network.to(device).eval().requires_grad_(False)


def _config(folder: Folder, network: Any, linear: nn.Linear) -> HuggingFaceConfig:
    config, (vocab_size, width) = network.config, linear.weight.shape
    text = config.get_text_config(decoder=True)
    longest = [folder.max_length] if folder.max_length is not None else []
    for name, module in network.named_modules():
        # RoBERTa's positions begin after the id of padding.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            taken = 0 if module.padding_idx is None else module.padding_idx + 1
            longest.append(module.num_embeddings - taken)
    return HuggingFaceConfig(
        backbone=folder.name,
        size="hf",
        architecture=type(network).__name__,
        digest=folder.digest,
        attention=str(config._attn_implementation),
        layers=getattr(text, "num_hidden_layers", None),
        d_model=width,
        vocab_size=vocab_size,
        mask_id=vocab_size if "ar" in folder.supports else _mask_id(folder, vocab_size),
        bos_id=_bos_id(text, vocab_size),
        max_length=min(longest, default=None),
        eos_id=_text_end(text, "eos_token_id", vocab_size),
    )


def _mask_id(folder: Folder, vocab_size: int) -> int:
    """The id of MASK: the configuration's `mask_token_id`, or the tokenizer's if the folder has
    one, or the last of the vocabulary."""
    found = getattr(folder.config, "mask_token_id", None)
    if found is None and any((folder.path / name).is_file() for name in FILES):
        from transformers import AutoTokenizer

        if is_code(folder.path):
            raise ConfigError(
                f"backbone: {folder.name!r}: its tokenizer is code in the folder, which is not "
                "run; name MASK by mask_token_id in config.json instead"
            )
        tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        found = tokenizer.mask_token_id
    if found is None:
        return vocab_size - 1
    if not 0 <= found < vocab_size:
        raise ConfigError(
            f"backbone: {folder.name!r}: mask_token_id {found} is not in its vocabulary of "
            f"{vocab_size}"
        )
    return int(found)


def _bos_id(config: Any, vocab_size: int) -> int:
    """Return the first id of a decode: the beginning of text, or the end, or id 0."""
    named = (_text_end(config, name, vocab_size) for name in TEXT_ENDS)
    return next((each for each in named if each is not None), 0)


def _text_end(config: Any, name: str, vocab_size: int) -> int | None:
    """Return the id at an end of texts; None if none is stated, or not in the vocabulary."""
    found = getattr(config, name, None)
    found = found[0] if isinstance(found, list) and found else found
    return found if isinstance(found, int) and 0 <= found < vocab_size else None


def _check(model: HuggingFaceModel, tokens: Tensor, logits: Tensor) -> None:
    """Raise ConfigError unless every way of the samplers leads to the network's own logits."""

    def compare(hidden: Tensor, what: str) -> None:
        found = (hidden @ model.head.weight.t()).float()
        apart = (found - logits.float()).norm() / logits.float().norm().clamp(min=1e-30)
        if not apart <= ALLOWED[model.head.weight.dtype]:
            raise ConfigError(
                f"backbone: {model.config.backbone!r}: {model.config.architecture} is not "
                f"supported: {what} (they differ by {apart:.2g} of their norm)"
            )

    compare(model(tokens), "its logits are not those of its head's weight and bias")
    if "ar" in model.supports:
        caches = model.new_caches(1, tokens.shape[1])
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = [
            model(
                tokens[:, i : i + 1], None, Window(positions[i : i + 1], (1,), advance=True), caches
            )
            for i in range(tokens.shape[1])
        ]
        compare(torch.cat(hidden, dim=1), "its cache gives other logits than a whole pass")
        window = Window(positions[:1], (tokens.shape[1],), advance=True, first=True)
        compare(model(tokens, None, window, caches), "a pass that fills its cache gives other ones")


def _without_cache(network: Any) -> dict[str, bool]:
    """Return the arguments against a cache in a pass over a whole sequence."""
    takes = inspect.signature(type(network).forward).parameters
    return {"use_cache": False} if "past_key_values" in takes else {}
