"""Checkpoints: what is saved comes back, and what is no checkpoint is one clear line."""

import json
import os
import stat
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.cases import CAUSAL, DENOISERS

import dlm_bench
from dlm_bench.cli import main
from dlm_bench.errors import ConfigError
from dlm_bench.models.config import model_config
from dlm_bench.models.factory import empty_model
from dlm_bench.results.store import read_records
from dlm_bench.training.stated import KEY, checkpoint_config


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint of weights that no seed of `build_model` below draws, and its model."""
    model = dlm_bench.build_model("diffumamba-h", "tiny", seed=7)
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    dlm_bench.save_checkpoint(model, path)
    return path, model


def refusal(capsys, *arguments):
    """The one line that a run prints before it ends with 2."""
    assert main(["run", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("backbone", [*DENOISERS, *CAUSAL])
@torch.inference_mode()
def test_a_round_trip_gives_the_same_logits_to_the_last_bit(backbone, tmp_path):
    model = dlm_bench.build_model(backbone, "tiny", seed=3, layers=2)
    dlm_bench.save_checkpoint(model, tmp_path / "x")
    loaded = dlm_bench.load_checkpoint(tmp_path / "x")
    assert loaded.config == model.config
    x = torch.randint(257, (2, 40), generator=torch.Generator().manual_seed(0))
    t = torch.full((2, 1), 0.5) if model.config.denoiser else None
    assert torch.equal(loaded.logits(loaded(x, t)), model.logits(model(x, t)))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_loaded_model_decodes_as_the_one_that_was_saved(saved):
    path, model = saved
    sampler = dlm_bench.build_sampler("block-cache", tokens_per_step=8)
    decoded = sampler.decode(dlm_bench.load_checkpoint(path), 64, seed=1)
    assert torch.equal(decoded, sampler.decode(model, 64, seed=1))


def test_weights_are_cast_but_those_that_are_float32_in_every_dtype(saved):
    path, model = saved
    loaded = dlm_bench.load_checkpoint(path, dtype="bfloat16")
    assert loaded.head.weight.dtype == torch.bfloat16
    assert torch.equal(loaded.head.weight, model.head.weight.bfloat16())
    scan = loaded.blocks[1].mixer
    assert scan.A_log.dtype == torch.float32
    assert torch.equal(scan.A_log, model.blocks[1].mixer.A_log)


def test_a_vocabulary_of_ones_own_is_kept(tmp_path):
    config = replace(model_config("diffutran", "tiny"), vocab_size=31)
    model = empty_model(config, torch.device("cpu"), torch.float32)
    model.init_weights(torch.Generator().manual_seed(0))
    dlm_bench.save_checkpoint(model, tmp_path / "x")
    loaded = dlm_bench.load_checkpoint(tmp_path / "x")
    assert loaded.config.mask_id == 30
    decoded = dlm_bench.build_sampler("full").decode(loaded, 32)
    assert int(decoded.max()) < 30


def test_the_configuration_is_readable_without_dlm_bench(saved):
    path, model = saved
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()[KEY]) == asdict(model.config)


def test_run_measures_a_checkpoint_and_its_record_names_it(saved, tmp_path, capsys):
    path, _ = saved
    run = ["run", "diffumamba-h", "full", "-L", "32", "--warmup", "0", "--repeats", "1"]
    records = tmp_path / "r.jsonl"
    assert main([*run, "--checkpoint", str(path), "--output", str(records)]) == 0
    assert main([*run, "--size", "tiny", "--output", str(records)]) == 0
    trained, random = read_records(records)
    assert trained.point.weights == f"{path.stem}@{trained.checkpoint[:8]}"
    assert trained.point.model_copy(update={"weights": ""}) == random.point
    assert trained.checkpoint == dlm_bench.load_checkpoint(path).checkpoint
    assert len(trained.checkpoint) == 16
    assert random.checkpoint == ""
    assert trained.identity != random.identity  # a sweep that resumes does not take it for its own


def test_another_files_weights_have_another_name(saved, tmp_path):
    dlm_bench.save_checkpoint(dlm_bench.build_model("diffumamba-h", "tiny"), tmp_path / "x")
    other = dlm_bench.load_checkpoint(tmp_path / "x").checkpoint
    assert other != dlm_bench.load_checkpoint(saved[0]).checkpoint


def test_a_checkpoint_of_something_else_is_refused_in_a_line(saved, capsys):
    path = str(saved[0])
    line = refusal(capsys, "diffutran", "full", "-L", "32", "--checkpoint", path)
    assert "backbone: 'diffutran' is not allowed" in line
    assert "holds 'diffumamba-h'" in line
    asked = ["diffumamba-h", "full", "--size", "small", "-L", "32", "--checkpoint", path]
    assert "size: 'small' is not allowed" in refusal(capsys, *asked)


def test_what_is_no_checkpoint_is_refused_in_a_line(tmp_path, capsys):
    run = ["diffutran", "full", "-L", "32", "--checkpoint"]
    assert "no such file" in refusal(capsys, *run, str(tmp_path / "none"))
    (tmp_path / "text").write_text("weights")
    assert "checkpoint" in refusal(capsys, *run, str(tmp_path / "text"))
    save_file({"w": torch.zeros(2)}, tmp_path / "bare")
    assert f"no {KEY!r}" in refusal(capsys, *run, str(tmp_path / "bare"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": None}, "layers: None"),
        ({"layers": -3}, "layers: -3"),
        ({"d_model": "64"}, "d_model: '64'"),
        ({"headdim": 0}, "headdim: 0"),
        ({"heads": True}, "heads: True"),
        ({"backbone": "diffuconv"}, "backbone: 'diffuconv' is not known"),
        ({"width": 64}, "must be a JSON object of backbone, size"),
    ],
)
def test_a_malformed_configuration_is_refused(change, said, tmp_path):
    config = asdict(model_config("diffutran", "tiny")) | change
    save_file({"w": torch.zeros(2)}, tmp_path / "x", {KEY: json.dumps(config)})
    with pytest.raises(ConfigError, match=said):
        checkpoint_config(tmp_path / "x")


def test_tensors_that_are_not_those_of_the_configuration_are_refused(saved, tmp_path):
    _, model = saved
    metadata = {KEY: json.dumps(asdict(model.config))}
    tensors = model.state_dict()
    save_file({**tensors, "extra": torch.zeros(2)}, tmp_path / "more", metadata)
    with pytest.raises(ConfigError, match=r"tensor 'extra' is \(2,\); its configuration wants"):
        dlm_bench.load_checkpoint(tmp_path / "more")
    save_file({**tensors, "head.weight": torch.zeros(2, 2)}, tmp_path / "other", metadata)
    with pytest.raises(ConfigError, match=r"'head.weight' is \(2, 2\)"):
        dlm_bench.load_checkpoint(tmp_path / "other")
    less = {name: tensor for name, tensor in tensors.items() if name != "embedding.weight"}
    save_file(less, tmp_path / "less", metadata)
    with pytest.raises(ConfigError, match=r"'embedding\.weight' is missing"):
        dlm_bench.load_checkpoint(tmp_path / "less")


def test_shapes_alone_can_not_be_saved_or_loaded(saved, tmp_path):
    with pytest.raises(ConfigError, match="no weights to save"):
        dlm_bench.save_checkpoint(
            dlm_bench.build_model("diffutran", "tiny", "meta"), tmp_path / "x"
        )
    with pytest.raises(ConfigError, match="no weights to load"):
        dlm_bench.load_checkpoint(saved[0], "meta")


def test_a_place_that_is_not_there_is_said(saved, tmp_path):
    with pytest.raises(ConfigError, match=r"checkpoint '.*none"):
        dlm_bench.save_checkpoint(saved[1], tmp_path / "none" / "x")


def test_a_checkpoint_has_the_mode_of_the_umask(saved, tmp_path):
    before = os.umask(0o022)
    try:
        dlm_bench.save_checkpoint(saved[1], tmp_path / "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644
