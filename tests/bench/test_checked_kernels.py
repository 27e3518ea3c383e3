"""The scripts that time whole passes on a GPU use no kernel that was found wrong, and go on after a
pass that raises."""

import weakref
from argparse import Namespace

import checked_kernels
import pass_profile
import pytest
import sampled_on_gpu
import torch
from rows import append

from dlm_bench.errors import ConfigError
from dlm_bench.results.record import Point
from dlm_bench.sweep.kernel_check import Choice

POINT = Point(backbone="diffutran", size="tiny", sampler="full", length=8, device="cuda")


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Where attention and scan are wrong, and the scan has no stand-in."""
    path = tmp_path / "kernels.jsonl"
    append(path, {"status": "wrong", "kernels": {"attention": "cudnn"}, "message": "far off"})

    def without(faults, device, heads, asked):
        assert faults.keys() == {"attention"}
        assert (device.type, heads, asked) == ("cuda", {(torch.bfloat16, 16, 1)}, {})
        return Choice({"attention": "flash"}, {}, {"ssd": "ssd 'mamba-ssm' is wrong"})

    monkeypatch.setattr(checked_kernels, "without", without)
    return path


def test_a_point_has_the_stand_ins_of_a_sweep(check, tmp_path):
    assert checked_kernels.checked_kernels(check, POINT) == {"attention": "flash"}
    assert checked_kernels.checked_kernels(tmp_path / "none", POINT) == {}
    assert checked_kernels.checked_kernels(None, POINT) == {}


def test_a_point_without_a_stand_in_is_refused(check):
    scanned = POINT.model_copy(update={"backbone": "diffumamba"})
    with pytest.raises(ConfigError, match="in the kernel check ssd 'mamba-ssm' is wrong"):
        checked_kernels.checked_kernels(check, scanned)


SCRIPTS = {
    pass_profile: {"length": 8},
    sampled_on_gpu: {"max_seconds": 0.1},
}
HERE = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)


@pytest.fixture
def built(monkeypatch):
    """Models that are not built: what was asked of them."""
    asked = []

    def build(backbone, size, device, dtype, kernels):
        asked.append((backbone, str(dtype), kernels))
        if backbone == "diffumamba":
            raise RuntimeError("an illegal memory access was encountered")
        return backbone

    def measured(model, sampler, length, *_, nodes, tolerance):
        return sampled_on_gpu.Outcome("", 1.0, 1.0, 0.1, 1, 3, 1.0)

    for script in SCRIPTS:
        monkeypatch.setattr(script, "build_model", build)
        monkeypatch.setattr(script, "checked_kernels", lambda path, point: {"attention": path})
        monkeypatch.setattr(script, "parse_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(sampled_on_gpu, "measure_long", measured)
    monkeypatch.setattr(pass_profile, "profiled", lambda *_: iter(()))
    return asked


def events(script, done=()):
    args = Namespace(device="cuda", size="tiny", kernels="flash", **SCRIPTS[script])
    return list(script.events(args, done))


@HERE
def test_models_are_built_in_bfloat16_with_the_kernels_that_are_right(script, built):
    events(script)
    assert {backbone for backbone, *_ in built} >= {"diffumamba", "diffutran"}
    assert {dtype for _, dtype, _ in built} == {"bfloat16"}
    assert all(kernels == {"attention": "flash"} for *_, kernels in built)


@HERE
def test_what_raises_is_a_row_and_the_others_are_measured_by_a_new_worker(script, built):
    found = events(script)
    faulty = [event for event in found if event.get("broken")]
    assert {row["status"] for event in faulty for row in event["rows"]} == {"raised"}
    assert all("an illegal memory access" in event["text"] for event in faulty)
    fine = [event for event in found if "rows" in event and not event["broken"]]
    assert fine
    again = events(script, [row for event in (*faulty, *fine) for row in event["rows"]])
    assert len([event for event in again if event.get("broken")]) == 0


@HERE
def test_a_model_is_built_once_for_its_points(script, built):
    events(script)
    others = [backbone for backbone, *_ in built if backbone != "diffumamba"]
    assert len(others) == len(set(others))


@HERE
def test_a_model_is_freed_before_the_next_is_built(script, built, monkeypatch):
    class Model:
        pass

    made = []

    def build(*_, **__):
        assert not any(model() for model in made)
        model = Model()
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr(script, "build_model", build)
    assert not any(event.get("broken") for event in events(script))
    assert len(made) > 1
