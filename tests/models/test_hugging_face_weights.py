"""The weights of a folder reach the model whole, or a line names the file or tensor at fault."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.folders import field_folder

from dlm_bench import ConfigError, build_model
from dlm_bench.cli import main

INDEX = "model.safetensors.index.json"
Q = "model.layers.1.self_attn.q_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture
def folder(tmp_path):
    """A folder in several shards."""
    place = tmp_path / "sharded"
    field_folder(place, "Dream", shard="300KB")
    assert len(list(place.glob("*.safetensors"))) > 2
    return place


@pytest.fixture
def whole(tmp_path):
    """A folder in a single file, and a function that changes its tensors."""
    place = tmp_path / "whole"
    field_folder(place, "Dream")

    def change(**tensors):
        path = place / "model.safetensors"
        content = load_file(path) | tensors
        save_file({name: each for name, each in content.items() if each is not None}, path)

    return place, change


def refusal(place, capsys):
    assert main(["run", f"hf:{place}", "full", "-L", "8"]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert told.startswith(f"dlm-bench: backbone: 'hf:{place.name}': weights: ")
    return told.split("weights: ")[1].strip()


def test_shards_hold_the_same_model_as_one_file(folder, whole):
    one, other = build_model(f"hf:{folder}"), build_model(f"hf:{whole[0]}")
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    assert one.checkpoint != other.checkpoint, "the digest is the files'"


def test_weights_arrive_in_the_dtype_that_is_asked_for(folder):
    exact, rounded = (build_model(f"hf:{folder}", dtype=each) for each in ("float32", "bfloat16"))
    for name, tensor in rounded.state_dict().items():
        assert torch.equal(tensor, exact.state_dict()[name].bfloat16())


def test_rows_that_are_copied_piece_by_piece_are_all_there(folder, monkeypatch):
    expected = build_model(f"hf:{folder}").state_dict()
    monkeypatch.setattr("dlm_bench.models.hf.tensors.PIECE", 1000)
    for name, tensor in build_model(f"hf:{folder}").state_dict().items():
        assert torch.equal(tensor, expected[name])


def test_transformers_is_not_needed(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # an import of it fails
    assert build_model(f"hf:{folder}").config.layers == 3


def test_a_missing_shard_is_named(folder, capsys):
    path = sorted(folder.glob("*.safetensors"))[1]
    path.unlink()
    assert refusal(folder, capsys) == f"{path.name}, named by {INDEX}, is missing"


@pytest.mark.parametrize("left", [4, 100, -5])
def test_a_truncated_shard_is_named(folder, left, capsys):
    path = sorted(folder.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:left])
    assert refusal(folder, capsys).startswith(f"{path.name}: Error while deserializing header: ")


def test_an_index_that_is_none_is_named(folder, capsys):
    (folder / INDEX).write_text("{}")
    assert refusal(folder, capsys) == f"{INDEX} has no weight_map"


def test_a_missing_tensor_is_named(whole, capsys):
    place, change = whole
    change(**{Q: None})
    assert refusal(place, capsys) == f"{Q} is missing"
    change(**{f"model.layers.{i}.mlp.up_proj.weight": None for i in range(3)})
    assert refusal(place, capsys) == (
        "model.layers.0.mlp.up_proj.weight, model.layers.1.mlp.up_proj.weight, "
        "model.layers.1.self_attn.q_proj.weight and 1 more are missing"
    )


def test_a_tensor_left_over_is_named(whole, capsys):
    place, change = whole
    change(**{"model.layers.3.mlp.up_proj.weight": torch.ones(2)})
    assert refusal(place, capsys) == "model.layers.3.mlp.up_proj.weight is not known"


def test_a_tensor_of_another_shape_is_named(whole, capsys):
    place, change = whole
    change(**{DOWN: torch.ones(112, 81)})
    assert refusal(place, capsys) == (f"{DOWN} has shape [112, 81], and config.json says [112, 80]")


def test_a_quantized_tensor_is_named(whole, capsys):
    place, change = whole
    change(**{DOWN: torch.ones(112, 80, dtype=torch.int8)})
    assert refusal(place, capsys) == f"{DOWN} is I8; allowed: BF16, F16, F32, F64"


def test_a_tensor_in_two_files_is_named(folder, capsys):
    index = json.loads((folder / INDEX).read_text())
    first, second = sorted(set(index["weight_map"].values()))[:2]
    name = next(name for name, file in index["weight_map"].items() if file == first)
    save_file(load_file(folder / second) | {name: torch.ones(2)}, folder / second)
    assert refusal(folder, capsys) == f"{name} is in {first} and {second}"


def test_buffers_that_are_computed_anyway_are_no_fault(whole):
    place, change = whole
    change(**{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    assert build_model(f"hf:{place}").config.layers == 3


def test_a_tied_head_may_be_there_or_not(tmp_path):
    place = tmp_path / "tied"
    network = field_folder(place, "Fast_dLLM_Qwen")
    path = place / "model.safetensors"
    content = load_file(path)
    assert "lm_head.weight" not in content
    save_file(content | {"lm_head.weight": content["model.embed_tokens.weight"].clone()}, path)
    model = build_model(f"hf:{place}")
    assert torch.equal(model.head.weight, network.lm_head.weight)
    assert model.head.weight is model.embedding.weight


def test_a_folder_on_meta_is_shapes_alone(folder):
    model = build_model(f"hf:{folder}", device="meta")
    assert model.head.weight.is_meta
    for path in folder.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ConfigError, match="has no weights"):
        build_model(f"hf:{folder}", device="meta")
