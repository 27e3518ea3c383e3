"""The first launch of a Triton kernel on a machine: some seconds, and it needs a C compiler, which
makes the functions that launch."""

import time

import torch
import triton
import triton.language as tl

NUMBERS = 32


@triton.jit
def _double(x, count: tl.constexpr):
    places = tl.arange(0, count)
    tl.store(x + places, 2 * tl.load(x + places))


def first_launch(device: str) -> float:
    """The seconds of a launch, compilation included. Raises what Triton raises, and ArithmeticError
    for wrong numbers."""
    x = torch.arange(NUMBERS, device=device, dtype=torch.float32)
    begin = time.perf_counter()
    _double[(1,)](x, NUMBERS)
    doubled = x.tolist()
    if doubled != [2.0 * each for each in range(NUMBERS)]:
        raise ArithmeticError("numbers that are not doubled")
    return time.perf_counter() - begin
