"""`dlm-bench trace`, and its files in runs and sweeps."""

import json
import re
import warnings

import pytest
import torch
from support.traces_recorded import record, refused

from dlm_bench import build_sampler, load_prompts, save_checkpoint
from dlm_bench.cli import main
from dlm_bench.cli.sweep_results import warn_of_random_weights
from dlm_bench.models.factory import build_model
from dlm_bench.results.store import read_records
from dlm_bench.samplers.acceptance.adaptive import decode_until_done
from dlm_bench.samplers.acceptance.trace import load_trace
from dlm_bench.sweep.load import load_sweep

pytestmark = pytest.mark.process


def test_every_prompt_of_a_file_is_a_sequence_of_the_trace(tmp_path, capsys):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "abc"}\n{"text": "abcdefgh"}\n{"tokens": [1]}\n')
    record(tmp_path / "t.json", "--threshold", "0.02", "--prompts", str(path), "--seed", "1")
    found = load_trace(tmp_path / "t.json")
    assert (found.prompts, found.batch, found.seed) == (load_prompts(path).label, 1, 1)
    model = build_model("diffutran", "tiny", seed=1)
    sampler = build_sampler("block-cache", block_size=8, accept="threshold", threshold=0.02)
    for sequence, text in zip(found.sequences, ("abcdefgh", "\1", "abc"), strict=True):
        prompt = torch.tensor([list(text.encode())])
        state = sampler.prepare(model, 32, prompt=prompt)
        assert sequence == decode_until_done(sampler, model, state)[0]
    # A run after the same prompts takes the passes of each.
    replay = [
        "diffutran",
        "block-cache",
        "-L",
        "32",
        "--size",
        "tiny",
        "--device",
        "cpu",
        "-w",
        "0",
    ]
    replay += [
        "--prompts",
        str(path),
        "--seed",
        "3",
        "--trace",
        str(tmp_path / "t.json"),
        "-r",
        "1",
    ]
    assert main(["run", *replay, "-o", "block_size=8", "--output", str(tmp_path / "r.jsonl")]) == 0
    (measured,) = read_records(tmp_path / "r.jsonl")
    assert measured.decoding_passes == sum(map(len, found.sequences[2]))


def test_a_trace_is_of_the_rule_that_was_asked_for_and_says_its_tokens_per_pass(folder, capsys):
    record(folder / "c.json", "--accept", "factor", "--factor", "3")
    trace = load_trace(folder / "c.json")
    assert trace.options["accept"] == "factor"
    assert (trace.options["factor"], trace.options["block_size"]) == (3.0, 8)
    out = capsys.readouterr().out
    assert f"{trace.tokens_per_pass:.4g} tokens per pass" in out
    assert trace.label in out
    record(folder / "d.json")
    assert load_trace(folder / "d.json").options["threshold"] == 0.9


@pytest.mark.parametrize(
    ("sampler", "length", "said"),
    [
        ("full", "1", "1 token per pass (1 to 1): 1 pass over 1 block for 1 token"),
        ("self-speculation", "1", "1 token per pair of passes (1 to 1): 1 pair for 1 token"),
    ],
)
def test_a_trace_counts_passes_or_pairs_of_them(tmp_path, capsys, sampler, length, said):
    where = ["trace", "diffutran", sampler, "-L", length, "--size", "tiny", "--device", "cpu"]
    assert main([*where, "--output", str(tmp_path / "t.json")]) == 0
    assert said in capsys.readouterr().out.splitlines()


def test_a_trace_of_a_checkpoint_names_it(folder):
    model = build_model("diffutran", "tiny", seed=5)
    save_checkpoint(model, folder / "w.safetensors")
    record(folder / "e.json", "--checkpoint", str(folder / "w.safetensors"))
    assert len(load_trace(folder / "e.json").checkpoint) == 16


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "accept=factor"], "--option: accept=factor is not allowed; --accept says it"),
        (["-o", "threshold=1", "--threshold", "1"], "--option: threshold=1"),
        (["--accept", "threshold", "--factor", "2"], "factor: 2.0 is not allowed"),
        (["--threshold", "1.5"], "threshold: 1.5"),
        (["--length", "0"], "length: 0"),
        (["--prompt-len", "-1"], "prompt_len: -1"),
        (["-o", "trace=x.json"], "trace: 'x.json' is not allowed with accept 'threshold'"),
    ],
)
def test_a_trace_that_cannot_be_recorded_is_one_line(folder, capsys, arguments, said):
    where = ["trace", "diffutran", "block-cache", "-L", "8", "--size", "tiny", "--device", "cpu"]
    assert said in refused(capsys, *where, *arguments, "--output", folder / "x.json")
    assert not (folder / "x.json").exists()


def test_a_trace_says_after_how_long_a_prompt_it_was_recorded(folder):
    record(folder / "p.json", "--threshold", "0.05", "--prompt-len", "20")
    record(folder / "n.json", "--threshold", "0.05")
    after, without = (load_trace(folder / name) for name in ("p.json", "n.json"))
    assert (after.prompt_len, without.prompt_len) == (20, 0)
    assert after.accepted != without.accepted
    earlier = json.loads((folder / "n.json").read_text())
    del earlier["prompt_len"]
    (folder / "earlier.json").write_text(json.dumps(earlier))
    assert load_trace(folder / "earlier.json") == without


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (["ar-mamba", "ar"], "sampler: 'ar' has no trace; each of its passes is a token's"),
        (["diffutran", "remdm"], "sampler: 'remdm' has no trace; its passes mask tokens again"),
    ],
)
def test_a_sampler_without_a_trace_says_why(folder, capsys, model, why):
    where = ["trace", *model, "-L", "8", "--size", "tiny", "--device", "cpu"]
    assert why in refused(capsys, *where, "--output", folder / "x.json")


def test_a_trace_of_self_speculation_is_of_agreement_asked_for_or_not(tmp_path):
    where = ["diffutran", "self-speculation", "-L", "8", "--size", "tiny", "--device", "cpu"]
    paths = [tmp_path / "usual.json", tmp_path / "asked.json"]
    assert main(["trace", *where, "--output", str(paths[0])]) == 0
    assert main(["trace", *where, "--accept", "agreement", "--output", str(paths[1])]) == 0
    usual, asked = map(load_trace, map(str, paths))
    assert usual.options["accept"] == "agreement"
    assert asked == usual


def test_help_names_the_samplers_whose_passes_can_be_recorded(capsys):
    assert main(["trace", "--help"]) == 0
    said = "decode with full, fast-dllm, block-cache, pipeline or self-speculation"
    assert said in " ".join(re.sub(r"-\n\s+", "-", capsys.readouterr().out).split())


@pytest.mark.parametrize(("rule", "warned"), [("shipped", False), ("threshold", True)])
def test_a_trace_of_passes_that_are_fixed_is_not_warned_of(tmp_path, capsys, rule, warned):
    where = ["trace", "llada", "full", "-L", "8", "--size", "tiny", "--device", "cpu"]
    assert main([*where, "--accept", rule, "--output", str(tmp_path / "x.json")]) == 0
    assert ("on random weights" in capsys.readouterr().err) == warned
    passes = load_trace(tmp_path / "x.json").accepted
    assert warned or set(passes[0]) == {1}


@pytest.mark.parametrize(("options", "warned"), [("", False), ('accept = "agreement"\n', True)])
def test_a_sweep_warns_of_random_weights_where_they_decide_the_passes(tmp_path, options, warned):
    path = tmp_path / "s.toml"
    path.write_text(
        'name = "s"\nsize = "tiny"\nlengths = 8\n[[lines]]\nbackbone = "diffutran"\n'
        f'sampler = "self-speculation"\n{options}'
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_random_weights(load_sweep(path))
    assert ["accept=agreement on random weights" in str(each.message) for each in caught] == (
        [True] * warned
    )
