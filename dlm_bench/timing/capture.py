"""Capture a step in a CUDA graph; a failed capture leaves the GPU as before.

A failure in the middle leaves much behind in torch 2.11: another current stream, a memory pool in
recording, and a random generator in capture. The next draw or capture raises then ("Offset
increment outside graph capture encountered unexpectedly").
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import torch

from dlm_bench.errors import PointError, first_line

Replay = Callable[[], None]
WAITS = "called a synchronizing CUDA operation"  # as torch says in its mode of errors


class Capture(Protocol):
    """A way to capture a step."""

    def rehearsal(self) -> AbstractContextManager[None]:
        """Make each operation inside raise RuntimeError where the host would wait for the device:
        such a step breaks a capture."""

    def __call__(self, step: Replay) -> Replay:
        """Return the replay of a captured step. Raises the first error of step or capture."""


class BrokenCaptureError(PointError):
    """A failed capture with traces left behind: this process measures nothing more."""


class CudaCapture:
    """Captures graphs with a common memory pool: as they replay in turn, the buffers of several
    graphs may overlap.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[None]:
        _set_sync_mode("error")
        try:
            yield
        finally:
            _set_sync_mode("default")

    def __call__(self, step: Replay) -> Replay:
        """Return the replay of a captured step. Raises the first error of step or capture, and
        BrokenCaptureError if the GPU could not be put back afterwards."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        first: list[Exception] = []

        def watched() -> None:
            try:
                step()
            except Exception as error:  # ending the capture raises another error over this one
                first.append(error)
                raise

        try:
            with torch.cuda.graph(graph, pool=self._pool):
                watched()
        except Exception as error:  # whatever cannot be captured raises its own
            cause = first[0] if first else error
            self._heal(stream, cause)
            raise cause from None
        return graph.replay

    def _heal(self, stream: torch.cuda.Stream, cause: Exception) -> None:
        """Put stream, pool, allocator and generator back, and try them."""
        pool, self._pool = self._pool, torch.cuda.graph_pool_handle()
        index = self._device.index or 0
        try:
            torch.cuda.set_stream(stream)
            # Raises where the capture came to its end in spite of the error, and no pool records.
            with contextlib.suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(index, pool)
                torch._C._cuda_releasePool(index, pool)
            # A capture that ends well takes the default generator out of the last one.
            with torch.cuda.graph(torch.cuda.CUDAGraph()):
                torch.zeros(1, device=self._device)
            drawn = torch.cuda.get_rng_state(self._device)
            torch.rand(1, device=self._device)
            torch.cuda.set_rng_state(drawn, self._device)
            torch.cuda.synchronize(self._device)
        except Exception as error:  # whatever is still broken
            raise BrokenCaptureError(
                f"a capture failed ({first_line(cause) or type(cause).__name__}) and the GPU could "
                f"not be put back ({first_line(error) or type(error).__name__}); its worker is "
                "replaced"
            ) from None


def _set_sync_mode(mode: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the mode a prototype
        torch.cuda.set_sync_debug_mode(mode)
