"""Folders that carry code: none of it is run, and one line says what to do instead."""

import json

import pytest

from dlm_bench import ConfigError, build_model
from dlm_bench.cli import main

FOLDERS = {  # as the folders of these models have them
    "LLaDA2": ("llada2_moe", "LLaDA2MoeModelLM", "configuration_llada.LLaDA2MoeConfig"),
    "SDAR-MoE": ("sdar_moe", "SDARMoeForCausalLM", "configuration_sdar.SDARMoeConfig"),
    "other": ("Dreamer", "DreamerModel", "configuration_dream.DreamerConfig"),
    # A model_type of transformers with a network of one's own.
    "qwen": ("qwen2", "Fast_dLLM_QwenForCausalLM", "configuration.Fast_dLLM_QwenConfig"),
}
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of a configuration, with code that says when it is run."""

    def make(name, config, **files):
        place = tmp_path / name
        place.mkdir()
        (place / "config.json").write_text(json.dumps(config))
        for module in ("configuration_llada", "configuration_dream", "configuration_sdar"):
            (place / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        (place / "configuration.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        for file, content in files.items():
            (place / f"{file}.json").write_text(json.dumps(content))
        return place

    return make


def of_code(name):
    model_type, architecture, config = FOLDERS[name]
    return {
        "model_type": model_type,
        "architectures": [architecture],
        "auto_map": {"AutoConfig": config, "AutoModel": f"modeling.{architecture}"},
    }


@pytest.mark.parametrize("more", [[], ["--random-weights"]])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_model_that_is_code_in_its_folder_is_refused_in_a_line(
    name, more, folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run it"))
    place = folder(name, of_code(name))
    assert main(["run", f"hf:{place}", "full", "-L", "8", *more]) == 2
    printed = capsys.readouterr()
    assert printed.err == (
        f"dlm-bench: backbone: 'hf:{name}': {FOLDERS[name][1]} is defined by code in the folder "
        "(auto_map in config.json), which is not run; write the model as a plug-in instead "
        "(docs/plugins.md)\n"
    )
    assert not (tmp_path / "ran").exists()


def test_the_refusal_names_the_backbone_of_the_same_shape(folder, capsys):
    shape = {
        "num_hidden_layers": 28,
        "hidden_size": 3584,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
    }
    place = folder("other", of_code("other") | shape)
    assert main(["run", f"hf:{place}", "full", "-L", "8"]) == 2
    assert capsys.readouterr().err.endswith(
        "which is not run; backbones of its shape: dream --size 7b, fast-dllm-v2 --size 7b, "
        "qwen2 --size 7b\n"
    )


@pytest.mark.parametrize("known", ["Dream", "Fast_dLLM_Qwen"])
def test_code_beside_a_model_that_is_known_is_not_run(known, folder, tmp_path):
    config = LLAMA | {"model_type": known, "auto_map": {"AutoModel": "configuration.Own"}}
    model = build_model(f"hf:{folder('x', config)}", random_weights=True)
    assert model.config.token_shift
    assert not (tmp_path / "ran").exists()


def test_code_that_redefines_a_model_of_transformers_is_refused(folder):
    config = LLAMA | {
        "is_causal": False,
        "auto_map": {"AutoModel": "m.Own"},
        "architectures": ["OwnLlama"],
    }
    with pytest.raises(ConfigError, match="OwnLlama is defined by code in the folder"):
        build_model(f"hf:{folder('x', config)}", random_weights=True)


def test_a_model_of_transformers_is_built_as_such_whatever_code_lies_beside_it(folder, tmp_path):
    config = LLAMA | {"auto_map": {"AutoConfig": "configuration.Llama"}}
    place = folder("x", config)
    model = build_model(f"hf:{place}", random_weights=True)
    assert model.config.architecture == "LlamaForCausalLM"
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_that_is_code_is_not_run_to_find_mask(folder, tmp_path):
    config = LLAMA | {"is_causal": False}
    files = {"tokenizer_config": {"auto_map": {"AutoTokenizer": ["configuration.Own", None]}}}
    place = folder("x", config, **files)
    with pytest.raises(ConfigError, match=r"name MASK by mask_token_id in config.json instead$"):
        build_model(f"hf:{place}", random_weights=True)
    (place / "config.json").write_text(json.dumps(config | {"mask_token_id": 5}))
    assert build_model(f"hf:{place}", random_weights=True).config.mask_id == 5
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("architectures", [None, [], "LlamaForCausalLM", [7]])
def test_code_without_a_class_that_is_known_is_refused(architectures, folder):
    place = folder("x", LLAMA | {"auto_map": {"AutoModel": "m.X"}, "architectures": architectures})
    with pytest.raises(ConfigError, match="defined by code in the folder"):
        build_model(f"hf:{place}", random_weights=True)
