"""The choice of kernels: what is preferred, what is refused, and how that is said."""

import os
import re
import subprocess
import sys

import pytest
import torch

from dlm_bench.errors import ConfigError
from dlm_bench.kernels import choice
from dlm_bench.kernels.choice import IMPLEMENTATIONS, REFERENCE, Kernels, choose_kernels
from dlm_bench.models.factory import build_model

CPU, CUDA, META = torch.device("cpu"), torch.device("cuda", 0), torch.device("meta")


def choose(device, forced=None, dtype=torch.bfloat16):
    return choose_kernels(device, dtype, 80, forced)


@pytest.fixture
def packages(monkeypatch):
    """A machine with a GPU on which only these packages are installed."""
    installed: set[str] = set()
    monkeypatch.setattr(
        choice.importlib.util, "find_spec", lambda name: name if name in installed else None
    )
    monkeypatch.setattr(choice, "_sdpa_refuses", lambda name, *_: None)
    monkeypatch.setattr(choice.mamba_ssm, "find", lambda: None)
    return installed


def test_every_operation_can_run_plainly():
    assert Kernels().named().keys() == IMPLEMENTATIONS.keys()
    assert all("torch" in names for names in IMPLEMENTATIONS.values())


@pytest.mark.parametrize("device", [CPU, META])
def test_without_a_gpu_everything_is_plain(device):
    assert choose(device) == REFERENCE


def test_a_gpu_runs_the_preferred_ones(packages):
    packages |= {"triton", "mamba_ssm", "flash_attn.cute"}
    chosen = choose(CUDA)
    assert chosen.named() == {name: first[0] for name, first in IMPLEMENTATIONS.items()}


def test_what_is_not_installed_is_passed_over(packages):
    chosen = choose(CUDA)
    assert chosen.attention == "cudnn"
    assert (chosen.ssd, chosen.conv, chosen.block_scan) == ("torch", "torch", "torch")


@pytest.mark.parametrize("earlier", [False, True], ids=["alone", "beside flash-attn"])
def test_flash_attn_4_is_told_apart_from_the_flash_attn_whose_folder_it_shares(
    earlier, tmp_path, monkeypatch
):
    (tmp_path / "flash_attn" / "cute").mkdir(parents=True)
    (tmp_path / "flash_attn" / "cute" / "__init__.py").touch()
    if earlier:
        (tmp_path / "flash_attn" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("flash_attn", "flash_attn.cute"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert choice._is_installed("flash_attn.cute")
    assert choice._is_installed("flash_attn") == earlier
    assert not choice._is_installed("flash_attn.other")
    assert not choice._is_installed("no_such_package.cute")
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)


def test_a_package_that_fails_as_it_compiles_is_passed_over_with_the_reason(monkeypatch):
    def refuse(q, k, v):
        raise AssertionError("(head_dim, head_dim_v)=(40, 40) is not supported on SM90")

    monkeypatch.setattr(choice, "choose_attend", lambda name: refuse)
    reason = choice._sdpa_refuses("flash-attn-4", CPU, torch.bfloat16, 40, 1)
    assert reason == (
        "it refuses head_dim 40 in torch.bfloat16: "
        "(head_dim, head_dim_v)=(40, 40) is not supported on SM90"
    )


def test_the_both_directions_scan_needs_its_convolution(packages):
    packages |= {"mamba_ssm"}  # and neither triton nor causal-conv1d
    assert choose(CUDA).ssd == "torch"
    with pytest.raises(ConfigError, match="conv: 'torch' is not allowed with ssd 'mamba-ssm'"):
        choose(CUDA, {"ssd": "mamba-ssm"})
    packages |= {"triton"}
    assert choose(CUDA).walking_scan == "triton"
    plain = {"conv": "torch", "ssd": "torch"}
    assert choose(CUDA, plain).walking_scan == "torch"
    with pytest.raises(ConfigError, match="not allowed with walking_scan 'triton'"):
        choose(CUDA, plain | {"walking_scan": "triton"})


def test_the_next_attention_is_taken_where_one_refuses(packages, monkeypatch):
    monkeypatch.setattr(
        choice, "_sdpa_refuses", lambda name, *_: "no" if name in ("cudnn", "flash") else None
    )
    assert choose(CUDA, dtype=torch.float32).attention == "efficient"


def test_attention_is_tried_with_the_heads_of_the_model(packages, monkeypatch):
    monkeypatch.setattr(
        choice,
        "_sdpa_refuses",
        lambda name, *rest: None if (name, *rest[-2:]) == ("flash", 128, 7) else "no",
    )
    assert choose_kernels(CUDA, torch.bfloat16, 128, group=7).attention == "flash"
    assert choose_kernels(CUDA, torch.bfloat16, 128).attention == "torch"


def test_a_backend_that_takes_no_groups_says_so(monkeypatch):
    def refuse(q, k, v):
        assert (q.shape[1], k.shape[1]) == (7, 1)
        raise RuntimeError("No available kernel")

    monkeypatch.setattr(choice, "choose_attend", lambda name: refuse)
    reason = choice._sdpa_refuses("efficient", CPU, torch.float32, 128, 7)
    assert reason == (
        "it refuses head_dim 128, 7 heads of queries to one of keys, in torch.float32: "
        "No available kernel"
    )


@pytest.mark.parametrize(
    ("device", "forced", "message"),
    [
        (CPU, {"attention": "cudnn"}, "attention: 'cudnn' is not there: it needs a CUDA device"),
        (CPU, {"attention": "fastest"}, "attention: 'fastest' is not known"),
        (CPU, {"attentoin": "cudnn"}, "kernel: 'attentoin' is not known (did you mean"),
        (CUDA, {"attention": "flash-attn"}, "package flash_attn is not installed"),
        (CUDA, {"cached_attention": "flash-attn"}, "package flash_attn is not installed"),
        (CUDA, {"ssd": "mamba-ssm", "conv": "torch"}, "conv: 'torch' is not allowed with ssd"),
    ],
)
def test_what_cannot_be_forced_says_why(device, forced, message, packages):
    packages |= {"triton", "mamba_ssm"}
    with pytest.raises(ConfigError, match=re.escape(message)):
        choose(device, forced)


@pytest.mark.parametrize("wrong", ["attention=cudnn", ["attention"], 5])
def test_what_is_forced_must_be_a_mapping(wrong):
    with pytest.raises(ConfigError, match=r"kernels: .* must map operations to names"):
        build_model("diffutran", "tiny", kernels=wrong)


def test_nothing_is_not_a_name():
    with pytest.raises(ConfigError, match="attention: None is not known"):
        build_model("diffutran", "tiny", kernels={"attention": None})


@pytest.mark.parametrize("operation", ["attention", "cached_attention"])
def test_flash_attn_does_not_take_float32(operation, packages, monkeypatch):
    packages |= {"flash_attn", "triton"}
    refusal = "it refuses head_dim 80 in torch.float32"
    monkeypatch.setattr(choice, "_sdpa_refuses", lambda *_: refusal)
    with pytest.raises(ConfigError, match=r"torch\.float32"):
        choose(CUDA, {operation: "flash-attn"}, torch.float32)


def test_the_interpreter_is_taken_only_when_asked_for(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose(CPU) == REFERENCE
    pytest.importorskip("triton", reason="triton is not installed")
    assert choose(CPU, {"lm_head": "triton"}).lm_head == "triton"


@pytest.mark.parametrize(
    ("capability", "hip", "there"),
    [((9, 0), None, True), ((8, 9), None, False), ((9, 4), "7", False)],
)
def test_dependent_launches_need_a_gpu_that_has_them(capability, hip, there, packages, monkeypatch):
    packages |= {"triton"}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert choose(CUDA).small_pass == "triton"  # until it is measured
    assert choice.launches_dependents(CUDA) is there
    if there:
        assert choose(CUDA, {"small_pass": "triton-pdl"}).small_pass == "triton-pdl"
    else:
        with pytest.raises(ConfigError, match="of compute capability"):
            choose(CUDA, {"small_pass": "triton-pdl"})


def test_the_interpreter_has_no_dependent_launches(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(ConfigError, match="it needs a CUDA device"):
        choose(CPU, {"small_pass": "triton-pdl"})


def test_a_forced_one_is_taken(packages):
    packages |= {"triton", "mamba_ssm", "flash_attn"}
    assert choose(CUDA, {"attention": "flash", "lm_head": "torch"}).attention == "flash"
    assert choose(CUDA, {"lm_head": "torch"}).lm_head == "torch"


def test_a_package_that_is_there_but_broken_is_passed_over(packages, monkeypatch):
    def find():
        raise ImportError("mamba-ssm is installed but cannot be imported: No module named 'einops'")

    packages |= {"triton", "mamba_ssm"}
    monkeypatch.setattr(choice.mamba_ssm, "find", find)
    assert choose(CUDA).ssd == "torch"
    with pytest.raises(ConfigError, match=r"ssd: 'mamba-ssm' is not there: .* 'einops'"):
        choose(CUDA, {"ssd": "mamba-ssm"})


def test_a_model_keeps_its_kernels():
    assert build_model("diffumamba", "tiny").kernels == REFERENCE
    with pytest.raises(ConfigError, match="lm_head: 'triton' is not there"):
        build_model("diffumamba", "tiny", kernels={"lm_head": "triton"})


@pytest.mark.process
def test_the_command_line_forces_kernels():
    command = [sys.executable, "-m", "dlm_bench", "env", "--attention", "cudnn"]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "dlm-bench: attention: 'cudnn' is not there: it needs a CUDA device, and the model is on "
        "cpu\n"
    )
