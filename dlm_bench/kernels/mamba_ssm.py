"""The chunked scan and the single-token update of Mamba-2 by mamba-ssm's Triton kernels.

mamba-ssm (Dao & Gu, arXiv 2405.21060) is optional and imported at the first call. Both directions
of a mixer go in a single scan, as two groups of heads; everything is in scan order.
"""

import contextlib
import functools
import importlib
import importlib.util
import math
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dlm_bench.errors import ConfigError
from dlm_bench.kernels.conv import Steps

CHUNK = 256  # as in mamba-ssm: products inside a chunk weigh as much as the bytes of the states
TUNED_TOKENS = 16384  # its kernels are tuned once, whatever the length, so on a long sequence
ADDRESSABLE = 1 << 31  # elements: mamba-ssm's kernels count them in int32


class PassStates(Protocol):
    """The members of `kernels.cuda.pass_states.Kept`."""

    def of(self, part: slice) -> "PassStates": ...

    def __call__(
        self, added: Tensor, decay: Tensor, dt: Tensor, x: Tensor, B: Tensor
    ) -> Tensor: ...


class ScanResult(NamedTuple):
    """The result of a scan, in scan order and the heads of direction 0 first.

    y: (batch, length, heads, headdim), D x added.
    final_state: (batch, heads, headdim, d_state) float32; None with `keep`.
    """

    y: Tensor
    final_state: Tensor | None


@functools.cache
def find() -> None:
    """Make mamba-ssm's Triton modules importable, with or without the compiled part.

    Raises ImportError with the missing part.
    """
    spec = importlib.util.find_spec("mamba_ssm")
    if spec is None:
        raise ImportError("mamba-ssm is not installed")
    try:
        importlib.import_module("mamba_ssm")
    except Exception:  # its models import much else, and what fails there is of no interest here
        # The package's __init__ wants the CUDA extension; an empty package in its place does not.
        _forget()
        sys.modules["mamba_ssm"] = importlib.util.module_from_spec(spec)
    try:
        importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
        importlib.import_module("mamba_ssm.ops.triton.selective_state_update")
    except Exception as error:
        _forget()
        raise ImportError(f"mamba-ssm is installed but cannot be imported: {error}") from error


def _forget() -> None:
    """Leave no half-imported module behind."""
    for name in list(sys.modules):
        if name == "mamba_ssm" or name.startswith("mamba_ssm."):
            del sys.modules[name]


def scan(
    x: Tensor,
    steps: Steps,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial_states: Tensor | None = None,
    keep: PassStates | None = None,
) -> ScanResult:
    """Mamba-2's scan over all tokens, from zeros or from `initial_states`.

    x (batch, length, heads, headdim), B and C (batch, length, directions, d_state), with any
    strides but 1 along the last dimension; D (heads,) float32; initial_states (batch, heads,
    headdim, d_state). The heads are those of all directions, a group each. `keep`: passes the
    states of a whole batch on instead of mamba-ssm, from zeros, and keeps some.

    Raises ConfigError for a sequence beyond mamba-ssm's addresses.
    """
    find()
    chunk = steps.dt.shape[3]
    if x.device.type == "cuda" and x.shape[1] < TUNED_TOKENS:
        shape = B.shape[2], *x.shape[2:], B.shape[3]
        _tune(x.device, x.dtype, *shape, chunk, keep is not None, initial_states is not None)
    rows = _addressable_rows(x, B, C, chunk)
    batch = x.shape[0]
    if rows >= batch:
        return _scan(x, steps, B, C, D, initial_states, keep)
    # So many sequences at a time; joining them costs little next to a scan of 2**31 elements.
    parts = []
    for low in range(0, batch, rows):
        part = slice(low, low + rows)
        state = None if initial_states is None else initial_states[part]
        own = Steps(steps.dt[part], steps.decay[part])
        kept = None if keep is None else keep.of(part)
        parts.append(_scan(x[part], own, B[part], C[part], D, state, kept))
    states = [each.final_state for each in parts if each.final_state is not None]
    return ScanResult(torch.cat([each.y for each in parts]), torch.cat(states) if states else None)


@functools.cache
def _tune(
    device: torch.device,
    dtype: torch.dtype,
    groups: int,
    heads: int,
    headdim: int,
    d_state: int,
    chunk: int,
    kept: bool,
    continued: bool,
) -> None:
    """Scan random numbers, as many as in a long sequence, to tune for all long sequences."""
    shapes = ((heads, headdim), (groups, d_state), (groups, d_state))
    x, B, C = (torch.randn(1, TUNED_TOKENS, *s, device=device, dtype=dtype) for s in shapes)
    D = torch.randn(heads, device=device)
    dt = torch.rand(1, heads, TUNED_TOKENS // chunk, chunk, device=device)
    state = torch.randn(1, heads, headdim, d_state, device=device) if continued else None

    _scan(x, Steps(dt, -dt.cumsum(-1)), B, C, D, state, _Passed() if kept else None)


class _Passed:
    """States that are not passed on, where numbers do not matter."""

    def of(self, part: slice) -> "_Passed":
        return self

    def __call__(self, added: Tensor, decay: Tensor, dt: Tensor, x: Tensor, B: Tensor) -> Tensor:
        return added.to(B.dtype)


def _addressable_rows(x: Tensor, B: Tensor, C: Tensor, chunk: int) -> int:
    """Return the number of sequences for a call without overflow of the offsets."""
    batch, length, heads, headdim = x.shape
    groups, d_state = B.shape[2:]
    chunks = -(-length // chunk)
    # Elements from one sequence to the next.
    spans = {
        name: tensor.stride(0) if batch > 1 else length * tensor.stride(1)
        for name, tensor in (("x", x), ("B", B), ("C", C))
    }
    spans["y"] = length * heads * headdim
    spans["the states"] = chunks * heads * headdim * d_state
    spans["C B^T"] = chunks * groups * chunk * chunk  # few enough chunks for a launch's grid, too
    name, span = max(spans.items(), key=lambda item: item[1])
    if span > ADDRESSABLE:
        raise ConfigError(
            f"length: {length} is not allowed with ssd 'mamba-ssm', whose kernels cannot address "
            f"the {span} elements of {name}, only {ADDRESSABLE}; ssd 'torch' has no such limit"
        )
    return ADDRESSABLE // span


def _scan(
    x: Tensor,
    steps: Steps,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial_states: Tensor | None,
    keep: PassStates | None,
) -> ScanResult:
    """The steps of mamba-ssm's _mamba_chunk_scan_combined_fwd, nothing kept longer than needed.

    C B^T has the dtype of x: in bfloat16 two programs of the scan fit on a processor instead of
    one. So have the states of chunks where none is kept.
    """
    from mamba_ssm.ops.triton.ssd_bmm import _bmm_chunk_fwd
    from mamba_ssm.ops.triton.ssd_chunk_scan import _chunk_scan_fwd
    from mamba_ssm.ops.triton.ssd_chunk_state import _chunk_state_fwd
    from mamba_ssm.ops.triton.ssd_state_passing import _state_passing_fwd

    inner = (x.shape[-1], B.shape[-1])  # headdim, d_state
    chunk, (dt, decay) = steps.dt.shape[3], steps
    final: Tensor | None = None
    with _exact(x.dtype):
        exact = keep is not None or initial_states is not None
        added = _chunk_state_fwd(B, x, dt, decay, states_in_fp32=exact)
        if keep is not None:
            states = keep(added, decay, dt, x, B)
        else:
            states, final = _state_passing_fwd(
                added.flatten(3),
                decay[..., -1],
                initial_states=None if initial_states is None else initial_states.flatten(2),
                out_dtype=C.dtype,
            )
            states, final = states.unflatten(-1, inner), final.unflatten(-1, inner)
        del added
        scores = _bmm_chunk_fwd(C, B, chunk, output_dtype=x.dtype)
        y, _ = _chunk_scan_fwd(scores, x, dt, decay, C, states, D=D)
    return ScanResult(y, final)


@contextlib.contextmanager
def _exact(dtype: torch.dtype) -> Iterator[None]:
    """Products of float32 in float32: mamba-ssm leaves them to Triton's default, TF32.

    Without tensor cores the tiles to try take minutes to compile, and spill; the smallest does for
    comparisons, the purpose of float32.
    """
    if dtype != torch.float32:
        yield
        return
    from triton import knobs

    kernels = _tuned_kernels()
    before = [kernel.configs for kernel in kernels]
    try:
        for kernel in kernels:
            kernel.configs = [min(kernel.configs, key=lambda c: math.prod(c.kwargs.values()))]
        with knobs.language.scope():
            knobs.language.fp32_default = "ieee"
            yield
    finally:
        for kernel, configs in zip(kernels, before, strict=True):
            kernel.configs = configs


def _tuned_kernels() -> list[Any]:
    """The autotuned kernels of a scan that multiply matrices."""
    from mamba_ssm.ops.triton import ssd_bmm, ssd_chunk_scan, ssd_chunk_state

    return [
        ssd_bmm._bmm_chunk_fwd_kernel,
        ssd_chunk_scan._chunk_scan_fwd_kernel,
        ssd_chunk_state._chunk_state_fwd_kernel,
    ]


def step(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
) -> Tensor:
    """Take a token of a direction; `state` moves on in place.

    state (batch, heads, headdim, d_state) float32; x (batch, heads, headdim), dt (batch, heads)
    before bias and softplus, B and C (batch, d_state); A (negative), D and dt_bias (heads,)
    float32. Returns y like x, D x added.
    """
    find()
    from mamba_ssm.ops.triton.selective_state_update import selective_state_update

    headdim, d_state = state.shape[2:]
    # Strides of 0 tell the kernel that a head has one dt and one A.
    return selective_state_update(
        state,
        x,
        dt[..., None].expand(-1, -1, headdim),
        A[:, None, None].expand(-1, headdim, d_state),
        B,
        C,
        D=D[:, None].expand(-1, headdim),
        dt_bias=dt_bias[:, None].expand(-1, headdim),
        dt_softplus=True,
    )
