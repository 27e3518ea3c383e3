"""A stand-in for torch's CUDA runtime: streams, captures, pools, the default generator, events.

It fails as torch 2.11 does (aten/src/ATen/cuda/CUDAGraph.cpp and CUDAGeneratorImpl.cpp of v2.11.0):
a capture that ends with an error leaves its stream current, its pool in recording and the generator
in capture. Time passes by `launch` on the device and by `work` on the host.
"""

import warnings
from types import SimpleNamespace

import torch


class FakeCuda:
    """Takes the place of what dlm_bench uses of torch.cuda.

    dead: from the first broken capture on nothing works, as after a fault of the GPU.
    """

    def __init__(self, patch, *, dead=False):
        self.stream, self.capturing, self.broken = "main", False, False
        self.mortal, self.dead = dead, False
        self.generator_captures, self.recording, self.pools = False, set(), {}
        self.debug = "default"
        self.host, self.free_at, self.busy = 0.0, 0.0, 0.0  # seconds
        self.captures, self.draws, self.handles = 0, 0, 0
        cuda = {
            "CUDAGraph": lambda: _Graph(self),
            "graph": lambda graph, pool=None: _Capture(self, graph, pool),
            "graph_pool_handle": self._new_pool,
            "current_stream": lambda device=None: self.stream,
            "set_stream": lambda stream: setattr(self, "stream", stream),
            "set_sync_debug_mode": self._set_debug_mode,
            "get_rng_state": lambda device=None: self.draws,
            "set_rng_state": lambda state, device=None: setattr(self, "draws", state),
            "synchronize": self.synchronize,
            "_sleep": lambda cycles: self.launch(cycles / 2e9),
            "Event": lambda enable_timing=False: _Event(self),
        }
        for name, value in cuda.items():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(torch._C, "_cuda_endAllocateToPool", self._end_pool, raising=False)
        patch.setattr(torch._C, "_cuda_releasePool", self._release_pool, raising=False)
        rand = torch.rand
        patch.setattr(torch, "rand", lambda *shape, **place: self.draw() or rand(*shape, **place))
        clock = SimpleNamespace(
            perf_counter=lambda: self.host, perf_counter_ns=lambda: int(1e9 * self.host)
        )
        for module in ("clocks", "sampled", "unit_timer"):
            patch.setattr(f"dlm_bench.timing.{module}.time", clock)

    def work(self, seconds):
        """Let the host compute."""
        self.host += seconds

    def launch(self, seconds):
        """Queue a kernel."""
        if not self.capturing:
            self.free_at = max(self.free_at, self.host) + seconds
            self.busy += seconds

    def read(self):
        """Have the host wait for a value of the device."""
        if self.debug == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        if self.capturing:
            self.broken = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self.synchronize()

    def draw(self):
        """Draw of the default generator."""
        if self.generator_captures and not self.capturing:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")
        self.draws += 1

    def synchronize(self, device=None):
        if self.dead:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        self.host = max(self.host, self.free_at)

    def _set_debug_mode(self, mode):
        warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=2)
        self.debug = mode

    def _new_pool(self):
        self.handles += 1
        return (0, self.handles)

    def _end_pool(self, device, pool):
        if pool not in self.recording:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.recording.remove(pool)

    def _release_pool(self, device, pool):
        self.pools[pool] -= 1


class _Graph:
    def __init__(self, cuda):
        self.cuda, self.seconds = cuda, 0.0

    def replay(self):
        self.cuda.launch(self.seconds)


class _Capture:
    def __init__(self, cuda, graph, pool):
        self.cuda, self.graph = cuda, graph
        self.pool = pool or (cuda.captures + 1, 0)

    def __enter__(self):
        cuda = self.cuda
        self.before, cuda.stream = cuda.stream, "side"
        cuda.synchronize()
        if self.pool in cuda.recording:
            raise RuntimeError(f"beginAllocateToPool: already recording to mempool_id {self.pool}")
        cuda.recording.add(self.pool)
        cuda.pools[self.pool] = cuda.pools.get(self.pool, 0) + 1
        cuda.captures += 1
        cuda.capturing = cuda.generator_captures = True

    def __exit__(self, *error):
        cuda = self.cuda
        cuda.capturing = False
        if cuda.broken:
            cuda.broken, cuda.dead = False, cuda.mortal
            raise RuntimeError(
                "CUDA error: operation failed due to a previous error during capture"
            )
        cuda.recording.remove(self.pool)
        cuda.generator_captures = False
        cuda.stream = self.before


class _Event:
    def __init__(self, cuda):
        self.cuda, self.at = cuda, None

    def record(self):
        self.at = max(self.cuda.free_at, self.cuda.host)

    def elapsed_time(self, later):
        return 1e3 * (later.at - self.at)
