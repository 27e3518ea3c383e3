"""Captures that fail, by a stand-in for CUDA that breaks as torch 2.11 does."""

import contextlib

import pytest
import torch
from support.fake_cuda import FakeCuda

from dlm_bench.errors import ConfigError
from dlm_bench.models.factory import build_model
from dlm_bench.samplers import build_sampler
from dlm_bench.timing import graphs
from dlm_bench.timing.capture import BrokenCaptureError, CudaCapture
from dlm_bench.timing.graphs import WARMUP_STEPS, Steps

pytestmark = pytest.mark.filterwarnings("error")  # of torch's own about the mode of a rehearsal
DEVICE = torch.device("cpu")  # its tensors are real; all that is CUDA's is the stand-in's


@pytest.fixture
def cuda(monkeypatch):
    return FakeCuda(monkeypatch)


def failing(error):
    def step():
        raise error

    return step


def test_the_stand_in_breaks_as_torch_does_if_nothing_heals(cuda):
    pool = torch.cuda.graph_pool_handle()
    with (
        pytest.raises(RuntimeError, match="previous error during capture"),
        torch.cuda.graph(torch.cuda.CUDAGraph(), pool=pool),
    ):
        cuda.read()
    assert cuda.stream == "side"
    with pytest.raises(RuntimeError, match="Offset increment outside graph capture"):
        torch.rand(1)
    with (
        pytest.raises(RuntimeError, match="already recording"),
        torch.cuda.graph(torch.cuda.CUDAGraph(), pool=pool),
    ):
        pass


@pytest.mark.parametrize("breaks", [True, False], ids=["the capture breaks", "the step alone"])
def test_a_failed_capture_leaves_stream_pool_generator_and_allocator_as_before(cuda, breaks):
    capture = CudaCapture(DEVICE)
    capture(lambda: None)
    kept = dict(cuda.pools)
    torch.rand(1)
    drawn = cuda.draws
    with pytest.raises(RuntimeError):
        capture(cuda.read if breaks else failing(RuntimeError("no")))
    assert cuda.stream == "main"
    assert not cuda.recording
    assert not cuda.generator_captures
    assert cuda.draws == drawn
    if breaks:  # the failed graph's share of the pool is given back; else torch does that
        assert {pool: cuda.pools[pool] for pool in kept} == kept
    torch.rand(1)
    capture(lambda: None)()


def test_the_error_is_the_first_one(cuda):
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        CudaCapture(DEVICE)(cuda.read)
    with pytest.raises(ValueError, match="an error of the step's own"):
        CudaCapture(DEVICE)(failing(ValueError("an error of the step's own")))


def test_a_gpu_that_cannot_be_put_back_ends_the_worker_and_says_both_reasons(monkeypatch):
    cuda = FakeCuda(monkeypatch, dead=True)
    both = r"not permitted when stream.*illegal memory access.*its worker is replaced"
    with pytest.raises(BrokenCaptureError, match=both):
        CudaCapture(DEVICE)(cuda.read)


def test_a_pool_that_goes_on_recording_is_not_used_again(cuda, monkeypatch):
    def refuse(device, pool):
        raise RuntimeError("endAllocatePool: not currently recording to mempool_id")

    capture = CudaCapture(DEVICE)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", refuse)
    with pytest.raises(RuntimeError, match="not permitted"):
        capture(cuda.read)
    capture(lambda: None)()


class Decode:
    """A decode on a stand-in for CUDA, each pass of which does `acts[kind](number)`, with its
    number among those of its kind."""

    def __init__(self, monkeypatch, cuda, acts, name="fast-dllm", asked="auto"):
        self.sampler = build_sampler(name)
        model = build_model("diffutran", "tiny", layers=1)
        self.state = self.sampler.prepare(model, 64)
        self.calls = dict.fromkeys(acts, 0)

        def step(sampler, model, state, kind):
            number, self.calls[kind] = self.calls[kind], self.calls[kind] + 1
            acts[kind](number)

        monkeypatch.setattr(type(self.sampler), "step", step)
        # The tensors are a CPU's, the clock is the stand-in's.
        timed = graphs.timed
        monkeypatch.setattr(graphs, "timed", lambda works, _: timed(works, torch.device("cuda")))
        self.steps = Steps(model, self.sampler, self.state, asked, CudaCapture(DEVICE))

    def prepared(self):
        self.steps.prepare(step.kind for step in self.state.passes)
        return self.steps


def unseen(cuda):
    """A wait for the host that a rehearsal does not see."""

    def act(number):
        if cuda.capturing:
            cuda.read()

    return act


def test_the_second_kind_is_captured_after_the_first_one_failed(monkeypatch, cuda):
    acts = {"refresh": unseen(cuda), "denoise": lambda number: None}
    steps = Decode(monkeypatch, cuda, acts).prepared()
    assert steps.report() == {
        "refresh": "eager: CUDA error: operation not permitted when stream is capturing",
        "denoise": "captured",
    }
    assert cuda.stream == "main"


def test_each_failed_kind_has_a_reason_of_its_own(monkeypatch, cuda):
    def other(number):
        if cuda.capturing:
            cuda.broken = True
            raise ValueError("the other one")

    steps = Decode(monkeypatch, cuda, {"refresh": unseen(cuda), "denoise": other}).prepared()
    assert steps.report()["denoise"] == "eager: the other one"


def test_a_pass_in_which_the_host_waits_is_never_captured(monkeypatch, cuda):
    acts = {"refresh": lambda number: cuda.read(), "denoise": lambda number: None}
    decode = Decode(monkeypatch, cuda, acts)
    report = decode.prepared().report()
    assert report["refresh"] == (
        "eager: the host waits for the device in it (called a synchronizing CUDA operation)"
    )
    assert report["denoise"] == "captured"
    assert decode.calls["refresh"] == WARMUP_STEPS
    assert cuda.captures == 1
    assert cuda.debug == "default"


def test_an_error_in_a_warm_up_that_is_no_wait_is_the_points(monkeypatch, cuda):
    def act(number):
        if number == WARMUP_STEPS - 1:
            raise RuntimeError("an illegal instruction")

    with pytest.raises(RuntimeError, match="an illegal instruction"):
        Decode(monkeypatch, cuda, {"denoise": act}, "full").prepared()
    assert cuda.debug == "default"


def test_required_graphs_tell_the_first_error_and_leave_the_gpu_in_order(monkeypatch, cuda):
    decode = Decode(monkeypatch, cuda, {"denoise": unseen(cuda)}, "full", "require")
    with pytest.raises(ConfigError, match="not permitted when stream is capturing"):
        decode.prepared()
    torch.rand(1)


def test_a_gpu_that_cannot_be_put_back_is_the_points_outcome(monkeypatch):
    cuda = FakeCuda(monkeypatch, dead=True)
    with pytest.raises(BrokenCaptureError, match="its worker is replaced"):
        Decode(monkeypatch, cuda, {"denoise": unseen(cuda)}, "full").prepared()


def test_running_out_of_memory_in_a_capture_is_the_points_outcome(monkeypatch, cuda):
    def act(number):
        if cuda.capturing:
            cuda.broken = True
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        Decode(monkeypatch, cuda, {"denoise": act}, "full").prepared()


def test_an_error_that_is_being_handled_is_not_taken_for_the_reason(monkeypatch, cuda):
    decode = Decode(monkeypatch, cuda, {"denoise": unseen(cuda)}, "full")
    with contextlib.suppress(torch.OutOfMemoryError):
        try:
            raise torch.OutOfMemoryError("long ago")
        finally:
            decode.prepared()
    assert "not permitted" in decode.steps.report()["denoise"]


@pytest.mark.parametrize(
    ("compiling", "running", "passes"),
    [(0.1, 8.0, 1), (30.0, 0.01, WARMUP_STEPS), (30.0, 8.0, 1), (0.0, 0.4, WARMUP_STEPS)],
)
def test_a_pass_is_long_by_the_time_of_the_device_and_not_of_a_host_that_compiles(
    monkeypatch, cuda, compiling, running, passes
):
    def act(number):
        if number == 0:
            cuda.work(compiling)
        cuda.launch(running)

    decode = Decode(monkeypatch, cuda, {"denoise": act}, "full")
    steps = decode.prepared()
    assert decode.calls["denoise"] == passes + 1, "with the one that is captured"
    assert steps.warm == ({"denoise"} if passes == 1 else set())
