"""Captures that fail on a real GPU."""

import pytest
import torch

from dlm_bench.timing.capture import CudaCapture


def test_a_step_that_waits_leaves_a_gpu_that_captures_and_draws():
    device = torch.device("cuda", torch.cuda.current_device())
    values = torch.zeros(1024, device=device)
    capture, stream = CudaCapture(device), torch.cuda.current_stream(device)
    values += 1  # loads the kernel
    values.sum().item()
    with pytest.raises(RuntimeError, match="captur"):
        capture(lambda: values.sum().item())
    assert torch.cuda.current_stream(device) == stream
    torch.randn(8, device=device)
    begin = float(values[0])
    replay = capture(lambda: values.add_(1))
    replay()
    assert float(values[0]) == begin + 1


def test_a_rehearsal_sees_that_the_host_waits():
    device = torch.device("cuda", torch.cuda.current_device())
    values = torch.zeros(1024, device=device)
    with pytest.raises(RuntimeError, match="synchronizing"), CudaCapture(device).rehearsal():
        values.nonzero()
    assert torch.cuda.get_sync_debug_mode() == 0
