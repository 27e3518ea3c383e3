"""Programmatic dependent launch: the kernels of a small pass keep its rule, by machine code."""

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

import triton
import triton.language as tl
from support.cases import samplers
from support.hopper import compile_for_hopper, record_launches
from support.traced import traced_model, traced_state

from dlm_bench.kernels.cuda.dependent import (
    dependent_launches,
    launch_options,
    release,
    share_of_lines,
    wait,
)
from dlm_bench.kernels.cuda.lookup import embed_stream, take

SAMPLERS = samplers()


@torch.inference_mode()
def launches_of(backbone, name, size="240m", **kernels):
    """The launches of one pass of each kind from a cache, in the middle of a decode."""
    model = traced_model(backbone, size, **kernels)
    state = traced_state(model, SAMPLERS[name], 4096)
    middle = len(state.passes) // 2
    with record_launches() as launches:
        for kind in {place.kind: place for place in state.passes[middle:]}:
            SAMPLERS[name].step(model, state, kind)
    return launches


@pytest.mark.parametrize("backbone", ["diffumamba", "diffutran", "ar-mamba"])
def test_every_kernel_of_a_small_pass_is_launched_as_a_dependent(backbone):
    name = "ar" if backbone == "ar-mamba" else "separate"
    launches = launches_of(backbone, name, small_pass="triton-pdl")
    assert all(each.options["PDL"] and each.options["launch_pdl"] for each in launches)
    usual = launches_of(backbone, name)
    assert [each.name for each in usual] == [each.name for each in launches]
    assert not any(each.options["PDL"] or "launch_pdl" in each.options for each in usual)


def test_a_pass_over_a_sequence_has_its_usual_launches():
    launches = launches_of("diffumamba", "dual", small_pass="triton-pdl")
    whole = [each for each in launches if each.name in ("_conv_sequence", "_pass_states")]
    assert whole
    assert not any("launch_pdl" in each.options for each in whole)


def test_a_launch_after_an_error_is_the_usual_one():
    tokens, start = torch.zeros(1, 8, dtype=torch.int64, device="meta"), torch.zeros(1)
    with record_launches() as launches:
        with pytest.raises(KeyError), dependent_launches():
            raise KeyError
        take(tokens, start, 4, 7)
    assert launches[0].options["PDL"] is False


def test_the_programs_of_a_scan_share_half_of_the_next_weights():
    weight = torch.empty(1920, 7680, dtype=torch.bfloat16, device="meta")
    lines, share = share_of_lines(weight, 120)
    assert lines * 256 == weight.nbytes  # every second line of 128 bytes
    assert (lines, share) == (115200, 1024)  # a power of two from 960 on
    assert share_of_lines(torch.empty(3, 50, dtype=torch.bfloat16), 240) == (2, 1)


def test_small_kernels_wait_before_they_touch_memory():
    tokens = torch.zeros(1, 64, dtype=torch.int64, device="meta")
    start = torch.zeros(1, dtype=torch.int64, device="meta")
    weight = torch.zeros(100, 64, dtype=torch.bfloat16, device="meta")
    with record_launches() as launches, dependent_launches():
        take(tokens, start, 32, 7)
        embed_stream(tokens, weight)
    assert [each.name for each in launches] == ["_take", "_embed"]
    for launch in launches:
        built = compile_for_hopper(launch)
        assert "griddepcontrol.wait" in built.ptx
        assert "griddepcontrol.launch_dependents" in built.ptx
        assert built.waits_first


@triton.jit
def _copies_early(source, to, PDL: tl.constexpr):
    value = tl.load(source)
    wait(PDL)
    release(PDL)
    tl.store(to, value)


def test_the_check_would_notice_a_load_before_the_wait():
    with record_launches() as launches, dependent_launches():
        _copies_early[(1,)](*torch.zeros(2, 1, device="meta"), **launch_options())
    assert not compile_for_hopper(launches[0]).waits_first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("diffumamba", "separate"),
        ("diffumamba", "fused"),
        ("diffumamba", "dual"),
        ("diffumamba-h", "separate"),
        ("diffutran", "separate"),
        ("diffutran", "fused"),
        ("ar-transformer", "ar"),
        ("ar-mamba", "ar"),
    ],
)
def test_every_kernel_waits_before_it_touches_memory(backbone, name):
    launches = launches_of(backbone, name, "1.3b", small_pass="triton-pdl")
    unique = {each.key: each for each in launches if "launch_pdl" in each.options}
    assert len(unique) >= 6
    for launch in unique.values():
        built = compile_for_hopper(launch)
        assert built.waits_first, launch.name
        assert built.count("PREEXIT"), launch.name  # the next may begin
        assert built.stack <= 32, launch.key
