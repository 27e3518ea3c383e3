"""The base of all samplers: the schedule, the buffers, seeking, and the decode loop.

A schedule needs no torch, and torch takes seconds to import: the command line reads sweeps and
predicts costs without. So `prepare` alone imports the buffers, and `step` imports torch by itself.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Self

from dlm_bench.errors import MAX_SEED, ConfigError, check_int, check_number
from dlm_bench.models.backbones import backbone_info, check_length
from dlm_bench.plugins.api import Cache, Model
from dlm_bench.samplers.capabilities import check_capabilities
from dlm_bench.samplers.former import Former, adopt
from dlm_bench.samplers.prompt import check_prompt, drawn_prompt
from dlm_bench.samplers.schedule import PREFILL, DecodeShape, PlannedPass, Schedule, run_lengths

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.samplers.state import DecodeState


@dataclasses.dataclass(frozen=True)
class Sampler(ABC):
    """A decoding algorithm: a schedule, and the execution pass by pass.

    The options are the fields of the dataclass. `requires` names the capability that a model must
    have (`dlm_bench.plugins.api.CAPABILITIES`); `traced_rule` is the rule of acceptance that
    `dlm-bench trace` records unless another is asked for. `remasks` is true where a pass may mask
    tokens again: the plan then has expected numbers, and the last pass unmasks all that is left.
    """

    name: ClassVar[str]
    requires: ClassVar[str] = "full"
    traced_rule: ClassVar[str] = "threshold"
    remasks: ClassVar[bool] = False

    plan, needs, known, check_known = Former(), Former(), Former(), Former()

    temperature: float = 0.0

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature)

    def __init_subclass__(cls) -> None:
        adopt(cls)

    @abstractmethod
    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        """List every pass of a decode of `length` tokens after a prompt, in order; the most
        possible ones if the number is not fixed (`is_fixed`)."""

    @abstractmethod
    def step(self, model: Model, state: "DecodeState", kind: str) -> None:
        """Run the next pass, of this kind, and its unmasking.

        Reads the index of the pass from the device's counter and moves the counter on. Nothing on
        the host depends on the decode, so a step can be captured once per kind and replayed. (The
        plain PyTorch kernels ask the device for a cache's length, an edge of a refresh and the
        masked rows; the kernels of the CUDA path do not.)
        """

    def options(self) -> dict[str, int | float | str]:
        """The options by name, defaults included."""
        return dataclasses.asdict(self)

    def without_meaning(self) -> dict[str, str]:
        """List the options that change nothing beside the others, each with the reason."""
        return {}

    @property
    def trace_block(self) -> int | None:
        """Tokens of the blocks that are unmasked one after the other, as a trace has them; None
        where there is one block, the sequence."""
        return getattr(self, "block_size", None) or None

    @property
    def takes_batches(self) -> bool:
        """False if a decode is of a single sequence."""
        return True

    def check_batch(self, batch: int) -> None:
        """Raise ConfigError for a batch of several where a decode is of a single sequence."""
        if batch > 1 and not self.takes_batches:
            raise ConfigError(
                f"batch: {batch} is not allowed with sampler {self.name!r} and these options; "
                "must be 1"
            )

    @property
    def is_fixed(self) -> bool:
        """True if the passes of a decode are fixed before the decode runs."""
        return True

    def check_fixed(self) -> None:
        """Raise ConfigError if the passes of a decode depend on the model."""
        if not self.is_fixed:
            raise ConfigError(
                f"accept: how many passes {self.options().get('accept')!r} takes depends on the "
                "model; `dlm-bench trace` records them, and the option trace=FILE replays them"
            )

    def scheduled(
        self, model: Model, length: int, batch: int = 1, seed: int = 0, prompt_len: int = 0
    ) -> Self:
        """Return this sampler with the passes of this very decode known; decodes once if need be.
        Raises ConfigError as `prepare` does."""
        return self.scheduled_for(model, DecodeShape(length, prompt_len, batch), seed)

    def scheduled_for(self, model: Model, shape: DecodeShape, seed: int = 0) -> Self:
        """As `scheduled`, of a shape."""
        return self

    def schedule(self, length: int, prompt_len: int = 0) -> Schedule:
        """The passes of a decode of `length` tokens after `prompt_len` of a prompt; where the seed
        decides their number, those of seed 0 (see `planned`, `expected_passes`). Raises ConfigError
        if they are not allowed, or if they are not known."""
        shape = DecodeShape(length, prompt_len)
        self.check_fixed()
        return run_lengths(length, self.planned(shape), prompt_len)

    @property
    def rows_differ(self) -> bool:
        """True if the passes of a decode depend on the sequences of its batch."""
        return False

    def planned(self, shape: DecodeShape, seed: int = 0) -> Iterator[PlannedPass]:
        """List the passes of a decode of this shape as `passes` does, with the rows of each in
        which the sequences differ."""
        return self.passes(shape.length, shape.prompt_len)

    def expected_passes(self, shape: DecodeShape) -> float | None:
        """The expected number of passes of decodes of this shape by any seed, if the seed decides
        their number; else None."""
        return None

    def check_timed(self, length: int, prompt_len: int = 0) -> None:
        """Raise ConfigError for lengths that are not allowed, or that leave nothing to time after
        the prefill pass."""
        self.check_shape_timed(DecodeShape(length, prompt_len))

    def check_shape_timed(self, shape: DecodeShape) -> None:
        """As `check_timed`, of a shape."""
        first = islice(self.passes(shape.length, shape.prompt_len), 2)
        if [each.kind for each in first] == [PREFILL]:
            raise ConfigError(
                f"length: {shape.length} is not allowed after a prompt with sampler {self.name!r}, "
                "whose prefill pass decodes the first token: nothing is left to time; must be at "
                "least 2"
            )

    def check_backbone(self, backbone: str, length: int = 1, prompt_len: int = 0) -> None:
        """Raise ConfigError if this sampler cannot decode with this backbone, or not `length`
        tokens after a prompt."""
        self.check_supports(backbone, backbone_info(backbone).supports, length, prompt_len)

    def check_supports(
        self, backbone: str, supports: tuple[str, ...], length: int = 1, prompt_len: int = 0
    ) -> None:
        """As `check_backbone`, of a backbone that supports these passes."""
        check_capabilities(self, backbone, supports)
        if "prefill" in supports or not prompt_len:
            return
        if next(iter(self.passes(length, prompt_len))).kind == PREFILL:
            raise ConfigError(
                f"prompt_len: {prompt_len} is not allowed with backbone {backbone!r} and sampler "
                f"{self.name!r}, which begins with a 'prefill' pass; there are those of "
                f"{', '.join(supports)}"
            )

    def caches(self, model: Model, length: int, batch: int) -> list[Cache]:
        """Empty caches of a decode of `length` tokens, those of the prompt included; none unless a
        sampler says otherwise."""
        return []

    def prepare(
        self,
        model: Model,
        length: int,
        batch: int = 1,
        seed: int = 0,
        prompt_len: int = 0,
        prompt: "Tensor | None" = None,
    ) -> "DecodeState":
        """Allocate all buffers of a decode: tokens (all MASK but the prompt), caches, device-side
        counter. The prompt is `prompt` (batch, prompt_len) int64, or `prompt_len` random tokens.

        MASK in a prompt stays, and is a token like the others. Raises ConfigError for a backbone
        this sampler cannot use, a length or batch below 1, or a prompt of another shape or of
        tokens that are not the model's.
        """
        self.check_supports(model.config.backbone, model.supports)
        shape = DecodeShape(length, prompt_len, batch)
        if prompt is not None:
            check_prompt(prompt, batch, model.config, prompt_len)
            shape = DecodeShape(length, prompt.shape[1], batch)
        return self.prepare_shape(model, shape, seed, prompt)

    def prepare_shape(
        self, model: Model, shape: DecodeShape, seed: int = 0, prompt: "Tensor | None" = None
    ) -> "DecodeState":
        """As `prepare`, of a shape; `prompt`, if there is one, was checked."""
        length, prompt_len, batch = shape.length, shape.prompt_len, shape.batch
        backbone = model.config.backbone
        # Sequence i has seed + i.
        check_int("seed", seed, minimum=0, maximum=MAX_SEED - (batch - 1))
        self.check_supports(backbone, model.supports, length, prompt_len)
        self.check_batch(batch)
        check_length(backbone, length, getattr(model.config, "max_length", None), prompt_len)
        device = model.head.weight.device
        if device.type == "meta":
            raise ConfigError("device: a model on 'meta' has shapes but no weights to decode with")
        if device.type == "cuda":
            # Grids of kernels have sequences by heads along an axis of at most 65535.
            check_int("batch", batch, maximum=65535 // getattr(model.config, "heads", 1))
            import torch

            torch.cuda.set_device(device)  # Triton launches on the current one
        from dlm_bench.samplers.new_state import new_state  # with torch

        if prompt is None and shape.prompts is not None:
            prompt = drawn_prompt(
                shape.prompts, range(seed, seed + batch), prompt_len, model.config
            )
        caches = self.caches(model, shape.total, batch)
        passes = list(self.planned(shape, seed))
        return new_state(model, passes, shape, seed, device, caches, prompt)

    def seek(self, state: "DecodeState", pass_index: int) -> None:
        """Put the state where pass `pass_index` would start.

        Pass 0 is a fresh decode. Further on, decoded tokens are random ids and the caches hold
        random numbers, so that the pass does its full work without the passes before it, and
        every pass unmasks what was planned. Raises ConfigError for a pass the decode does not have.
        """
        last = len(state.passes) - 1
        if not 0 <= pass_index <= last:
            raise ConfigError(f"pass_index: {pass_index} is not allowed; must be from 0 to {last}")
        pass_ = state.passes[pass_index]
        state.index.fill_(pass_index)
        state.table["after_seek"].fill_(pass_index > 0)
        for generator, start in zip(state.generators, state.generators_start, strict=True):
            generator.set_state(start)
        state.tokens.fill_(state.config.mask_id)
        state.put_stand_ins(pass_)
        for cache in state.caches:
            if pass_index == 0:
                cache.reset()
            else:
                cache.fill(state.generators[0])

    def decode(
        self,
        model: Model,
        length: int,
        batch: int = 1,
        seed: int = 0,
        prompt_len: int = 0,
        prompt: "Tensor | None" = None,
    ) -> "Tensor":
        """Decode `length` tokens after `prompt` (batch, prompt_len) int64, or after a random one of
        `prompt_len` tokens: (batch, length) int64, no MASK and no token of the prompt among them.

        Sequence i is what a decode of it alone with `seed` + i gives. Raises PointError where
        logits are not finite.
        """
        import torch

        with torch.inference_mode():
            state = self.prepare(model, length, batch, seed, prompt_len, prompt)
            self.run(model, state)
            state.check_unmasked()
        return state.tokens[:, state.prompt_len :]

    def run(self, model: Model, state: "DecodeState") -> None:
        """All passes, from a state at the first one."""
        for planned in state.passes:
            self.step(model, state, planned.kind)

    def run_counting(self, model: Model, state: "DecodeState") -> list[tuple[tuple[int, ...], ...]]:
        """As `run`, where the model decides the passes; return for each row and block the tokens
        that each pass over the block accepted. Samplers without traces have none."""
        raise NotImplementedError


def model_caches(
    model: Model, length: int, batch: int, *, reverse_state: bool = False
) -> list[Cache]:
    """Empty caches on the model's device, in its dtype."""
    return model.new_caches(batch, length, reverse_state=reverse_state)
