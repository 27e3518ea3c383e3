"""The choice of a sweep's points: --only, --set, [[exclude]] and skip_impossible."""

import warnings

import pytest
from support.sweep_files import VALID, load

from dlm_bench.cli import main
from dlm_bench.errors import ConfigError
from dlm_bench.sweep.load import load_sweep

PAIRS = VALID.replace('sampler = "block-cache"', 'sampler = ["block-cache", "ar"]').replace(
    'tokens_per_step = [8, 16]\ncommit = "fused"\n', ""
)
HEAD = 'dtype = "float32"\n'
TWO_GROUPS = (
    VALID.replace('tokens_per_step = [8, 16]\ncommit = "fused"\n', "")
    + '\n[[lines]]\nbackbone = "ar-mamba"\nsampler = "ar"\n'
)


def loaded(tmp_path, text=VALID, **options):
    path = tmp_path / "s.toml"
    path.write_text(text)
    return load_sweep(path, **options)


def test_only_keeps_the_points_that_meet_all_conditions(tmp_path):
    sweep = loaded(tmp_path, only="backbone=*mamba p=16 length>64")
    (point,) = sweep.points
    assert (point.backbone, point.options["tokens_per_step"], point.length) == (
        *("diffumamba", 16),
        128,
    )


def test_only_that_matches_nothing_is_a_mistake(tmp_path):
    with pytest.raises(ConfigError, match="--only: 'length>128' matches none of 8 points"):
        loaded(tmp_path, only="length>128")


def test_set_gives_values_to_the_file_and_to_all_groups(tmp_path):
    text = VALID + "lengths = [32]\n"
    sweep = loaded(tmp_path, text, settings={"lengths": [256, 512], "repeats": 9})
    assert {point.length for point in sweep.points} == {256, 512}
    assert sweep.measuring.repeats == 9


def test_set_gives_all_groups_a_backbone_and_a_sampler(tmp_path):
    sweep = loaded(tmp_path, TWO_GROUPS, settings={"backbone": "diffumamba", "sampler": "full"})
    assert {(point.backbone, point.sampler) for point in sweep.points} == {("diffumamba", "full")}
    with pytest.raises(ConfigError, match="backbone: 'nobody' is not known"):
        loaded(tmp_path, TWO_GROUPS, settings={"backbone": "nobody"})


def test_a_key_that_no_sweep_file_has_cannot_be_set(tmp_path):
    with pytest.raises(ConfigError, match=r"repeat: no such key .*did you mean 'repeats'"):
        loaded(tmp_path, settings={"repeat": 9})


@pytest.mark.parametrize(
    ("table", "left"),
    [
        ('backbone = "*mamba"', 4),
        ('backbone = "*mamba"\nlength = 128', 6),
        ("tokens_per_step = [8, 16]", 0),
        ('sampler = "full"', 8),
        ('p = 8\nbackbone = ["diffutran", "diffumamba"]', 4),
    ],
)
def test_an_exclude_table_leaves_out_the_points_with_all_its_values(tmp_path, table, left):
    text = VALID.replace(HEAD, f"{HEAD}[[exclude]]\n{table}\n", 1)
    text = text.replace("lengths = [64, 128]\n", "").replace(
        'size = "tiny"', 'size = "tiny"\nlengths = [64, 128]'
    )
    if not left:
        with pytest.raises(ConfigError, match="none is left of 0 points"):
            load(tmp_path, text)
    else:
        assert len(load(tmp_path, text).points) == left


def test_a_pair_that_cannot_be_may_be_excluded_or_skipped_with_a_count(tmp_path):
    with pytest.raises(ConfigError, match="'diffutran' does not decode with sampler 'ar'"):
        load(tmp_path, PAIRS)
    excluding = PAIRS.replace("[[lines]]", '[[exclude]]\nsampler = "ar"\n[[lines]]')
    assert len(load(tmp_path, excluding).points) == 4
    with pytest.warns(UserWarning, match="4 points left out that cannot be"):
        sweep = load(tmp_path, PAIRS.replace(HEAD, HEAD + "skip_impossible = true\n"))
    assert len(sweep.points) == 4


def test_what_can_be_is_left_out_by_nobody(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep = load(tmp_path, VALID.replace(HEAD, HEAD + "skip_impossible = true\n"))
    assert len(sweep.points) == 8


def test_a_misspelt_key_of_an_exclude_table_is_a_mistake_in_its_line(tmp_path):
    text = VALID.replace("[[lines]]", '[[exclude]]\nbackbon = "x"\n[[lines]]')
    with pytest.raises(ConfigError, match=r":8: exclude\[0\]: backbon: .*did you mean 'backbone'"):
        load(tmp_path, text)


def test_the_command_line_passes_both_on(tmp_path, capsys):
    path = tmp_path / "s.toml"
    path.write_text(VALID)
    options = ["--only", "p=8", "--set", "lengths=32,96", "--set", "mode=sampled"]
    assert main(["sweep", str(path), "--dry-run", *options]) == 0
    out = capsys.readouterr().out
    assert "4 points, sampled" in out
    assert " 96 " in out
    assert main(["sweep", str(path), "--dry-run", "--set", "lengths"]) == 2
    assert "--set: 'lengths' is not allowed; must be KEY=VALUE" in capsys.readouterr().err


def test_set_gives_a_samplers_option_to_every_sampler_that_has_it(tmp_path):
    text = VALID + '\n[[lines]]\nbackbone = "ar-mamba"\nsampler = "ar"\n'
    text += '\n[[lines]]\nbackbone = "diffutran"\nsampler = "full"\n'
    sweep = loaded(tmp_path, text, settings={"sampler.tokens_per_step": [2, 4]})
    by_sampler = {name: [] for name in ("block-cache", "ar", "full")}
    for point in sweep.points:
        by_sampler[point.sampler].append(point.options.get("tokens_per_step"))
    assert {name: sorted({*map(str, found)}) for name, found in by_sampler.items()} == {
        "block-cache": ["2", "4"],
        "ar": ["None"],
        "full": ["2", "4"],
    }
    assert len(by_sampler["ar"]) == 2, "a length each, and not one for each value"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tokens_per_stop", 4, "sampler.tokens_per_stop: no sampler here has this option .did you"),
        ("tokens_per_step", 0, r"lines\[0\]: tokens_per_step: 0 is not allowed"),
    ],
)
def test_a_wrong_option_of_samplers_is_a_mistake(tmp_path, name, value, message):
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, settings={f"sampler.{name}": value})
