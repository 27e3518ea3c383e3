"""The interface of a backbone of your own, announced by a package (docs/plugins.md).

A model is a `torch.nn.Module` with the members of `Model`. Samplers of your own subclass
`dlm_bench.samplers.sampler.Sampler`.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from dlm_bench.errors import ConfigError, check_int, unknown

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from dlm_bench.models.cache import Window

# Of a model: a capability has the name of the sampler that requires no other; prefill is the pass
# over a whole prompt, which samplers of blocks and ar make before the others; sub-blocks are the
# passes of block-cache over a part of a block (Window.sight and Window.inner); next-token is the
# prediction of the token after a clean block (Window.ahead).
CAPABILITIES = (
    "full",
    "fast-dllm",
    "block-cache",
    "pipeline",
    "self-speculation",
    "ar",
    "prefill",
    "sub-blocks",
    "next-token",
)
HEAD_WIDTH = 16  # what the fused LM head needs the width of the hidden states to be a multiple of


class ModelInfo(Protocol):
    """The description of a model for samplers and records: a dataclass, kept whole in records.

    backbone, size: the names passed to `build_model`.
    vocab_size: the number of ids, MASK among them.
    mask_id: the id of MASK, never decoded; vocab_size in a causal model, without MASK.
    bos_id: the first id of an autoregressive decode.
    max_length: the most tokens of a sequence; optional, None stands for no limit.
    eos_id: the id that ends a text, for stop_at_eos; optional.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def backbone(self) -> str: ...
    @property
    def size(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def mask_id(self) -> int: ...
    @property
    def bos_id(self) -> int: ...


class Cache(Protocol):
    """The static buffers of one layer, or of the whole model, between passes."""

    def reset(self) -> None:
        """Return to the state before the first token."""

    def fill(self, generator: "torch.Generator") -> None:
        """Hold random numbers of the usual size, as if a decode were half done."""


class Head(Protocol):
    """The LM head: logits are hidden @ weight.T, weight (vocab_size, d_model), without a bias."""

    @property
    def weight(self) -> "Tensor": ...


class UsedKernels(Protocol):
    """The implementations of dlm-bench's own operations for a model."""

    @property
    def lm_head(self) -> str: ...
    @property
    def elementwise(self) -> str: ...
    def named(self) -> dict[str, str]:
        """Operation to implementation, as records keep it."""


class Model(Protocol):
    """A model for samplers to decode with.

    supports: the members of CAPABILITIES that the model can run.
    kernels: `dlm_bench.kernels.choice.UnmaskKernels()`; `build_model` replaces this by the best
        implementations on the device.
    checkpoint: the digest of the weights' file, "" for random weights.
    """

    @property
    def config(self) -> ModelInfo: ...
    @property
    def head(self) -> Head: ...
    @property
    def kernels(self) -> UsedKernels: ...
    @property
    def checkpoint(self) -> str: ...
    @property
    def supports(self) -> tuple[str, ...]: ...

    def __call__(
        self,
        tokens: "Tensor",
        t: "Tensor | None" = None,
        window: "Window | None" = None,
        caches: Any = None,
    ) -> "Tensor":
        """Run a pass: tokens (batch, len) int64 to hidden states (batch, len, d_model)."""

    def new_caches(self, batch: int, length: int, *, reverse_state: bool = False) -> list[Any]:
        """Return the empty caches of a decode of `length` tokens, the prompt included.

        Needed if the model supports more than "full"; `reverse_state` is true for Fast-dLLM's dual
        cache.
        """

    def parameters(self) -> "Iterator[nn.Parameter]": ...


@dataclass(frozen=True)
class BackbonePlugin:
    """A backbone as announced by a package, the object of the entry point.

    build: build(size, device, dtype, seed) returns the model, with random weights by the seed. The
        device is an available `torch.device`, or `meta`; the dtype a `torch.dtype`.
    sizes: the names of the sizes; the default is "small", or else the first name.
    supports: those of CAPABILITIES that the models can run.

    Raises ConfigError for other sizes or supports.
    """

    build: "Callable[[str, torch.device, torch.dtype, int], Model]"
    sizes: tuple[str, ...]
    supports: tuple[str, ...] = ("full",)

    def __post_init__(self) -> None:
        for name in ("sizes", "supports"):
            value = getattr(self, name)
            whole = isinstance(value, tuple) and all(isinstance(each, str) for each in value)
            if not (whole and value):
                raise ConfigError(
                    f"{name}: {value!r} is not allowed; must be a tuple of one or more names"
                )
        for each in self.supports:
            if each not in CAPABILITIES:
                raise unknown("supports", each, CAPABILITIES)


def check_model(
    model: Any, backbone: str, size: str, plugin: BackbonePlugin, weight: "tuple[Any, Any]"
) -> None:
    """Raise ConfigError, with the fault, unless a built model is as `Model` says.

    `weight` is the required (device, dtype) of the LM head's weight.
    """
    import torch

    def refuse(what: str) -> ConfigError:
        return ConfigError(f"backbone: the model of {backbone!r} {what}")

    if not isinstance(model, torch.nn.Module):
        raise refuse(f"is a {type(model).__name__}; must be a torch.nn.Module")
    for name in ("config", "head", "kernels", "checkpoint", "supports"):
        if not hasattr(model, name):
            raise refuse(f"has no {name!r}; see dlm_bench.plugins.api.Model")
    config = model.config
    if not is_dataclass(config) or isinstance(config, type):
        raise refuse("has a config that is no dataclass, which records could keep")
    for name, asked in (("backbone", backbone), ("size", size)):
        if getattr(config, name, None) != asked:
            found = getattr(config, name, None)
            raise refuse(f"has config.{name} {found!r}; must be {asked!r}, as it was asked for")
    vocabulary = check_int(f"vocab_size of {backbone!r}", getattr(config, "vocab_size", None), 3)
    check_int(f"mask_id of {backbone!r}", getattr(config, "mask_id", None), 0, vocabulary)
    check_int(f"bos_id of {backbone!r}", getattr(config, "bos_id", None), 0, vocabulary - 1)
    head = getattr(model.head, "weight", None)
    if not isinstance(head, torch.Tensor) or head.dim() != 2 or head.shape[0] != vocabulary:
        raise refuse(
            f"has no head.weight of ({vocabulary}, d_model), which config.vocab_size wants"
        )
    if getattr(model.head, "bias", None) is not None:
        raise refuse("has a bias in its head; it would not be read (docs/plugins.md)")
    if (head.device, head.dtype) != weight:
        device, dtype = weight
        raise refuse(f"is {head.dtype} on {head.device}; asked for was {dtype} on {device}")
    if tuple(model.supports) != plugin.supports:
        raise refuse(f"supports {model.supports}; its package announces {plugin.supports}")
    if plugin.supports != ("full",) and not hasattr(model, "new_caches"):
        raise refuse(f"has no 'new_caches', and supports {', '.join(plugin.supports)}")


def __getattr__(name: str) -> Any:
    """Return members under their former names, until version 0.2."""
    names = {"Facts": "ModelInfo", "PASSES": "CAPABILITIES"}
    if name not in names:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    text = f"dlm_bench.plugins.api.{name} is {names[name]} now"
    warnings.warn(text, DeprecationWarning, stacklevel=2)
    return globals()[names[name]]
