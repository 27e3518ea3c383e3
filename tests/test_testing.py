"""The checks for authors of plug-ins pass on what is right, and name what is wrong."""

import pytest
import torch

from dlm_bench import build_model, build_sampler
from dlm_bench.cli import main
from dlm_bench.testing import check_decode, check_model, outcomes, samplers_of


@pytest.mark.parametrize("backbone", ["diffumamba-h", "ar-mamba"])
def test_every_check_holds_of_the_projects_own(backbone):
    check_model(build_model(backbone, "tiny"))


def test_a_sampler_whose_model_decides_the_passes_is_checked_too():
    sampler = build_sampler("block-cache", accept="threshold")
    check_decode(build_model("diffutran", "tiny"), sampler, length=36)


def test_a_model_has_the_samplers_it_supports():
    denoiser, causal = build_model("diffutran", "tiny"), build_model("ar-mamba", "tiny")
    of_denoiser = ["full", "fast-dllm", "block-cache", "pipeline", "self-speculation", "remdm"]
    assert [each.name for each in samplers_of(denoiser)] == of_denoiser
    assert [each.name for each in samplers_of(causal)] == ["ar"]


def faults(model, sampler="block-cache"):
    """The names of the checks that fail, and all that they say."""
    found = [each for each in outcomes(model, build_sampler(sampler)) if not each.ok]
    return [each.name for each in found], "\n".join(each.fault for each in found)


def changed(change):
    """A denoiser whose passes are changed: change(forward, tokens, t, window, caches)."""
    model = build_model("diffumamba", "tiny")
    forward = model.forward
    model.forward = lambda tokens, t=None, window=None, caches=None: change(
        forward, tokens, t, window, caches
    )
    return model


def test_a_cache_that_is_ignored_is_named():
    names, told = faults(changed(lambda forward, tokens, t, window, caches: forward(tokens, t)))
    assert "passes have finite hidden states of the right shape, and use the cache" in names
    assert "ignore the cache of 32 tokens" in told


def test_noise_that_no_seed_determines_is_named():
    def noisy(forward, *rest):
        hidden = forward(*rest)
        return hidden + torch.randn_like(hidden)

    names, told = faults(changed(noisy), "full")
    assert "a decode leaves no MASK, and gives the same tokens again" in names
    assert "decodes with one seed differ in" in told


def test_rows_of_a_batch_that_see_each_other_are_named():
    def mixed(forward, *rest):
        hidden = forward(*rest)
        return hidden + hidden.mean(dim=0, keepdim=True)

    names, told = faults(changed(mixed), "full")
    assert names == ["rows of a batch are the decodes of single sequences"]
    assert "row 0 and a single decode with its seed differ" in told


def test_a_cache_that_a_reset_does_not_empty_is_named():
    model = build_model("diffumamba", "tiny")
    new_caches = model.new_caches

    def without_reset(*args, **named):
        caches = new_caches(*args, **named)
        for cache in caches:
            cache.reset = lambda: None
        return caches

    model.new_caches = without_reset
    names, told = faults(model)
    assert "a decode after a seek has the tokens of a fresh one" in names
    assert "Cache.reset" in told


def test_check_decode_raises_with_all_faults():
    model = changed(lambda forward, *rest: forward(*rest)[..., :-2])
    with pytest.raises(AssertionError, match=r"(?s)the schedule|hidden states .*\n.*decode"):
        check_decode(model, build_sampler("full"))


def test_the_command_prints_a_line_a_check_and_exits_with_0(capsys):
    assert main(["check", "diffutran", "full", "--size", "tiny", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "  ok      the schedule adds up\n" in told
    assert "  skipped replayed CUDA graphs" in told
    assert told.endswith("6 checks, none failed\n")


def test_the_command_exits_with_3_where_a_check_fails(monkeypatch, capsys):
    broken = changed(lambda forward, *rest: forward(*rest) / 0)
    monkeypatch.setattr("dlm_bench.cli.check.load_model", lambda *_: broken)
    assert main(["check", "diffumamba", "full", "--size", "tiny", "--device", "cpu"]) == 3
    assert "FAILED" in capsys.readouterr().out


def test_the_command_refuses_a_sampler_that_the_backbone_does_not_have(capsys):
    assert main(["check", "ar-mamba", "full", "--device", "cpu"]) == 2
    assert "a causal model sees only the left" in capsys.readouterr().err
