"""What torch 2.11 takes: the parameters of all that the GPU path calls.

Written down from the Python files and stubs of the wheel torch-2.11.0-cp312-cp312-macosx_11_0_arm64
of PyPI, whose sources are those of every platform: torch/cuda/__init__.py, graphs.py, memory.py,
random.py and streams.py, torch/nn/attention/__init__.py and varlen.py, torch/backends/cpu,
cudnn and mkl, torch/_C/__init__.pyi and _VariableFunctions.pyi.
"""

import inspect

PARAMETERS = {
    "torch._C._cuda_endAllocateToPool": "device, mempool_id",
    "torch._C._cuda_releasePool": "device, mempool_id",
    "torch._addmm_activation": ("input, mat1, mat2, *, beta=1, alpha=1, use_gelu=False, out=None"),
    "torch.backends.cpu.get_cpu_capability": "",
    "torch.backends.cudnn.version": "",
    "torch.backends.mkl.is_available": "",
    "torch.cuda.CUDAGraph": "keep_graph=False",
    "torch.cuda.CUDAGraph.replay": "self",
    "torch.cuda.Event": "enable_timing=False, blocking=False, interprocess=False, external=False",
    "torch.cuda.Event.elapsed_time": "self, end_event",
    "torch.cuda.Event.record": "self, stream=None",
    "torch.cuda._sleep": "cycles",
    "torch.cuda.current_stream": "device=None",
    "torch.cuda.device_count": "",
    "torch.cuda.empty_cache": "",
    "torch.cuda.get_device_capability": "device=None",
    "torch.cuda.get_device_name": "device=None",
    "torch.cuda.get_device_properties": "device=None",
    "torch.cuda.get_rng_state": "device='cuda'",
    "torch.cuda.graph": "cuda_graph, pool=None, stream=None, capture_error_mode='global'",
    "torch.cuda.graph_pool_handle": "",
    "torch.cuda.is_available": "",
    "torch.cuda.max_memory_allocated": "device=None",
    "torch.cuda.nvtx.range_pop": "",
    "torch.cuda.nvtx.range_push": "msg",
    "torch.cuda.profiler.start": "",
    "torch.cuda.profiler.stop": "",
    "torch.cuda.reset_peak_memory_stats": "device=None",
    "torch.cuda.set_device": "device",
    "torch.cuda.set_rng_state": "new_state, device='cuda'",
    "torch.cuda.set_stream": "stream",
    "torch.cuda.set_sync_debug_mode": "debug_mode",
    "torch.cuda.synchronize": "device=None",
    "torch.nn.attention.sdpa_kernel": "backends, set_priority=False",
    "torch.nn.attention.varlen.varlen_attn": (
        "query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, "
        "return_aux=None, scale=None, window_size=(-1, -1)"
    ),
}
NAMES = {"torch.cuda.Stream", "torch.nn.attention.SDPBackend"}  # classes that are not called


def signature_211(name):
    """The signature that a function or class has in torch 2.11."""
    made = {}
    exec(f"def stated({PARAMETERS[name]}): ...", made)
    return inspect.signature(made["stated"])
