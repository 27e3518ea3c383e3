"""Prompts of a file: what a line may be, which prompt a sequence takes, and MASK among them."""

import json

import pytest
import torch
from support.cases import ADAPTIVE, RULES, adaptive, samplers
from support.reference import lively_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from dlm_bench import ConfigError, build_sampler, load_prompts
from dlm_bench.models.hf.tokenizer import encoder
from dlm_bench.samplers.prompt import Prompts
from dlm_bench.samplers.prompt_file import find_prompts
from dlm_bench.samplers.schedule import DecodeShape

LENGTH, BLOCK = 13, 8
SAMPLERS = samplers(block_size=BLOCK, tokens_per_step=3)
DECODES = ("full", "dual", "prefix", "separate", "fused", "none", "ar")
THREE = Prompts("three@0", ((1, 2, 3), (4, 5, 6, 7, 8), (9,)), ("a", "b", "c"))


def written(tmp_path, *lines):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_line_is_a_text_by_its_bytes_or_token_ids(tmp_path):
    path = written(tmp_path, '{"name": "x", "text": "aé"}', "", '{"tokens": [5, 0]}')
    found = load_prompts(path)
    assert found.ids == ((97, 195, 169), (5, 0))
    assert found.names == ("x", "2")
    assert found.label.startswith("mine@")


def test_the_label_changes_with_the_content(tmp_path):
    one = load_prompts(written(tmp_path, '{"text": "a"}')).label
    assert load_prompts(written(tmp_path, '{"text": "a"}')).label == one
    assert load_prompts(written(tmp_path, '{"text": "b"}')).label != one


def test_a_byte_order_mark_and_windows_line_ends_are_no_damage(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n{"tokens": [1]}\r\n')
    assert load_prompts(path).ids == ((97,), (1,))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{}", "line 1 is no prompt \\(must have either text or tokens\\)"),
        ('{"text": "a", "tokens": [1]}', "must have either text or tokens"),
        ('{"text": ""}', "line 1 is no prompt \\(text: must not be empty\\)"),
        ('{"tokens": []}', "line 1 is no prompt \\(tokens: must not be empty\\)"),
        ('{"tokens": [-1]}', "tokens.0"),
        ('{"prompt": "a"}', "\\(prompt: no such field\\)"),
        ("a text", "line 1 is no prompt"),
        ("", "has no line"),
    ],
)
def test_a_wrong_line_is_one_line_with_its_number(tmp_path, line, said):
    with pytest.raises(ConfigError, match=said) as error:
        load_prompts(written(tmp_path, line))
    assert "\n" not in str(error.value)


def test_a_missing_file_names_the_one_of_this_package():
    with pytest.raises(ConfigError, match=r"prompts: 'nowhere': No such file.*: shipped"):
        load_prompts("nowhere")


def test_the_shipped_prompts_are_code_mathematics_prose_and_tables():
    found = load_prompts("shipped")
    kinds = [name.partition(":")[0] for name in found.names]
    assert sorted(set(kinds)) == ["code", "mathematics", "prose", "table"]
    assert 12 <= len(kinds) <= 16
    assert len({*found.ids}) == len(kinds)
    texts = [json.loads(line)["text"] for line in find_prompts("shipped").open()]
    assert [bytes(ids).decode("ascii") for ids in found.ids] == texts


def test_a_file_of_the_name_shipped_goes_first(tmp_path):
    (tmp_path / "shipped").write_text('{"text": "a"}\n')
    assert find_prompts("shipped", tmp_path) == tmp_path / "shipped"


def test_a_sequence_takes_the_prompt_of_its_seed_counted_round():
    assert [THREE.tokens(seed, 3) for seed in (0, 4)] == [[1, 2, 3], [6, 7, 8]]
    assert THREE.drawn(range(1, 5)) == ["b", "c", "a", "b"]


def test_a_longer_prompt_keeps_its_end_and_a_shorter_one_follows_those_before_it():
    assert THREE.tokens(1, 2) == [7, 8]
    assert THREE.tokens(2, 7) == [3, 4, 5, 6, 7, 8, 9]
    assert THREE.tokens(0, 11) == [2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]


def test_the_length_is_that_asked_for_or_of_the_shortest_prompt_of_the_batch():
    assert DecodeShape(8).after(THREE, 0).prompt_len == 3
    assert DecodeShape(8, batch=2).after(THREE, 0).prompt_len == 3
    assert DecodeShape(8, batch=2).after(THREE, 1).prompt_len == 1
    assert DecodeShape(8, 4, batch=2).after(THREE, 1).prompt_len == 4


@pytest.mark.parametrize("name", ["separate", "full", "ar"])
def test_rows_of_a_batch_decode_after_the_prompts_of_their_seeds(name):
    model = lively_model("ar-mamba" if name == "ar" else "diffumamba-h", layers=2)
    sampler = SAMPLERS[name]
    shape = DecodeShape(LENGTH, batch=3).after(load_prompts("shipped"), 14)
    state = sampler.prepare_shape(model, shape, 14)
    sampler.run(model, state)
    rows = [shape.prompts.tokens(seed, shape.prompt_len) for seed in (14, 15, 16)]
    assert state.tokens[:, : shape.prompt_len].tolist() == rows
    for row, prompt in enumerate(rows):
        alone = sampler.decode(model, LENGTH, seed=14 + row, prompt=torch.tensor([prompt]))
        assert torch.equal(state.tokens[row, shape.prompt_len :], alone[0])


def test_an_id_that_is_not_the_models_is_refused():
    model = lively_model("diffutran", layers=1)
    shape = DecodeShape(8).after(Prompts("x@0", ((258,),), ("x",)), 0)
    with pytest.raises(ConfigError, match=r"token 258 of prompt x in x@0 is not allowed; .* 257"):
        build_sampler("full").prepare_shape(model, shape)


# MASK in a prompt.

MASKED = torch.tensor([[7, 257, 8, 257, 257, 9]])


def times_of(model, sampler):
    """The timestep of each pass of a decode after MASKED, and the final state."""
    times, state = [], sampler.prepare(model, LENGTH, prompt=MASKED)
    hook = model.register_forward_pre_hook(lambda module, inputs: times.append(inputs[1]))
    try:
        sampler.run(model, state)
    finally:
        hook.remove()
    return [t if t is None else t.tolist() for t in times], state


@pytest.mark.parametrize("name", DECODES)
def test_mask_in_a_prompt_stays_and_is_not_decoded(name):
    model = lively_model("ar-transformer" if name == "ar" else "diffumamba-h", layers=2)
    _, state = times_of(model, SAMPLERS[name])
    state.check_unmasked()
    assert torch.equal(state.tokens[:, :6], MASKED)
    assert (state.tokens[:, 6:] != 257).all()


@pytest.mark.parametrize(("name", "option"), ADAPTIVE)
def test_mask_in_a_prompt_does_not_count_where_the_model_decides(name, option):
    model = lively_model("diffumamba-h", layers=2)
    sampler = adaptive(name, option, RULES[0], BLOCK)
    times, state = times_of(model, sampler)
    if name == "block-cache":
        assert times[0] == [[0.0]]  # the prefill
        assert times[1] == [[1.0]]
    else:
        assert times[0] == [[pytest.approx(LENGTH / (6 + LENGTH))]]
    state.check_unmasked()
    assert torch.equal(state.tokens[:, :6], MASKED)


# The tokenizer of a folder.


def test_a_text_is_read_by_the_folders_tokenizer_without_special_tokens(tmp_path):
    words = {"the": 0, "cat": 1, "[UNK]": 2}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    path = written(tmp_path, '{"text": "the cat the dog"}', '{"tokens": [1]}')
    assert load_prompts(path, str(tmp_path)).ids == ((0, 1, 0, 2), (1,))


def test_a_folder_without_a_tokenizer_takes_bytes(tmp_path):
    assert encoder(str(tmp_path))("ab") == [97, 98]


def test_a_tokenizer_of_code_is_not_run(tmp_path):
    settings = {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="is code, which is not run; give token ids"):
        encoder(str(tmp_path))


def test_a_broken_tokenizer_is_one_line(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match=r"cannot be read .*; give token ids") as error:
        encoder(str(tmp_path))
    assert "\n" not in str(error.value)
