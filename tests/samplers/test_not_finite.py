"""Logits that are not finite are an error of the point, never tokens."""

import dataclasses

import pytest
from support.cases import pairs, samplers

from dlm_bench import build_model, build_sampler, measure, save_checkpoint
from dlm_bench.cli import main
from dlm_bench.errors import PointError
from dlm_bench.models.config import ModelConfig


def ruined(backbone, value=float("nan")):
    """A model of its own with one layer, and a head whose last row of weights is `value`."""
    model = build_model(backbone, "tiny", layers=1)
    model.head.weight[40] = value
    return model


@pytest.mark.parametrize(("backbone", "name"), pairs())
def test_a_decode_raises(backbone, name):
    sampler = samplers(block_size=8, tokens_per_step=3)[name]
    with pytest.raises(PointError, match=r"20 of 20 tokens are MASK .* not finite"):
        sampler.decode(ruined(backbone), 20)


@pytest.mark.parametrize("accept", ["strict", "bounded", "entropy", "joint"])
def test_a_decode_by_each_rule_raises(accept):
    sampler = build_sampler("block-cache", accept=accept, block_size=8)
    with pytest.raises(PointError, match=r"20 of 20 tokens are MASK .* not finite"):
        sampler.decode(ruined("diffutran"), 20)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_single_logit_that_is_not_finite_is_enough(value):
    with pytest.raises(PointError, match="not finite"):
        samplers()["full"].decode(ruined("diffutran", value), 20)


@pytest.mark.parametrize("mode", ["exact", "sampled", "auto"])
@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("diffutran", "full"),
        ("diffumamba", "separate"),
        ("diffumamba", "threshold"),
        ("ar-mamba", "ar"),
    ],
)
def test_a_measurement_raises(backbone, name, mode):
    sampler = samplers(block_size=8)[name]
    with pytest.raises(PointError, match="not finite"):
        measure(ruined(backbone), sampler, 24, mode=mode, warmup=0, repeats=1, max_seconds=0.1)


@pytest.mark.parametrize(("backbone", "name"), [("diffumamba", "dual"), ("ar-mamba", "ar")])
def test_one_sequence_of_a_batch_is_enough(backbone, name):
    model, sampler = build_model(backbone, "tiny", layers=1), samplers(block_size=8)[name]
    state = sampler.prepare(model, 16, batch=3)
    sampler.run(model, state)
    state.check_unmasked()
    state.tokens[1, 9] = model.config.mask_id
    with pytest.raises(PointError, match="1 of 48 tokens"):
        state.check_unmasked()


class WithoutMask(ModelConfig):
    """A causal model's ids: MASK's is the first beyond the embedding."""

    @property
    def mask_id(self):
        return self.vocab_size


def test_a_causal_model_without_mask_goes_on_to_its_error():
    model = ruined("ar-transformer")
    model.config = WithoutMask(**dataclasses.asdict(model.config))
    with pytest.raises(PointError, match=r"6 of 6 tokens are MASK .* not finite"):
        samplers()["ar"].decode(model, 6)


def test_run_says_so_in_one_line_and_exits_as_of_a_failed_point(tmp_path, capsys):
    path, results = tmp_path / "w.safetensors", tmp_path / "r.jsonl"
    save_checkpoint(ruined("diffumamba"), path)
    point = ["run", "diffumamba", "block-cache", "-L", "24", "--device", "cpu"]
    point += ["--repeats", "1", "--warmup", "0"]
    assert main([*point, "--checkpoint", str(path), "--output", str(results)]) == 3
    captured = capsys.readouterr()
    assert captured.out == "device: cpu\n"
    assert captured.err.count("\n") == 1
    assert "not finite" in captured.err
    assert not results.exists() or results.read_text() == ""
