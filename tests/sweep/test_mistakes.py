"""Mistakes of a sweep file: all at once, each in a line with its place."""

import pytest
from support.sweep_files import VALID, load

from dlm_bench.errors import ConfigError
from dlm_bench.samplers.acceptance.trace import Trace, save_trace
from dlm_bench.sweep.mistakes import Mistakes


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lengths = [64, 128]", "lenghts = [64]\nlengths = [64]", "did you mean 'lengths'"),
        ("tokens_per_step", "tokens_per_stp", r"lines\[0\]: tokens_per_stp: .*tokens_per_step"),
        ('"fused"', '"fusd"', r"commit: 'fusd' .*did you mean 'fused'"),
        ('"diffutran", ', '"diffutan", ', r"backbone: 'diffutan' .*did you mean 'diffutran'"),
        ('"diffutran", ', '"ar-mamba", ', r"'ar-mamba' does not decode with .*'block-cache'"),
        ('"block-cache"', '"block-cash"', r"sampler: 'block-cash'"),
        ("[8, 16]", "[8, 64]", r"tokens_per_step: 64 .*at most block_size \(32\)"),
        ("[8, 16]", "[]", "tokens_per_step: an empty list"),
        ("[8, 16]", '"8"', "tokens_per_step: '8' is not allowed"),
        ("[64, 128]", "[64, -128]", r"lengths\[1\]: -128 is not allowed"),
        ("[64, 128]", "[]", "lengths"),
        ("[64, 128]", "[99999999999999999999]", r"lengths\[0\]: 9+ is not allowed"),
        ("commit =", "name =", r"lines\[0\]: name: sampler 'block-cache' has no such option"),
        ("[64, 128]", "[64.5]", r"lengths\[0\]: 64.5 is not allowed"),
        ('"tiny"', '"huge"', "size: 'huge'"),
        ('"float32"', '"int8"', "dtype: 'int8'"),
        ('name = "test"', "", "name: missing"),
        ('name = "test"', 'name = "test"\ndevice = "meta"', "device: 'meta' has no weights"),
        ('name = "test"', 'name = "../test"', "name: '../test' is not allowed"),
        ('name = "test"', 'name = "test"\nmode = "exakt"', "mode: 'exakt' is not allowed"),
        (
            'name = "test"',
            'name = "test"\nmode = "sampled"\nsoak = 9',
            ":4: soak: 9 s is not allowed in",
        ),
        (
            'name = "test"',
            'name = "test"\nmin_time = 3\nmode = "sampled"',
            ":3: min_time: 3 s is not",
        ),
        ('name = "test"', 'name = "test"\nrepeats = 0', "repeats: 0 is not allowed"),
        ('name = "test"', 'name = "test"\nrepeats = 99999', "repeats: 99999 is not allowed"),
        ('name = "test"', 'name = "test"\ntimeout = -1', "timeout: -1 is not allowed"),
        ('name = "test"', 'name = "test"\ntimeout = true', "timeout: True is not allowed"),
        ('name = "test"', 'name = "test"\nmemory_limit = 8', "memory_limit: 8 is not .* 512MiB"),
        ('name = "test"', 'name = "test"\nmemory_limit = "0GiB"', "'0GiB' is not allowed"),
        ('name = "test"', 'name = "test"\ndevice = "tpu"', "device: 'tpu'"),
        ("[[lines]]", "[lines]", "lines"),
        ("[[lines]]", "[[lines", "not valid TOML"),
    ],
)
def test_a_mistake_is_named_in_one_line_before_anything_runs(tmp_path, old, new, message):
    assert old in VALID
    with pytest.raises(ConfigError, match=message) as error:
        load(tmp_path, VALID.replace(old, new, 1))
    assert "\n" not in str(error.value)


MANY = """name = "test"
size = "tiny"
lengths = 32
mode = "exakt"
commit = "fused"

[[line]]
backbone = "diffutran"
sampler = "block-cache"
comit = "fused"
nodes = 3
block_size = -1

[[line]]
backbon = "diffutrn"
sampler = ["full", "ful"]
batchs = 3
"""


def test_all_mistakes_of_a_file_are_told_at_once_each_with_its_line(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, MANY)
    told = [line.removeprefix(f"{tmp_path / 's.toml'}:") for line in str(error.value).splitlines()]
    wanted = [
        ("4: mode: 'exakt' ", "did you mean 'exact'"),
        ("5: commit: no such key", "a sampler stands in a line"),
        ("7: line: no such key", "did you mean 'lines'"),
        ("10: lines[0]: comit: ", "did you mean 'commit'"),
        ("11: lines[0]: nodes: ", "stands above the first [[lines]]"),
        ("12: lines[0]: block_size: -1 is not allowed", ""),
        ("14: lines[1]: backbone: 'diffutrn'", "did you mean 'diffutran'"),
        ("15: lines[1]: backbon: no such key", "did you mean 'backbone'"),
        ("16: lines[1]: sampler: 'ful'", "did you mean 'full'"),
        ("17: lines[1]: batchs: ", "did you mean 'batch'"),
    ]
    assert len(told) == len(wanted)
    for text, (start, hint) in zip(told, wanted, strict=True):
        assert text.startswith(start)
        assert hint in text


def test_a_long_list_of_mistakes_ends(tmp_path):
    lines = "".join(f'[[lines]]\nbackbone = "b{n}"\nsampler = "full"\n' for n in range(30))
    with pytest.raises(ConfigError) as error:
        load(tmp_path, f'name = "t"\nsize = "tiny"\nlengths = 8\n{lines}')
    told = str(error.value).splitlines()
    assert len(told) == 21
    assert told[-1].endswith("s.toml: 10 more")


def test_a_mistake_stands_at_the_line_of_its_field_however_its_text_begins():
    mistakes = Mistakes("s.toml", {("lines", 0): 3, ("lines", 0, "commit"): 5})
    mistakes.note(ConfigError("none of these can be fused", field="commit"), "lines", 0)
    with pytest.raises(ConfigError, match=r"^s\.toml:5: lines\[0\]: none of these"):
        mistakes.end()


def test_a_wrong_value_above_the_groups_is_told_by_its_own_key_and_says_for_which_group(tmp_path):
    groups = "".join(
        f'[[lines]]\nbackbone = "diffutran"\nsampler = "full"\n{size}'
        for size in ('size="tiny"\n', "")
    )
    with pytest.raises(ConfigError) as error:
        load(tmp_path, f'name = "t"\nsize = "hug"\nlengths = 8\n{groups}')
    (told,) = str(error.value).splitlines()
    assert told.startswith(f"{tmp_path / 's.toml'}:2: size: 'hug' is not known")
    assert told.endswith(" (in lines[1])")


def test_what_is_missing_is_told_in_one_line(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, "\n")
    assert str(error.value).endswith("name, size, lengths, lines: missing; every sweep needs them")


SINGLE = """name = "single"
size = "tiny"
lengths = 16
[[lines]]
batch = [1, 2]
backbone = "diffutran"
sampler = "pipeline"
trace = "pipeline.json"
[[lines]]
batch = [1, 2]
backbone = "llada"
sampler = "self-speculation"
trace = "self-speculation.json"
[[lines]]
batch = [1, 2]
backbone = "diffumamba"
sampler = "pipeline"
accept = "threshold"
"""


def test_a_batch_that_a_sampler_refuses_is_a_mistake_before_anything_runs(tmp_path):
    blocks = Trace.by_hand([[[4, 4], [8]], [[8], [8]]], 8, sampler="pipeline")
    pairs = Trace.by_hand([[[4, 4, 8]], [[8, 8]]], None, sampler="self-speculation")
    for trace in (blocks, pairs):
        save_trace(trace, tmp_path / f"{trace.sampler}.json")
    with pytest.raises(ConfigError) as error:
        load(tmp_path, SINGLE)
    of_trace, of_pairs, of_rule = str(error.value).splitlines()
    for said, sampler in ((of_trace, "pipeline"), (of_pairs, "self-speculation")):
        assert f"batch: 2 is not allowed with sampler '{sampler}' and trace" in said
        assert "must be 1, or replay a trace of one sequence" in said
    assert "batch: 2 is not allowed with sampler 'pipeline' and accept 'threshold'" in of_rule
    with pytest.warns(UserWarning, match="3 points left out that cannot be"):
        found = load(tmp_path, "skip_impossible = true\n" + SINGLE)
    assert [point.batch for point in found.points] == [1, 1, 1]


def test_a_prompt_of_other_ids_than_the_models_is_a_mistake_before_anything_runs(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"tokens": [257]}\n{"name": "x", "tokens": [1, 464]}\n')
    asked = VALID + 'prompts = "mine.jsonl"\n'
    with pytest.raises(ConfigError, match=r"token 464 of prompt x in mine@\w+ .* from 0 to 257"):
        load(tmp_path, asked)
    assert load(tmp_path, asked.replace("tiny", "small")).points
