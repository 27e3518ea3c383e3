"""The CUDA path without a GPU: whole passes of the paper's models traced on the meta device.

A value that the host would have to wait for raises there, as it would break a capture; memory is
what the tensors alive add up to; and every launch of an own kernel is compiled for sm_90.
"""

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from trace import Allocations, traced_model, traced_state

from cases import pairs, samplers
from hopper import SHARED_LIMIT, compile_for_hopper, record_launches

SAMPLERS = samplers()


def first_of_each_role(plan):
    """Index of the first pass of every role, but a prefix's later, shorter ones too."""
    kinds = {}
    for index, place in enumerate(plan):
        kinds.setdefault(place.kind, index)
    found = list(kinds.values())
    return sorted({*found[:3], found[-1]})


@torch.inference_mode()
def trace(model, sampler, length, batch=1):
    """The launches of one pass of each kind."""
    state = traced_state(model, sampler, length, batch)
    with record_launches() as launches:
        for index in first_of_each_role(state.plan):
            sampler.step(model, state, state.plan[index].kind)
    return launches


@pytest.mark.parametrize(("backbone", "name"), pairs())
def test_no_pass_waits_for_the_device(backbone, name):
    # 1000: whole blocks and a shorter last one. Reading a meta tensor on the host raises.
    assert trace(traced_model(backbone), SAMPLERS[name], 1000)


def test_the_trace_would_notice_a_wait():
    model = traced_model("diffutran", cached_attention="torch")  # slices by int(visible)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"[Mm]eta"):
        trace(model, SAMPLERS["separate"], 256)


@pytest.mark.parametrize(("backbone", "most"), [("diffutran", 10), ("diffumamba", 9)])
@torch.inference_mode()
def test_a_block_pass_takes_few_launches(backbone, most):
    """Kernels a layer, both directions of a Mamba mixer included, and two dozen for the rest."""
    model = traced_model(backbone)
    state = traced_state(model, SAMPLERS["separate"], 4096)
    with record_launches(hold=False) as launches, Allocations() as allocations:
        SAMPLERS["separate"].step(model, state, "denoise")
    assert len(launches) + len(allocations.kernels()) <= most * model.config.layers + 24


@torch.inference_mode()
def test_a_full_pass_of_131072_tokens_fits_in_24_gb():
    model = traced_model("diffumamba")
    state = traced_state(model, SAMPLERS["full"], 131072)
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    with record_launches(hold=False), Allocations() as allocations:
        SAMPLERS["full"].step(model, state, "denoise")
    assert held + allocations.peak < 24e9


@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", "1.3b"), ("float32", "240m")])
def test_every_kernel_compiles_for_an_h100(dtype, size):
    unique = {}
    for backbone, name in pairs():
        for launch in trace(traced_model(backbone, size, dtype), SAMPLERS[name], 4096):
            if launch.kernel.fn.__module__.startswith("dlm_bench"):
                unique.setdefault(launch.key, launch)
    names = {launch.name for launch in unique.values()}
    assert len(names) >= 12
    for launch in unique.values():
        built = compile_for_hopper(launch)
        assert built.shared <= SHARED_LIMIT, launch.key
        # A few bytes are ptxas' own; registers that did not fit would take hundreds. Float32 is
        # there to check against, not to be quick: without tensor cores its products do spill.
        assert built.stack <= 32 or dtype == "float32", launch.key
