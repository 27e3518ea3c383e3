"""What all samplers share: the schedule of a plan, the buffers, seeking, and the decode loop."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from dlm_bench.errors import (
    LARGEST_BATCH,
    LARGEST_SEED,
    LONGEST,
    ConfigError,
    check_int,
    check_number,
    unknown,
)
from dlm_bench.models.backbones import check_length, known, own_passes
from dlm_bench.models.config import BACKBONES
from dlm_bench.protocols import Cache, Model
from dlm_bench.samplers.schedule import PlannedPass, Schedule, run_lengths
from dlm_bench.samplers.state import DecodeState, new_state
from dlm_bench.samplers.unmask import RULES, unmask


@dataclasses.dataclass(frozen=True)
class Sampler(ABC):
    """A decoding algorithm: it says its schedule and executes it pass by pass.

    The options are the fields of the dataclass. `needs` is which passes a model must support
    (`dlm_bench.protocols.PASSES`).
    """

    name: ClassVar[str]
    needs: ClassVar[str] = "full"

    temperature: float = 0.0

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature)

    @abstractmethod
    def plan(self, length: int) -> Iterator[PlannedPass]:
        """Every pass of a decode of `length` tokens, in order."""

    @abstractmethod
    def step(self, model: Model, state: DecodeState, kind: str) -> None:
        """Run the next pass, which is of this kind, and its unmasking.

        Reads its place from the device's counter and moves that on: nothing on the host depends
        on the decode, so that a step can be captured once per kind and replayed. (The plain
        PyTorch kernels ask the device for a cache's length, an edge of a refresh and the masked
        rows; those of the CUDA path do not.)
        """

    def options(self) -> dict[str, int | float | str]:
        """The options by name, defaults included."""
        return dataclasses.asdict(self)

    def schedule(self, length: int) -> Schedule:
        """The passes of a decode of `length` tokens. Raises ConfigError if it is not allowed."""
        check_int("length", length, maximum=LONGEST)
        return run_lengths(length, self.plan(length))

    def check_backbone(self, backbone: str) -> None:
        """Raise ConfigError if this sampler cannot decode with this backbone."""
        self._check_supports(backbone, known(backbone).supports)

    def _check_supports(self, backbone: str, supports: tuple[str, ...]) -> None:
        if self.needs in supports:
            return
        if self.needs == "ar":
            why = "it needs a causal model, and a denoiser sees both sides"
        elif supports == ("ar",):
            why = "it fills in masked tokens from both sides, and a causal model sees only the left"
        else:
            why = f"it needs the passes of {self.needs!r}; there are those of {', '.join(supports)}"
        fitting = [name for name in BACKBONES if self.needs in own_passes(name)]
        raise ConfigError(
            f"backbone: {backbone!r} does not decode with sampler {self.name!r}: {why}; "
            f"allowed: {', '.join(fitting)}"
        )

    def caches(self, model: Model, length: int, batch: int) -> list[Cache]:
        """The empty caches of a decode; none unless a sampler says otherwise."""
        return []

    def prepare(self, model: Model, length: int, batch: int = 1, seed: int = 0) -> DecodeState:
        """Allocate all buffers of a decode: tokens (all MASK), caches, device-side counter.

        Raises ConfigError for a backbone this sampler cannot use, or a length or batch below 1.
        """
        self._check_supports(model.config.backbone, model.supports)
        check_int("length", length, maximum=LONGEST)
        check_length(model.config.backbone, length, getattr(model.config, "max_length", None))
        check_int("batch", batch, maximum=LARGEST_BATCH)
        check_int("seed", seed, minimum=0, maximum=LARGEST_SEED)
        device = model.head.weight.device
        if device.type == "meta":
            raise ConfigError("device: a model on 'meta' has shapes but no weights to decode with")
        if device.type == "cuda":
            torch.cuda.set_device(device)  # Triton launches on the current one
        caches = self.caches(model, length, batch)
        return new_state(model.config, list(self.plan(length)), length, batch, seed, device, caches)

    def seek(self, state: DecodeState, pass_index: int) -> None:
        """Put the state where pass `pass_index` would start.

        Pass 0 is a fresh decode. Further on, decoded tokens are random ids and the caches hold
        random numbers, so that the pass does its full work without the passes before it. Raises
        ConfigError for a pass the decode does not have.
        """
        if not 0 <= pass_index < len(state.plan):
            raise ConfigError(
                f"pass_index: {pass_index} is not allowed; must be from 0 to {len(state.plan) - 1}"
            )
        place = state.plan[pass_index]
        state.index.fill_(pass_index)
        state.generator.set_state(state.generator_start)
        state.tokens.fill_(state.config.mask_id)
        state.tokens[:, : place.block_start] = state.filler[:, : place.block_start]
        block = slice(place.block_start, place.block_start + place.block_len)
        order = state.priority[:, block].argsort(dim=1, descending=True)
        known = order[:, : place.block_len - place.masked] + place.block_start
        state.tokens.scatter_(1, known, state.filler.gather(1, known))
        for cache in state.caches:
            if pass_index == 0:
                cache.reset()
            else:
                cache.fill(state.generator)

    @torch.inference_mode()
    def decode(self, model: Model, length: int, batch: int = 1, seed: int = 0) -> Tensor:
        """Decode `length` tokens from nothing: (batch, length) int64, no MASK among them."""
        state = self.prepare(model, length, batch, seed)
        self.run(model, state)
        return state.tokens

    def run(self, model: Model, state: DecodeState) -> None:
        """All passes, from a state at the first one."""
        for planned in state.plan:
            self.step(model, state, planned.kind)


@dataclasses.dataclass(frozen=True)
class DenoisingSampler(Sampler):
    """A sampler of denoisers, with `tokens_per_step` (the paper's p) and an unmasking rule."""

    tokens_per_step: int = 8
    unmask: str = "confidence"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("tokens_per_step", self.tokens_per_step)
        if self.unmask not in RULES:
            raise unknown("unmask", self.unmask, RULES)

    def reveal(self, model: Model, state: DecodeState, hidden: Tensor) -> None:
        """Unmask what this pass is to, given the block's hidden states (batch, block_len, d)."""
        unmask(
            model,
            state,
            hidden,
            rule=self.unmask,
            temperature=self.temperature,
            at_most=self.tokens_per_step,
        )


@dataclasses.dataclass(frozen=True)
class BlockSampler(DenoisingSampler):
    """A sampler that goes block by block from the left, with `block_size` (the paper's B)."""

    block_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("block_size", self.block_size)
        if self.tokens_per_step > self.block_size:
            raise ConfigError(
                f"tokens_per_step: {self.tokens_per_step} is not allowed; "
                f"must be at most block_size ({self.block_size})"
            )

    def caches(self, model: Model, length: int, batch: int) -> list[Cache]:
        return model_caches(model, length, batch)


def model_caches(
    model: Model, length: int, batch: int, *, reverse_state: bool = False
) -> list[Cache]:
    """Empty caches on the model's device, in its dtype."""
    return model.new_caches(batch, length, reverse_state=reverse_state)
