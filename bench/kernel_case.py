"""A case of kernel_floors.py: an operation's implementation at one size, and its checks."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dlm_bench.errors import ConfigError
from dlm_bench.kernels.choice import IMPLEMENTATIONS, choose_kernels
from dlm_bench.models.config import ModelConfig

BATCH = 20  # calls that are timed together: a graph takes longer to start than a small kernel
ROTATED_BYTES = 128 << 20  # of a case's operands: more than an H100's L2 cache of 50 MB holds
# Relative, of one operation: in bfloat16 of rounded inputs and outputs, in float32 of the sums.
LARGEST_ERROR = {torch.bfloat16: 2e-2, torch.float32: 1e-4}

Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Check:
    """A comparison of a result with its reference.

    absolute: by the largest difference of an element, not by norms.
    scale: times the bound of the dtype.
    """

    got: Run
    expected: Run
    absolute: bool = False
    scale: float = 1.0

    def error(self, reference: Tensor) -> float:
        """The error against what was expected; infinite if the result holds a NaN or an
        infinity."""
        got, expected = self.got().double(), reference.double()
        difference = got - expected
        if not difference.isfinite().all():
            return math.inf
        if self.absolute:
            return difference.abs().max().item() if difference.numel() else 0.0
        return (difference.norm() / expected.norm()).item()


@dataclass(frozen=True)
class Case:
    """An implementation of an operation at one size.

    kernels: operation to implementation, as `choose_kernels` names them, of all that runs.
    runs: the same work on one set of operands after the other, timed in turn.
    checks: by name.
    flops, bytes: of a run; each operand's bytes once.
    capturable: False if the work waits for the host. A capture of it is never tried: the attempt
        would break the generator of torch 2.11 for the rest of the process.
    """

    operation: str
    implementation: str
    size: str
    kernels: dict[str, str]
    runs: tuple[Run, ...]
    checks: dict[str, Check]
    flops: float
    bytes: float
    capturable: bool = True


@dataclass(frozen=True)
class Bench:
    """The device, dtype and sizes to measure with."""

    device: torch.device
    dtype: torch.dtype
    config: ModelConfig
    sequence: int
    contexts: tuple[int, ...]
    told: set[tuple[str, str]] = field(default_factory=set)  # what is not here, said once

    def randn(self, *shape: int) -> Tensor:
        """Normal numbers in the dtype."""
        return torch.randn(shape, device=self.device).to(self.dtype)

    def copies(self, size: float) -> int:
        """The number of operands of `size` bytes to rotate through, so that none is found in the
        cache of the GPU."""
        return min(BATCH, max(1, math.ceil(ROTATED_BYTES / size)))

    def implementations(
        self, operation: str, *, plain: bool = False, **others: str
    ) -> Iterator[str]:
        """The implementations of an operation that are here, beside these of others."""
        for name in IMPLEMENTATIONS[operation]:
            try:
                forced = {operation: name} | others
                choose_kernels(self.device, self.dtype, self.config.head_dim, forced)
            except ConfigError as error:
                if (operation, name) not in self.told:
                    warnings.warn(f"not here: {error}", stacklevel=2)
                self.told.add((operation, name))
                continue
            if name != "torch" or plain:
                yield name
