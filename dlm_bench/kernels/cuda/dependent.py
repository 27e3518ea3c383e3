"""Programmatic dependent launch: a kernel begins while the one before it ends (sm_90 and newer).

The next kernel's launch, and the way of its first weights from memory, then cost no time of their
own. In CUDA's terms the launch has the attribute "programmatic stream serialization"; a capture
keeps it as a programmatic edge of the graph (CUDA 12.3 and newer). The rule for such a kernel:

1. Before `wait` a program touches no memory but to `prefetch` it, which changes and decides
   nothing: L2 holds what was written last, whoever writes.
2. Every program waits, one that leaves at once too. `wait` is for the kernel before to have ended,
   and for that alone. The end of a kernel that waits is the end of all before it; so what any
   earlier kernel wrote is there, and what it read may be overwritten: reused buffers and counters.
3. A program calls `release` after `wait`: at most two kernels then share the GPU. When all programs
   have released or ended, the next kernel may begin; what is stored after that, it waits for.

A kernel without `wait` is launched as usual, and begins when all is done.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import triton
import triton.language as tl
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
LINE = tl.constexpr(128)  # bytes that a prefetch brings


_USUAL = {"PDL": False}
_DEPENDENT = {"PDL": True, "launch_pdl": True}
_options = _USUAL


def launch_options() -> dict[str, bool]:
    """Return what a launch adds to its arguments: the kernel's PDL, and the attribute."""
    return _options


@contextmanager
def dependent_launches() -> Iterator[None]:
    """Launch the kernels inside as dependents of those before them."""
    global _options
    before, _options = _options, _DEPENDENT
    try:
        yield
    finally:
        _options = before


def dependent(launcher: Callable[P, R]) -> Callable[P, R]:
    """Return a function that launches its kernels as dependents."""

    @wraps(launcher)
    def launch(*args: P.args, **kwargs: P.kwargs) -> R:
        with dependent_launches():
            return launcher(*args, **kwargs)

    return launch


@triton.jit
def wait(PDL: tl.constexpr):
    """Wait for the kernel before to have ended, and for its writes to be visible."""
    if PDL:
        tl.extra.cuda.gdc_wait()


@triton.jit
def release(PDL: tl.constexpr):
    """Let the next kernel begin, as far as this program is concerned."""
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def prefetch(pointers):
    """Bring the lines of these addresses to the L2 cache, waiting for nothing."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; // dummy $0",
        "=r,l",
        [pointers],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


@triton.jit
def prefetch_rows(rows, COLUMNS: tl.constexpr, WIDTH: tl.constexpr):
    """Prefetch rows of COLUMNS elements of 32 bits by their addresses; WIDTH a power of two."""
    LINES: tl.constexpr = (4 * WIDTH + LINE - 1) // LINE
    column = tl.minimum(tl.arange(0, LINES) * (LINE // 4), COLUMNS - 1)
    prefetch(rows[:, None] + column[None, :])


@triton.jit
def prefetch_share(weight, program, LINES: tl.constexpr, SHARE: tl.constexpr):
    """Prefetch this program's share of every second line of the weights of a product to come.

    Memory would else do nothing while a kernel computes; and the product then reads as much from
    the L2 cache as from memory, at the same time.
    """
    ELEMENTS: tl.constexpr = 2 * LINE * 8 // weight.dtype.element_ty.primitive_bitwidth
    if program * SHARE < LINES:
        line = tl.minimum(program * SHARE + tl.arange(0, SHARE), LINES - 1)
        prefetch(weight + line * ELEMENTS)


def share_of_lines(weight: Tensor, programs: int) -> tuple[int, int]:
    """Return the number of lines that `prefetch_share` brings, and of those a program's share."""
    lines = triton.cdiv(weight.numel() * weight.element_size(), 2 * LINE.value)
    return lines, triton.next_power_of_2(triton.cdiv(lines, programs))
