"""Folders of Hugging Face's format on the command line and in sweeps, and refused ones."""

import json

import pytest
from support.hugging_face import DIMENSIONS, network_of

from dlm_bench import ConfigError, build_model, build_sampler, load_results
from dlm_bench.cli import main
from dlm_bench.results.record import Point
from dlm_bench.sweep.load import Measuring
from dlm_bench.sweep.worker.jobs import JobServer

# The command line.


@pytest.fixture
def bare(tmp_path):
    """Write a folder with a configuration alone."""

    def write(name="tiny", **content):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "config.json").write_text(json.dumps(content))
        return f"hf:{tmp_path / name}"

    return write


BERT = {"model_type": "bert", **DIMENSIONS}
LLAMA = {"model_type": "llama", **DIMENSIONS}
MISTRAL = LLAMA | {"model_type": "mistral", "sliding_window": 8, "num_key_value_heads": 2}


def run(*arguments):
    return main(["run", *arguments, "--warmup", "0", "--repeats", "1"])


@pytest.mark.process
def test_a_sweep_takes_folders_beside_names_and_resumes_by_their_content(bare, tmp_path, capsys):
    sweep, output = tmp_path / "s.toml", tmp_path / "r.jsonl"
    text = (
        'name = "s"\nsize = "tiny"\nlengths = [16]\nwarmup = 0\nrepeats = 1\n'
        f'random_weights = true\n[[lines]]\nbackbone = ["{bare(**BERT)}", "diffutran"]\n'
        'sampler = "full"\n'
    )
    sweep.write_text(text)
    command = ["sweep", str(sweep), "--output", str(output)]
    assert main(command) == 0
    frame = load_results(output)
    assert list(frame.backbone) == ["hf:tiny", "diffutran"]
    assert list(frame["size"]) == ["hf", "tiny"]
    assert list(frame["status"]) == ["ok", "ok"]
    assert str(tmp_path) not in output.read_text(), "no path of this machine"

    def found():
        capsys.readouterr()
        assert main([*command, "--resume", "--dry-run"]) == 0
        return capsys.readouterr().out

    assert "2 of 2 points found" in found()
    moved = bare("elsewhere/tiny", **BERT)
    sweep.write_text(text.replace(f"hf:{tmp_path}/tiny", moved))
    assert "2 of 2 points found" in found()
    bare("elsewhere/tiny", **BERT | {"num_hidden_layers": 3})
    assert "1 of 2 points found" in found()
    asked = [moved, "full", "-L", "16", "--random-weights", "--output", str(output)]
    assert run(*asked) == 0
    assert "2 of 2 points found" in found()


def test_a_worker_takes_no_folders_model_for_anothers(saved, bare):
    desk, weights = JobServer(), saved("bert").folder
    folders = [bare(**BERT).removeprefix("hf:"), weights, weights]
    folders.append(bare("elsewhere/tiny", **BERT | {"num_hidden_layers": 3}).removeprefix("hf:"))
    point = Point(backbone="hf:x", size="hf", sampler="full", length=8, dtype="float32", options={})
    layers, checkpoints = [], []
    for folder, random_weights in zip(folders, (True, True, False, True), strict=True):
        settings = {"folders": {"hf:x": folder}, "random_weights": random_weights}
        measuring = Measuring(warmup=0, repeats=1, **settings).model_dump()
        job = {"measure": point.model_dump(), "measuring": measuring, "memory_limit": None}
        record = desk.answer(job)["record"]
        layers.append(record["model"]["layers"])
        checkpoints.append(record["checkpoint"] != "")
    assert layers == [2, 2, 2, 3]
    assert checkpoints == [False, False, True, False]


@pytest.mark.parametrize(
    ("content", "sampler", "said"),
    [
        (BERT, "full", "has no weights (*.safetensors in"),
        (BERT, "ar --random-weights", "it needs a causal model"),
        (LLAMA, "full --random-weights", "a causal model sees only the left"),
        (BERT, "full --random-weights --size tiny", "size: 'tiny' is not known; allowed: hf"),
        (BERT, "full --random-weights -L 41", "length: 41 is not allowed; backbone 'hf:tiny' ta"),
        (LLAMA, "ar --random-weights -L 41", "takes at most 40 tokens"),
        (
            LLAMA,
            "ar --random-weights -L 30 --prompt-len 11",
            "length: 30 after a prompt of 11 is not allowed; backbone 'hf:tiny' takes at most 40",
        ),
        (MISTRAL, "ar --random-weights", "takes at most 8 tokens"),
        ({"model_type": "t5"}, "full --random-weights", "model_type 't5' is not supported"),
        (
            {"model_type": "mamba", "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 1},
            "ar --random-weights",
            "MambaForCausalLM keeps no cache of keys and values",
        ),
        ({"model_type": "openai-gpt"}, "ar --random-weights", "keeps no cache of keys and values"),
        ({"model_type": "gemma2"}, "ar --random-weights", "final_logit_softcapping is not supp"),
        ({"model_type": "nothing"}, "full", "transformers refuses it: ValueError"),
        ({"hidden_size": 4}, "full", "transformers refuses it: ValueError"),
        (BERT | {"mask_token_id": 97}, "full --random-weights", "mask_token_id 97 is not in its"),
        (BERT | {"num_attention_heads": 5}, "full --random-weights", "transformers refuses it"),
    ],
)
def test_a_folder_that_cannot_be_run_is_a_line(bare, content, sampler, said, capsys):
    name, *more = sampler.split()
    assert run(bare(**content), name, "-L", "16", *more) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


def test_what_is_no_folder_of_a_model_is_a_line(tmp_path, capsys):
    for path, said in ((tmp_path / "none", "no such folder"), (tmp_path, "No such file")):
        assert run(f"hf:{path}", "full", "-L", "16") == 2
        told = capsys.readouterr().err
        assert said in told
        assert len(told.splitlines()) == 1
    (tmp_path / "config.json").write_text("{")
    assert run(f"hf:{tmp_path}", "full", "-L", "16") == 2
    assert "not valid JSON" in capsys.readouterr().err


def test_positions_of_roberta_begin_after_padding(saved):
    model = build_model(saved("roberta").backbone)
    assert model.config.max_length == 40, "of 42, as id 1 is padding"
    with pytest.raises(ConfigError, match=r"length: 41 is not allowed; .* at most 40 tokens"):
        build_sampler("full").decode(model, 41)
    with pytest.raises(ConfigError, match=r"length: 34 after a prompt of 7 is not allowed"):
        build_sampler("full").decode(model, 34, prompt_len=7)


def test_weights_of_another_model_are_refused(saved, tmp_path):
    folder = tmp_path / "other"
    network_of("bert", folder)
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="the weights do not fit BertForMaskedLM: missing keys"):
        build_model(f"hf:{folder}")


def test_two_folders_of_one_name_are_not_told_apart_in_a_sweep(bare, tmp_path, capsys):
    sweep = tmp_path / "s.toml"
    one, other = bare(**BERT), bare("elsewhere/tiny", **BERT)
    sweep.write_text(
        f'name = "s"\nsize = "tiny"\nlengths = [16]\nrandom_weights = true\n[[lines]]\n'
        f'backbone = ["{one}", "{other}"]\nsampler = "full"\n'
    )
    assert main(["sweep", str(sweep), "--dry-run"]) == 2
    assert "'hf:tiny' is " in capsys.readouterr().err
