"""ReMDM (arXiv 2503.00307): T passes over the whole sequence that also mask tokens again.

The time goes from 1 to 0 in T equal steps, and 1 - alpha(t) is the share of masked tokens. In a
pass from t to s, with sigma its chance of masking again,

    an unmasked token is masked with the chance  sigma,
    a masked one is unmasked with the chance  (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t),

each token by itself. With sigma = 0 it is MDLM. NFE = T: the last pass unmasks all that is left.

In `conf` the unmasked tokens share the largest sigma among themselves: token l has the part
exp(-psi_l) / sum_k exp(-psi_k), where psi is the confidence with which it was unmasked.
"""

import dataclasses
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from dlm_bench.errors import ConfigError, check_int, check_number, unknown
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.names import one_of
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape, PlannedPass

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.samplers.state import DecodeState

REMASKS = ("cap", "rescale", "conf", "loop")
LOOP = ("t_on", "t_off", "alpha_on")  # the options of a loop


@dataclasses.dataclass(frozen=True)
class ReMDM(Sampler):
    """A sampler whose plan has the expected numbers of masked tokens.

    tokens_per_step: p, T = ceil(L / p). steps: T, instead of tokens_per_step; 0 for that.
    remask: the rule for sigma, which is at most (1 - alpha_s) / alpha_t. cap: eta; rescale: eta
        times the most; conf: the most, shared by confidence (see the module); loop: eta from t_on
        to t_off, in which alpha stays alpha_on, and 0 outside.
    """

    name: ClassVar[str] = "remdm"
    remasks: ClassVar[bool] = True

    tokens_per_step: int = 8
    steps: int = 0
    remask: str = one_of(REMASKS)
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
        if self.remask == "conf":
            found["eta"] = "with remask 'conf', whose chances follow from the confidences"
        return found

    def options(self) -> dict[str, int | float | str]:
        """Return the options that mean something, by name, defaults included."""
        left_out = {*self.without_meaning()} | (set() if self.steps else {"steps"})
        return {name: value for name, value in super().options().items() if name not in left_out}

    def passes(self, length: int, prompt_len: int = 0) -> Iterator[PlannedPass]:
        L, total = length, prompt_len + length
        # Rounded up, but for the error of the arithmetic: a pass has something to unmask.
        masked = [math.ceil(each - 1e-9) for each in self.masked(L)]
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

    def masked(self, length: int) -> list[float]:
        """The expected number of masked tokens before each pass over `length` tokens, and 0."""
        if self.remask != "conf":
            return [length * (1 - self.alpha(t)) for t in self.times(length)]
        found = [float(length)]
        for unmask, remask in self.chances(length):
            # The shares of the unmasked tokens, if there is one, are 1 together.
            left = found[-1] * (1 - unmask) + remask * min(1.0, length - found[-1])
            found.append(min(left, found[-1]))
        return found

    def chances(self, length: int) -> list[tuple[float, float]]:
        """The chances of each pass to unmask a masked token and to mask an unmasked one, in `conf`
        to mask one of all unmasked ones."""
        found = []
        for t, s in pairwise(self.times(length)):
            now, then = self.alpha(t), self.alpha(s)
            most = min(1.0, (1 - then) / now) if now else 1.0
            sigma = self.eta * most if self.remask == "rescale" else min(self.eta, most)
            if self.remask == "loop" and not self.t_off < t <= self.t_on:
                sigma = 0.0
            of_masked = sigma
            if self.remask == "conf":  # a masked token has no share
                sigma, of_masked = most, 0.0
            found.append(((then - (1 - of_masked) * now) / (1 - now), sigma))
        return found

    def prepare_shape(
        self, model: Model, shape: DecodeShape, seed: int = 0, prompt: "Tensor | None" = None
    ) -> "DecodeState":
        import torch

        state = super().prepare_shape(model, shape, seed, prompt)
        state.chances = torch.tensor(self.chances(shape.length), device=state.index.device)
        if self.remask == "conf":
            state.confidences = torch.zeros(shape.batch, shape.length, device=state.index.device)
        return state

    def step(self, model: Model, state: "DecodeState", kind: str) -> None:
        import torch

        state.begin()
        hidden = model(state.tokens, state.now("t")[None])[:, state.prompt_len :]
        L = hidden.shape[1]
        tokens, masked = state.block(L)
        predicted, confidence = state.predict(model, hidden, self.temperature, masked)
        assert state.chances is not None
        unmask, remask = state.chances.index_select(0, state.index)[0]
        drawn = state.draws(L)
        taken = masked & (drawn < unmask)
        if state.confidences is not None:
            remask = remask * shares(state.confidences, masked)
            state.confidences.copy_(torch.where(taken, confidence, state.confidences))
        tokens = torch.where(taken, predicted, tokens)
        tokens = tokens.masked_fill(~masked & (drawn < remask), state.config.mask_id)
        state.tokens[:, state.prompt_len :] = tokens
        state.next_pass()


def shares(confidences: "Tensor", masked: "Tensor") -> "Tensor":
    """The parts of the unmasked tokens of each row (batch, len) in the chance to be masked again,
    by the confidences with which they were unmasked; 0 of masked tokens."""
    import torch

    weights = torch.exp(-confidences).masked_fill(masked, 0.0)
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)  # exp(-1) at least, or 0
