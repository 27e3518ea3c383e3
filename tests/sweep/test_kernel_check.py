"""Sweeps without the kernels that failed a check of each operation by itself."""

import json

import pytest
import torch
from support.processes import QUICK, quick_plan

from dlm_bench.errors import ConfigError
from dlm_bench.kernels import choice
from dlm_bench.models.config import BACKBONES
from dlm_bench.results.record import Point
from dlm_bench.samplers import build_sampler
from dlm_bench.sweep import load
from dlm_bench.sweep.kernel_check import operations_of, read_faults
from dlm_bench.sweep.kernels import without
from dlm_bench.sweep.run import Executor

CUDA = torch.device("cuda", 0)


def case(status="ok", size="L=16", message="", **kernels):
    return {"status": status, "size": size, "message": message, "kernels": kernels}


@pytest.fixture
def check(tmp_path):
    """Write a file of these cases."""

    def write(*cases, end="\n"):
        path = tmp_path / "kernels.jsonl"
        path.write_text("\n".join(map(json.dumps, cases)) + end)
        return path

    return write


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU and most packages, on which all attention of torch's runs."""
    absent = ("causal_conv1d", "flash_attn.cute")
    monkeypatch.setattr(
        choice.importlib.util, "find_spec", lambda name: None if name in absent else name
    )
    monkeypatch.setattr(choice, "_sdpa_refuses", lambda name, *_: None)
    monkeypatch.setattr(choice.mamba_ssm, "find", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def chosen(path, **asked):
    return without(read_faults(path), CUDA, {(torch.bfloat16, 80, 1)}, asked)


def test_another_kernel_stands_in_for_a_wrong_one_and_the_reason_is_told(check, gpu):
    path = check(case("wrong", attention="cudnn", message="output: error 3e-01, allowed 2e-02"))
    found = chosen(path)
    assert found.kernels == {"attention": "flash"}
    assert found.stand_ins == {
        "attention": "'flash' stands in, as attention 'cudnn' gave wrong numbers at L=16: "
        "output: error 3e-01, allowed 2e-02"
    }
    assert not found.left_out


def test_a_wrong_kernel_that_a_measurement_could_choose_has_a_stand_in(check, gpu):
    path = check(case("wrong", attention="triton", message="output: error 3e-01, allowed 2e-02"))
    assert chosen(path).kernels == {"attention": "cudnn"}
    assert chosen(path, attention="flash").kernels == {"attention": "flash"}


def test_a_kernel_that_is_right_at_one_size_and_raised_at_another_is_not_used(check, gpu):
    path = check(case(elementwise="triton"), case("raised", elementwise="triton", size="L=32"))
    assert chosen(path).kernels == {"elementwise": "torch"}


def test_a_faulty_kernel_that_is_not_chosen_changes_nothing(check, gpu):
    assert chosen(check(case("wrong", attention="efficient"))) == ({}, {}, {})


@pytest.mark.parametrize(
    ("wrong", "stands_in"),
    [(["triton-pdl"], "triton"), (["triton"], "triton-pdl"), (["triton", "triton-pdl"], "torch")],
)
def test_a_faulty_kernel_that_a_measurement_may_choose_is_not_used(check, gpu, wrong, stands_in):
    found = chosen(check(*(case("wrong", small_pass=name) for name in wrong)))
    assert found.kernels == {"small_pass": stands_in}


def test_the_walking_scan_stands_in_for_the_scan_in_chunks(check, gpu):
    wrong = case("wrong", ssd="mamba-ssm", walking_scan="torch", conv="triton", message="boom")
    walking = case(walking_scan="triton", conv="triton")
    found = chosen(check(wrong, walking))
    assert found.kernels == {"ssd": "torch", "walking_scan": "triton"}
    assert found.stand_ins == {
        "ssd": "the walking scan stands in, as ssd 'mamba-ssm' gave wrong numbers at L=16: boom"
    }
    assert not found.left_out
    for both in (
        chosen(check(wrong, {**walking, "status": "wrong"})),
        chosen(check(wrong, walking), walking_scan="torch"),
        chosen(check(wrong, walking), ssd="mamba-ssm"),
    ):
        assert "ssd" in both.left_out


@pytest.mark.parametrize("operation", ["lm_head", "conv", "ssd"])
def test_the_plain_form_of_what_waits_or_of_a_scan_is_no_stand_in(check, gpu, operation):
    name = choice.IMPLEMENTATIONS[operation][0]
    walking = case("wrong", walking_scan="triton")
    found = chosen(check(walking, case("raised", **{operation: name}, message="boom")))
    assert found.kernels == {"walking_scan": "torch"}
    assert found.left_out == {operation: f"{operation} {name!r} raised an error at L=16: boom"}


def test_a_kernel_that_is_insisted_on_has_no_stand_in(check, gpu):
    found = chosen(check(case("wrong", attention="cudnn")), attention="cudnn")
    assert found.kernels == {"attention": "cudnn"}
    assert found.left_out.keys() == {"attention"}


def test_a_case_of_several_kernels_is_put_down_to_those_that_passed_nowhere(check):
    faulty, fine = {"ssd": "mamba-ssm", "conv": "triton"}, {"ssd": "mamba-ssm", "conv": "torch"}
    assert read_faults(check(case("wrong", **faulty), case(**fine))).keys() == {"conv"}
    assert read_faults(check(case("wrong", **faulty))).keys() == {"ssd", "conv"}
    every = [case("wrong", **faulty), case(**fine), case(conv="triton")]
    assert read_faults(check(*every)).keys() == {"ssd", "conv"}


def test_a_case_whose_kernels_all_passed_elsewhere_is_put_down_to_its_own_operation(check):
    """Of DiffuTran's pass, where DiffuMamba's is right."""
    pair = {"small_pass": "triton", "cached_attention": "triton"}
    wrong = case("wrong", size="diffutran", **pair) | {"operation": "small_pass"}
    faults = read_faults(check(case(size="diffumamba", **pair), wrong))
    assert faults.keys() == {"small_pass"}


def test_a_case_that_was_run_again_counts_as_it_ended_last(check):
    raised = case("raised", attention="cudnn", message="boom")
    assert read_faults(check(raised, case(attention="cudnn"))) == {}
    assert read_faults(check(case(attention="cudnn"), raised)).keys() == {"attention"}


def test_a_case_without_enough_memory_says_nothing_of_its_kernel(check):
    message = "OutOfMemoryError: CUDA out of memory. Tried to allocate 9.00 GiB"
    assert read_faults(check(case("raised", lm_head="triton", message=message))) == {}


def test_a_torn_last_line_is_left_out_and_any_other_is_a_mistake(check, tmp_path):
    wrong = case("wrong", attention="cudnn")
    assert read_faults(check(wrong, end='\n{"status"')).keys() == {"attention"}
    for other in ({"operation": "attention"}, case(attention=["cudnn"]), {**wrong, "kernels": 1}):
        with pytest.raises(ConfigError, match="line 1 is not a case of bench"):
            read_faults(check(other, wrong))
    with pytest.raises(ConfigError, match=r"kernel check '.*none': No such file"):
        read_faults(tmp_path / "none")


def point(backbone, sampler, prompt_len=0):
    options = build_sampler(sampler).options()
    return Point(
        backbone=backbone,
        size="tiny",
        sampler=sampler,
        options=options,
        length=32,
        prompt_len=prompt_len,
    )


@pytest.mark.parametrize(
    ("asked", "operations"),
    [
        (("diffutran", "full"), {"attention"}),
        (("diffutran", "block-cache"), {"cached_attention"}),
        (("diffutran", "block-cache", 8), {"cached_attention", "attention"}),
        (("diffumamba", "full"), {"ssd", "conv", "walking_scan"}),
        (("diffumamba", "block-cache"), {"block_scan"}),
        (("diffumamba", "fast-dllm"), {"ssd", "conv", "walking_scan", "block_scan"}),
        (("ar-mamba", "ar"), {"step"}),
        (("ar-transformer", "ar"), {"cached_attention"}),
        (("llada", "full"), {"attention"}),
        (
            ("diffumamba-h", "fast-dllm"),
            {"attention", "cached_attention", "ssd", "conv", "walking_scan", "block_scan"},
        ),
    ],
)
def test_a_point_has_the_operations_of_its_passes(asked, operations):
    assert operations_of(point(*asked)) == operations | {"lm_head", "elementwise", "mlp"}


def test_points_of_other_packages_have_the_operations_that_are_not_their_own():
    assert operations_of(point("hf:llada", "full")) == {"lm_head", "elementwise"}


def test_a_sweep_file_is_read_with_the_choice(check, gpu, tmp_path, monkeypatch):
    path = tmp_path / "s.toml"
    path.write_text(
        'name = "s"\nsize = "tiny"\nlengths = 8\ndtype = "bfloat16"\n'
        "[[lines]]\nbackbone = " + json.dumps([*BACKBONES][:3]) + '\nsampler = "full"\n'
    )
    no_scan = case("raised", ssd="mamba-ssm"), case("raised", walking_scan="triton")
    faults = check(case("wrong", attention="cudnn"), *no_scan)
    on_a_cpu = load.load_sweep(path, kernel_check=faults)
    assert (on_a_cpu.measuring.kernels, on_a_cpu.left_out) == ({}, {})
    monkeypatch.setattr("dlm_bench.sweep.kernels.parse_device", lambda name: CUDA)
    sweep = load.load_sweep(path, kernel_check=faults)
    assert sweep.measuring.kernels == {"attention": "flash", "walking_scan": "torch"}
    assert sweep.left_out.keys() == {"ssd"}


@pytest.mark.process
def test_records_tell_the_stand_in_and_the_reason_of_points_that_are_left_out():
    plan = quick_plan([("diffumamba", 8), ("diffutran", 8)])
    reasons = {"left_out": {"ssd": "ssd raised"}, "stand_ins": {"mlp": "'torch' stands in"}}
    plan = plan.model_copy(update={"sweep": plan.sweep.model_copy(update=reasons)})
    with Executor(QUICK) as executor:
        left_out, measured = (record for _, record, _ in executor.run(plan))
    assert left_out.status == "skipped"
    assert left_out.message == "not tried: in the kernel check ssd raised"
    assert left_out.identity == plan.identities()[0]
    assert measured.status == "ok"
    assert measured.environment["kernel_check"] == "'torch' stands in"
