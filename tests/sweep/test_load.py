"""Sweep files: what they expand to, and what is refused before anything runs."""

import json
from pathlib import Path

import pytest
from support.sweep_files import VALID, load

from dlm_bench.errors import ConfigError
from dlm_bench.models.backbones import known_config
from dlm_bench.sweep.file import SHIPPED
from dlm_bench.sweep.load import load_sweep


def test_lists_multiply_and_every_option_is_written_out(tmp_path):
    sweep = load(tmp_path, VALID)
    assert len(sweep.points) == 2 * 2 * 2
    assert {(p.backbone, p.options["tokens_per_step"], p.length) for p in sweep.points} == {
        (b, p, n) for b in ("diffutran", "diffumamba") for p in (8, 16) for n in (64, 128)
    }
    assert all(p.options["commit"] == "fused" for p in sweep.points)
    assert all(p.options["block_size"] == 32 for p in sweep.points), "defaults are not silent"


def test_the_protocol_of_the_paper_is_the_default(tmp_path):
    sweep = load(tmp_path, VALID)
    measuring = sweep.measuring
    assert (measuring.mode, measuring.warmup, measuring.repeats) == ("exact", 3, 5)
    assert (sweep.timeout, sweep.memory_limit) == (None, None)


@pytest.mark.parametrize(
    ("size", "limit"), [("512MiB", 2**29), ("8 GiB", 2**33), ("1.5GiB", 3 * 2**29), ("1TiB", 2**40)]
)
def test_a_memory_limit_is_read_in_binary_units(tmp_path, size, limit):
    assert load(tmp_path, f'memory_limit = "{size}"\n{VALID}').memory_limit == limit


def test_what_is_given_besides_overrides_the_file(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('timeout = 5\nmemory_limit = "1GiB"\n' + VALID)
    assert load_sweep(path).timeout == 5.0
    sweep = load_sweep(path, timeout=7.0, memory_limit="2GiB", kernels={"ssd": "torch"})
    assert (sweep.timeout, sweep.memory_limit) == (7.0, 2**31)
    assert sweep.measuring.kernels == {"ssd": "torch"}


def test_a_point_that_two_lines_ask_for_is_measured_once(tmp_path):
    again = VALID[VALID.index("[[lines]]") :].replace("[8, 16]", "8")
    assert len(load(tmp_path, VALID + again).points) == 8


def test_a_line_may_have_its_own_lengths_and_size(tmp_path):
    sweep = load(tmp_path, VALID + 'lengths = [32]\nsize = "small"\n')
    assert {(p.size, p.length) for p in sweep.points} == {("small", 32)}


def test_a_scalar_is_a_list_of_one_everywhere(tmp_path):
    text = VALID.replace("[64, 128]", "64").replace('["diffutran", "diffumamba"]', '"diffutran"')
    assert [p.length for p in load(tmp_path, text).points] == [64, 64]
    (point,) = load(tmp_path, text.replace("[8, 16]", "8") + "lengths = 32\n").points
    assert (point.length, point.options["tokens_per_step"]) == (32, 8)


def test_durations_and_shares_are_written_as_on_the_command_line(tmp_path):
    sweep = load(tmp_path, f'timeout = "1.5h"\nmax_seconds = "2m"\ntolerance = "5%"\n{VALID}')
    told = (sweep.timeout, sweep.measuring.max_seconds, sweep.measuring.tolerance)
    assert told == (5400.0, 120.0, 0.05)
    with pytest.raises(ConfigError, match=r":1: timeout: '1d' is not allowed; must be a duration"):
        load(tmp_path, f'timeout = "1d"\n{VALID}')


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_of_another_editor_is_read(tmp_path, end):
    path = tmp_path / "s.toml"
    path.write_bytes(("\ufeff# größer\n" + VALID).replace("\n", end).encode())
    assert len(load_sweep(path).points) == 8


def test_the_sweeps_that_ship_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_sweep("ci").name == "ci"
    (tmp_path / "ci").write_text(VALID)
    assert load_sweep("ci").name == "test", "a path goes first"
    (tmp_path / "quick").mkdir()
    assert load_sweep("quick").name == "quick", "a folder is no sweep"
    with pytest.raises(ConfigError, match=r"did you mean 'quick'\?\); shipped: batch, ci, .*paper"):
        load_sweep("quik")


def test_the_folder_of_the_repository_is_that_of_the_package():
    assert Path("bench/sweeps").is_symlink()
    assert Path("bench/sweeps").resolve() == SHIPPED.resolve()


def test_a_folder_of_a_model_is_relative_to_the_file_as_a_trace_is(tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / "bert").mkdir()
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 8}
    config |= {"num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 8}
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config))
    text = VALID.replace('["diffutran", "diffumamba"]', '"hf:bert"').replace("block-cache", "full")
    text = text.replace('commit = "fused"\n', "")
    sweep = load(tmp_path, f"random_weights = true\n{text}")
    assert sweep.measuring.folders == {"hf:bert": str(tmp_path / "bert")}
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / "s.toml"
    copy.write_text(f"random_weights = true\n{text}")
    assert load_sweep(copy, base_folder=tmp_path).points == sweep.points, (
        "as a job of a cluster reads it"
    )
    with pytest.raises(ConfigError, match=r"elsewhere/bert': no such folder"):
        load_sweep(copy)


def test_prompts_are_relative_to_the_file_and_a_group_may_have_others(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"text": "abc"}\n{"text": "abcde"}\n')
    other = VALID.partition("[[lines]]")[2].replace("fused", "none") + 'prompts = ""\n'
    sweep = load(
        tmp_path, f'prompts = "mine.jsonl"\nbatch = [1, 2]\nseed = 1\n{VALID}[[lines]]{other}'
    )
    (label,) = sweep.prompts
    assert label.startswith("mine@")
    assert sweep.prompts[label] == str(tmp_path / "mine.jsonl")
    found = {(p.options["commit"], p.batch, p.prompts, p.prompt_len) for p in sweep.points}
    # Sequence 0 of seed 1 takes the second prompt, sequence 1 the first.
    assert found == {
        *(("fused", 1, label, 5), ("fused", 2, label, 3)),
        *(("none", 1, "", 0), ("none", 2, "", 0)),
    }


def test_a_group_may_stop_at_the_end_of_texts_and_another_not(tmp_path):
    other = VALID.partition("[[lines]]")[2].replace("fused", "none") + "stop_at_eos = false\n"
    sweep = load(tmp_path, f"stop_at_eos = true\n{VALID}[[lines]]{other}")
    found = {(point.options["commit"], point.stop_at_eos) for point in sweep.points}
    assert found == {("fused", True), ("none", False)}


def test_a_model_without_an_end_of_text_cannot_stop_there(tmp_path):
    config = {"model_type": "llada", "hidden_size": 8, "num_attention_heads": 1, "vocab_size": 64}
    config |= {"num_hidden_layers": 1, "intermediate_size": 8, "mask_token_id": 63}
    (tmp_path / "llada").mkdir()
    (tmp_path / "llada" / "config.json").write_text(json.dumps(config))
    text = VALID.replace('["diffutran", "diffumamba"]', '"hf:llada"')
    with pytest.raises(ConfigError, match=r"stop_at_eos: is not allowed .* states no end of text"):
        load(tmp_path, f"random_weights = true\nstop_at_eos = true\n{text}")
    config["eos_token_id"] = [7, 8]
    (tmp_path / "llada" / "config.json").write_text(json.dumps(config))
    assert known_config("hf:llada", "hf", str(tmp_path / "llada")).eos_id == 7
    assert load(tmp_path, f"random_weights = true\nstop_at_eos = true\n{text}").points
    del config["eos_token_id"]
    (tmp_path / "llada" / "config.json").write_text(json.dumps(config))
    (tmp_path / "llada" / "vocab.json").write_text('{"</s>": 9}')
    (tmp_path / "llada" / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    assert known_config("hf:llada", "hf", str(tmp_path / "llada")).eos_id == 9


def test_a_missing_file_of_prompts_is_a_mistake_of_its_line(tmp_path):
    with pytest.raises(ConfigError, match=r"s.toml:1: prompts: .*none.jsonl': No such file"):
        load(tmp_path, f'prompts = "none.jsonl"\n{VALID}')


@pytest.mark.parametrize("path", sorted(Path("bench/sweeps").glob("*.toml")), ids=lambda p: p.name)
def test_the_sweeps_that_ship_are_valid(path):
    try:
        assert load_sweep(path, device="cpu").points
    except ConfigError as error:
        pytest.fail(str(error))


def test_the_demo_covers_what_the_readme_says():
    points = load_sweep("bench/sweeps/quick.toml").points
    pairs = {(p.backbone, p.sampler) for p in points}
    assert pairs == {
        *(
            (b, s)
            for b in ("diffutran", "diffumamba", "diffumamba-h")
            for s in ("full", "fast-dllm", "block-cache")
        ),
        ("ar-transformer", "ar"),
        ("ar-mamba", "ar"),
    }
    for pair in pairs:
        lengths = {p.length for p in points if (p.backbone, p.sampler) == pair}
        assert len(lengths) >= 5
        assert max(lengths) == 8192


def test_batches_and_prompts_multiply_too(tmp_path):
    sweep = load(tmp_path, f"batch = [1, 4]\nprompt_len = [0, 512]\n{VALID}")
    assert len(sweep.points) == 8 * 2 * 2
    assert {(p.batch, p.prompt_len) for p in sweep.points} == {(1, 0), (1, 512), (4, 0), (4, 512)}
    # Lengths run fastest: a longer one is skipped where a shorter one was too much.
    assert [p.length for p in sweep.points[:4]] == [64, 128] * 2
    own = load(tmp_path, f"batch = 2\nprompt_len = 3\n{VALID}batch = [8, 16]\nprompt_len = 64\n")
    assert {(p.batch, p.prompt_len) for p in own.points} == {(8, 64), (16, 64)}
    alone = load(tmp_path, f"batch = 2\nprompt_len = 3\n{VALID}")
    assert {(p.batch, p.prompt_len) for p in alone.points} == {(2, 3)}


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("batch = 0", r"batch\[0\]: 0 is not allowed"),
        ("batch = [1, 65537]", r"batch\[1\]: 65537 is not allowed"),
        ("batch = []", "batch: .* is not allowed"),
        ("batch = true", r"batch\[0\]: True is not allowed"),
        ("prompt_len = -1", r"prompt_len\[0\]: -1 is not allowed"),
        ("prompt_len = 16777216", "prompt_len: 16777216 is not allowed; must be an integer from 0"),
        ("batch = [1, 3]\nseed = 9223372036854775806", "seed: 9223372036854775806 is not allowed"),
    ],
)
def test_batches_and_prompts_that_cannot_be_are_one_line(tmp_path, extra, said):
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, f"{extra}\n{VALID}")


def test_a_prompt_leaves_something_to_time(tmp_path):
    ar = VALID.replace('["diffutran", "diffumamba"]', '"ar-mamba"').replace("block-cache", "ar")
    ar = ar.replace('tokens_per_step = [8, 16]\ncommit = "fused"\n', "lengths = [1]\n")
    assert load(tmp_path, ar).points
    with pytest.raises(ConfigError, match=r"lines\[0\]: length: 1 is not allowed after a prompt"):
        load(tmp_path, f"prompt_len = 8\n{ar}")


def test_the_former_name_of_the_order_gives_the_same_points_with_a_warning(tmp_path):
    order = VALID + 'order = ["confidence", "random"]\n'
    now = load(tmp_path, order + '[[exclude]]\norder = "random"\nlength = 64\n')
    former = order.replace("order", "unmask") + '[[exclude]]\nunmask = "random"\nlength = 64\n'
    with pytest.warns(DeprecationWarning, match="option unmask is order now"):
        assert load(tmp_path, former).points == now.points
    assert len(now.points) == 12


def test_the_rule_that_a_model_ships_with_is_written_out_in_its_points(tmp_path):
    lines = '[[lines]]\nbackbone = "{}"\nsampler = "block-cache"\naccept = ["shipped", "fixed"]\n'
    head = VALID.split("[[lines]]")[0]
    shipped, fixed = load(tmp_path, head + lines.format("sdar")).points[::2]
    assert shipped.options["accept"] == "strict"
    assert (shipped.options["threshold"], shipped.options["block_size"]) == (0.85, 4)
    assert "accept" not in fixed.options
    with pytest.raises(ConfigError, match="accept: 'shipped' is not known of backbone 'diffutran'"):
        load(tmp_path, head + lines.format("diffutran"))
