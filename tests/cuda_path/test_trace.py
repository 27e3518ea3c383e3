"""The CUDA path without a GPU: whole passes of the paper's models traced on the meta device.

A value that the host would have to wait for raises there, as it would break a capture; memory is
what the tensors alive add up to; and every launch of an own kernel is compiled for sm_90.
"""

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from support.cases import pairs, samplers
from support.hopper import SHARED_LIMIT, compile_for_hopper, record_launches
from support.traced import Allocations, traced_model, traced_state

from dlm_bench import build_sampler
from dlm_bench.samplers.acceptance.options import ADAPTIVE
from dlm_bench.samplers.order import ORDERS

SAMPLERS = samplers()
# Models of the field with their blocks, and causal twins: groups of 7, 1, 4, 4 and 6 heads to one
# of keys; biases and a token shift, norms of q and k, YaRN, a tied head.
FIELD = {
    "dream": ("7b", 32),
    "llada": ("8b", 32),
    "sdar": ("4b", 4),
    "nemotron-ld": ("3b", 32),
    "fast-dllm-v2": ("1.5b", 32),
    "qwen2": ("7b", 1),
    "qwen3": ("4b", 1),
}
FIELD_PASSES = [
    *((backbone, name) for backbone in ("dream", "sdar") for name in ("separate", "fused", "dual")),
    *((backbone, "fused") for backbone in ("llada", "nemotron-ld", "fast-dllm-v2")),
    *((backbone, "ar") for backbone in ("qwen2", "qwen3")),
    ("dream", "full"),
]


def first_of_each_role(plan):
    """Index of the first pass of every role, but a prefix's later, shorter ones too."""
    kinds = {}
    for index, place in enumerate(plan):
        kinds.setdefault(place.kind, index)
    found = list(kinds.values())
    return sorted({*found[:3], found[-1]})


@torch.inference_mode()
def trace(model, sampler, length, batch=1, prompt_len=0):
    """The launches of one pass of each kind."""
    state = traced_state(model, sampler, length, batch, prompt_len)
    with record_launches() as launches:
        for index in first_of_each_role(state.passes):
            sampler.step(model, state, state.passes[index].kind)
    return launches


@pytest.mark.parametrize(("backbone", "name"), pairs())
def test_no_pass_waits_for_the_device(backbone, name):
    # 1000: whole blocks and a shorter last one. Reading a meta tensor on the host raises.
    assert trace(traced_model(backbone), SAMPLERS[name], 1000)


@pytest.mark.parametrize("prompt_len", [1, 700])
@pytest.mark.parametrize(("backbone", "name"), pairs("random", "warm ar"))
def test_no_pass_after_a_prompt_waits_for_the_device_either(backbone, name, prompt_len):
    # A batch, because its sequences have noise of their own; the first kind is the prefill.
    assert trace(traced_model(backbone, "240m"), SAMPLERS[name], 300, 3, prompt_len)


@pytest.mark.parametrize("backbone", ["diffutran", "diffumamba", "dream"])
def test_no_pass_in_which_rows_are_at_blocks_of_their_own_waits_for_the_device(backbone):
    size = "7b" if backbone == "dream" else "240m"
    assert trace(
        traced_model(backbone, size), build_sampler("block-cache", batching="fdfo"), 100, 3, 7
    )


@pytest.mark.parametrize(
    "options",
    [
        *({"order": order} for order in ORDERS),
        *({"accept": rule} for rule in ADAPTIVE),
        {"order": "margin", "temperature": 0.8},
    ],
    ids=str,
)
def test_no_order_or_rule_waits_for_the_device(options):
    model = traced_model("diffutran", "240m")
    assert trace(model, build_sampler("block-cache", **options), 100, batch=2)
    # Longer than the kernel that reveals takes.
    assert trace(model, build_sampler("full", **options), 1030)


@pytest.mark.parametrize("backbone", ["diffutran", "diffumamba", "ar-transformer", "ar-mamba"])
@torch.inference_mode()
def test_a_prefill_is_a_pass_over_a_whole_sequence(backbone):
    """Its launches are those of a pass without a cache, and a few to fill one."""
    model = traced_model(backbone)
    sampler = SAMPLERS["ar" if backbone.startswith("ar-") else "separate"]
    state = traced_state(model, sampler, 64, prompt_len=4096)
    t = torch.zeros(1, 1, device="meta") if model.config.denoiser else None
    counts = []
    for step in (
        lambda: model(state.tokens[:, :4096], t),
        lambda: sampler.step(model, state, "prefill"),
    ):
        with record_launches(hold=False) as launches, Allocations() as allocations:
            step()
        counts.append(len(launches) + len(allocations.kernels()))
    # In each layer the position up to which the forward state is kept.
    assert counts[1] <= counts[0] + model.config.layers + 24


def trace_field(backbone, name, length, batch=1, prompt_len=0):
    size, block = FIELD[backbone]
    sampler = samplers(block_size=block, tokens_per_step=1)[name]
    return trace(traced_model(backbone, size), sampler, length, batch, prompt_len)


@pytest.mark.parametrize(("backbone", "name"), FIELD_PASSES)
def test_no_pass_of_the_field_waits_for_the_device(backbone, name):
    assert trace_field(backbone, name, 300)
    assert trace_field(backbone, name, 40, 2, prompt_len=9)


@pytest.mark.parametrize(
    ("backbone", "name", "options"),
    [
        ("dream", "block-cache", {"sub_block_size": 8, "commit": "fused"}),
        ("dream", "block-cache", {"sub_block_size": 8, "first_token": "commit"}),
        ("diffutran", "block-cache", {"sub_block_size": 8, "commit": "none", "tokens_per_step": 4}),
        ("diffutran", "block-cache", {"sub_block_size": 8, "accept": "threshold"}),
        ("diffutran", "full", {"block_size": 32, "steps": 20, "spread": "dream"}),
        ("diffutran", "full", {"steps": 20, "spread": "mdlm", "order": "random"}),
        ("diffutran", "remdm", {}),
        ("diffutran", "remdm", {"remask": "conf"}),
    ],
)
def test_no_pass_of_other_structures_waits_for_the_device(backbone, name, options):
    model = traced_model(backbone, "7b" if backbone == "dream" else "240m")
    assert trace(model, build_sampler(name, **options), 300, 2, prompt_len=9)


def test_the_trace_would_notice_a_wait():
    model = traced_model(
        "diffutran", cached_attention="torch", small_pass="torch"
    )  # slices by int(visible)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"[Mm]eta"):
        trace(model, SAMPLERS["separate"], 256)


@pytest.mark.parametrize(
    ("backbone", "size", "most"),
    [
        ("diffutran", "1.3b", 5),
        ("diffumamba", "1.3b", 5),
        # Two norms, four products, the turn, attention, the gated product; of grouped heads the
        # combination of the splits, too.
        ("llada", "8b", 9),
        ("dream", "7b", 10),
        ("sdar", "4b", 10),
    ],
)
@torch.inference_mode()
def test_a_block_pass_takes_few_launches(backbone, size, most):
    """Kernels a layer, both directions of a Mamba mixer included, and two dozen for the rest."""
    model = traced_model(backbone, size)
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


@pytest.mark.parametrize("backbone", ["diffutran", "ar-transformer"])
@torch.inference_mode()
def test_the_own_attention_keeps_products_in_flight_and_its_registers(backbone):
    """Both sides and causal. ptxas may have every product wait for the one before, and only says so
    if asked: then there is a wait for each."""
    model = traced_model(backbone, attention="triton")
    tokens = torch.zeros(1, 8192, dtype=torch.int64, device="meta")
    t = torch.zeros(1, 1, device="meta") if model.config.denoiser else None
    with record_launches() as launches:
        model(tokens, t)
    found = {launch.key: launch for launch in launches if launch.name == "_attend_whole"}
    (launch,) = found.values()
    built = compile_for_hopper(launch)
    assert built.stack <= 32  # as below
    assert 2 * built.registers * 256 <= 64 * 1024  # two programs of 256 threads an SM
    assert 2 * built.shared <= 227 * 1024
    assert built.count("WARPGROUP", ".DEPBAR") < built.count("HGMMA") / 3


@pytest.mark.parametrize("name", ["full", "dual"])
def test_the_walking_scan_keeps_its_state_in_registers(name):
    """In a pass over a whole sequence, and in a refresh."""
    launches = trace(traced_model("diffumamba", walking_scan="triton"), SAMPLERS[name], 8192)
    assert not any(launch.kernel.fn.__module__.startswith("mamba_ssm") for launch in launches)
    found = {launch.key: launch for launch in launches if launch.name == "_walk"}
    (launch,) = found.values()
    built = compile_for_hopper(launch)
    assert built.stack == 0
    assert built.shared <= SHARED_LIMIT
    assert built.count("WARPGROUP", ".DEPBAR") < built.count("HGMMA") / 3  # as above


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", "1.3b"), ("float32", "240m")])
def test_every_kernel_compiles_for_an_h100(dtype, size):
    unique = {}
    for backbone, name in pairs():
        for launch in trace(traced_model(backbone, size, dtype), SAMPLERS[name], 4096):
            if launch.kernel.fn.__module__.startswith("dlm_bench"):
                unique.setdefault(launch.key, launch)
    for order in ("margin", "entropy"):
        model = traced_model("diffutran", size, dtype)
        for launch in trace(model, build_sampler("full", order=order), 4096):
            if launch.name in ("many_rows", "_combine"):
                unique.setdefault(launch.key, launch)
    for backbone, name in (("diffumamba-h", "warm"), ("ar-mamba", "warm ar")):
        model = traced_model(backbone, size, dtype, small_pass="torch")
        for launch in trace(model, SAMPLERS[name], 300, batch=8, prompt_len=700):
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


@pytest.mark.slow
def test_every_kernel_of_the_field_compiles_for_an_h100():
    unique = {}
    for backbone, name in FIELD_PASSES:
        for launch in trace_field(backbone, name, 8192):
            unique.setdefault(launch.key, launch)
    assert {launch.name for launch in unique.values()} >= {"_rotate_qkv", "_swiglu", "few_rows"}
    for launch in unique.values():
        built = compile_for_hopper(launch)
        assert built.shared <= SHARED_LIMIT, launch.key
        assert built.stack <= 32, launch.key
