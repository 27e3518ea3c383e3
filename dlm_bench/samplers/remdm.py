"""ReMDM (arXiv 2503.00307): T passes over the whole sequence that also mask tokens again.

The time goes from 1 to 0 in T equal steps, and 1 - alpha(t) is the share of masked tokens. In a
pass from t to s, with sigma its chance of masking again,

    an unmasked token is masked with the chance  sigma,
    a masked one is unmasked with the chance  (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t),

each token by itself. With sigma = 0 it is MDLM. NFE = T: the last pass unmasks all that is left.
"""

import dataclasses
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from dlm_bench.errors import ConfigError, check_int, check_number, unknown
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape, PlannedPass

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.samplers.state import DecodeState

REMASKS = ("cap", "rescale", "loop")
LOOP = ("t_on", "t_off", "alpha_on")  # the options of a loop


@dataclasses.dataclass(frozen=True)
class ReMDM(Sampler):
    """A sampler whose plan has the expected numbers of masked tokens.

    tokens_per_step: p, T = ceil(L / p). steps: T, instead of tokens_per_step; 0 for that.
    remask: the rule for sigma, which is at most (1 - alpha_s) / alpha_t. cap: eta; rescale: eta
        times the most; loop: eta from t_on to t_off, in which alpha stays alpha_on, and 0 outside.
    """

    name: ClassVar[str] = "remdm"
    remasks: ClassVar[bool] = True

    tokens_per_step: int = 8
    steps: int = 0
    remask: str = "cap"
    eta: float = 0.02
    t_on: float = 0.55
    t_off: float = 0.05
    alpha_on: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("tokens_per_step", self.tokens_per_step)
        check_int("steps", self.steps, minimum=0)
        if self.remask not in REMASKS:
            raise unknown("remask", self.remask, REMASKS)
        for name in ("eta", *LOOP):
            check_number(name, getattr(self, name), maximum=1.0)
        if not 0 < self.t_off <= self.t_on < 1:
            raise ConfigError(
                f"t_on: {self.t_on:g} is not allowed with t_off {self.t_off:g}; must be from t_off "
                "to less than 1, and t_off above 0"
            )
        if self.alpha_on == 1:
            raise ConfigError("alpha_on: 1 is not allowed; must be less than 1")

    def without_meaning(self) -> dict[str, str]:
        found = {}
        if self.steps:
            found["tokens_per_step"] = "with steps, which says how many passes there are"
        if self.remask != "loop":
            found |= dict.fromkeys(LOOP, f"with remask {self.remask!r}; allowed with remask 'loop'")
        return found

    def options(self) -> dict[str, int | float | str]:
        """Return the options that mean something, by name, defaults included."""
        left_out = {*self.without_meaning()} | (set() if self.steps else {"steps"})
        return {name: value for name, value in super().options().items() if name not in left_out}

    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        L, total = length, prompt_len + length
        # Rounded up, but for the error of the arithmetic: a pass has something to unmask.
        masked = [math.ceil(L * (1 - self.alpha(t)) - 1e-9) for t in self.times(L)]
        for before, after in pairwise(masked):
            yield PlannedPass(
                kind="denoise",
                query_len=total,
                context_len=0,
                block_start=prompt_len,
                block_len=L,
                masked=before,
                reveal=before - after,
                t=before / total,
            )

    def times(self, length: int) -> list[float]:
        """The times of T passes over `length` tokens, and 0."""
        T = self.steps or -(-length // self.tokens_per_step)
        return [1 - i / T for i in range(T)] + [0.0]

    def alpha(self, t: float) -> float:
        """The share of unmasked tokens that is expected at a time."""
        if self.remask != "loop":
            return 1 - t
        if t > self.t_on:
            return (1 - t) * self.alpha_on / (1 - self.t_on)
        return self.alpha_on if t > self.t_off else 1 - t * (1 - self.alpha_on) / self.t_off

    def chances(self, length: int) -> list[tuple[float, float]]:
        """The chances of each pass to unmask a masked token and to mask an unmasked one."""
        found = []
        for t, s in pairwise(self.times(length)):
            now, then = self.alpha(t), self.alpha(s)
            most = min(1.0, (1 - then) / now) if now else 1.0
            sigma = self.eta * most if self.remask == "rescale" else min(self.eta, most)
            if self.remask == "loop" and not self.t_off < t <= self.t_on:
                sigma = 0.0
            found.append(((then - (1 - sigma) * now) / (1 - now), sigma))
        return found

    def prepare_shape(
        self, model: Model, shape: DecodeShape, seed: int = 0, prompt: "Tensor | None" = None
    ) -> "DecodeState":
        import torch

        state = super().prepare_shape(model, shape, seed, prompt)
        state.chances = torch.tensor(self.chances(shape.length), device=state.index.device)
        return state

    def step(self, model: Model, state: "DecodeState", kind: str) -> None:
        import torch

        state.begin()
        hidden = model(state.tokens, state.now("t")[None])[:, state.prompt_len :]
        L = hidden.shape[1]
        tokens, masked = state.block(L)
        predicted, _ = state.predict(model, hidden, self.temperature, masked)
        assert state.chances is not None
        unmask, remask = state.chances.index_select(0, state.index)[0]
        drawn = state.draws(L)
        tokens = torch.where(masked & (drawn < unmask), predicted, tokens)
        tokens = tokens.masked_fill(~masked & (drawn < remask), state.config.mask_id)
        state.tokens[:, state.prompt_len :] = tokens
        state.next_pass()
