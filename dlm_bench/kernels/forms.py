"""The plain or Triton form of an operation, by the name of the implementation.

Triton is optional: here, in `attention.choose_attend` and in the models' fused modules are the only
doors to `cuda/`.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

from torch import Tensor

from dlm_bench.kernels.adaln import EPSILON, AddNorm, add_norm
from dlm_bench.kernels.choice import DEPENDENT
from dlm_bench.kernels.lm_head import Predict, predict
from dlm_bench.kernels.lookup import embed
from dlm_bench.kernels.rms_norm import AddRMSNorm, add_rms_norm
from dlm_bench.kernels.swiglu import swiglu

P = ParamSpec("P")
R = TypeVar("R")


class RevealBlock(Protocol):
    """The signature of `kernels.cuda.unmask.reveal_block`."""

    def __call__(
        self,
        tokens: Tensor,
        start: Tensor,
        mask_id: int,
        predicted: Tensor,
        score: Tensor,
        count: Tensor,
    ) -> None: ...


class Fused(NamedTuple):
    """The Triton forms; reveal_block takes blocks of up to `longest` tokens."""

    add_norm: AddNorm
    add_rms_norm: AddRMSNorm
    swiglu: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor, Tensor], Tensor]
    embed_timestep: Callable[..., Tensor]
    take: Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]]
    predict: Predict
    reveal_block: RevealBlock
    longest: int


@cache
def fused() -> Fused:
    """Return the Triton forms."""
    # These need Triton.
    from dlm_bench.kernels.cuda import adaln, lm_head, lookup, rms_norm, swiglu, timestep, unmask

    return Fused(
        add_norm=partial(adaln.add_norm, epsilon=EPSILON),
        add_rms_norm=rms_norm.add_rms_norm,
        swiglu=swiglu.swiglu,
        embed=lookup.embed,
        embed_timestep=timestep.embed_timestep,
        take=lookup.take,
        predict=lm_head.predict_fused,
        reveal_block=unmask.reveal_block,
        longest=unmask.LONGEST,
    )


def choose_add_norm(backend: str) -> AddNorm:
    """Return the form of `adaln.add_norm` named "torch" or "triton"."""
    return add_norm if backend == "torch" else fused().add_norm


def choose_add_rms_norm(backend: str) -> AddRMSNorm:
    """Return the form of `rms_norm.add_rms_norm` named "torch" or "triton"."""
    return add_rms_norm if backend == "torch" else fused().add_rms_norm


def choose_swiglu(backend: str) -> Callable[[Tensor], Tensor]:
    """Return the form of `swiglu.swiglu` named "torch" or "triton"."""
    return swiglu if backend == "torch" else fused().swiglu


def choose_embed(backend: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the form of `lookup.embed` named "torch" or "triton"."""
    return embed if backend == "torch" else fused().embed


def choose_predict(backend: str) -> Predict:
    """Return the form of `lm_head.predict` named "torch" or "triton"."""
    return predict if backend == "torch" else fused().predict


def choose_launch(small_pass: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return what makes a function launch its kernels as an implementation of `small_pass` does:
    each as a dependent of the one before, or as usual."""
    if small_pass != DEPENDENT:
        return lambda launcher: launcher
    from dlm_bench.kernels.cuda.dependent import dependent  # needs Triton

    return dependent
