"""A sampler's options are options of `run`, and a mistake names what was meant."""

import dataclasses
import json
import re

import pytest
import torch

from dlm_bench.cli import main
from dlm_bench.errors import ConfigError, counted
from dlm_bench.models.factory import build_model
from dlm_bench.results.store import read_records
from dlm_bench.samplers import SAMPLERS, SHIPPED_RULE, allowed_names, build_sampler
from dlm_bench.samplers.acceptance.options import unused_options

TINY = ["--size", "tiny", "--device", "cpu", "-L", "32", "--warmup", "0", "--repeats", "1"]


@pytest.fixture
def run(capsys, tmp_path):
    """Exit code, record and stderr of a run."""

    def measured(sampler, *options):
        path = tmp_path / "r.jsonl"
        path.unlink(missing_ok=True)
        command = ["run", "diffutran", sampler, *TINY, *options, "--output", str(path)]
        code = main(command)
        record = read_records(path)[0] if code == 0 else None
        return code, record, capsys.readouterr().err

    return measured


def test_each_option_of_a_sampler_is_an_option_of_run(run):
    code, record, _ = run(
        "block-cache", "--tokens-per-step", "16", "--block-size=16", "--commit", "fused"
    )
    assert code == 0
    chosen = {name: record.point.options[name] for name in ("tokens_per_step", "block_size")}
    assert chosen == {"tokens_per_step": 16, "block_size": 16}
    assert record.point.options["commit"] == "fused"
    assert run("block-cache", "-o", "tokens_per_step=16", "-o", "block_size=16")[1].nfe == 3


def test_help_lists_the_options_of_every_sampler(capsys):
    assert main(["run", "--help"]) == 0
    out = capsys.readouterr().out
    for kind in SAMPLERS.values():
        for field in dataclasses.fields(kind):
            assert f"--{field.name.replace('_', '-')} " in out
    assert "set gamma of full, fast-dllm, block-cache (default: 0.1)" in " ".join(out.split())


def test_an_option_of_rules_that_a_sampler_lacks_is_left_out_of_help_and_refused(run, capsys):
    assert unused_options(SAMPLERS["pipeline"]) == {
        "max_passes",
        "edit_threshold",
        "max_edit_passes",
        "gamma",
    }
    assert unused_options(SAMPLERS["block-cache"]) == unused_options(SAMPLERS["ar"]) == set()
    said = "gamma: 0.5 is not allowed with sampler 'pipeline', whose rules lack it; leave it out"
    assert run("pipeline", "--gamma", "0.5")[2] == f"dlm-bench: {said}\n"
    assert main(["list"]) == 0
    (pipeline,) = [line for line in capsys.readouterr().out.splitlines() if "activate_at=" in line]
    assert "factor=1.0" in pipeline
    assert "gamma=" not in pipeline


def test_help_lists_the_names_that_an_option_takes(capsys):
    assert main(["run", "--help"]) == 0
    out = " ".join(re.sub(r"-\n\s+", "-", capsys.readouterr().out).split())
    rules = "threshold, strict, bounded, joint, entropy, factor, factor-released or shipped"
    for said in (
        f"set accept of full, fast-dllm, block-cache to fixed (default), {rules}; of pipeline to "
        "fixed (default), threshold, strict, factor or shipped; of self-speculation to fixed "
        "(default), agreement or shipped",
        "pipeline to confidence (default), margin, entropy, left-to-right or random",
        "set spread of full to even (default), dream, origin or mdlm",
        "set cache of fast-dllm to dual (default) or prefix",
        "set commit of block-cache to separate (default), fused or none",
        "set batching of block-cache to lockstep (default) or fdfo",
        "set first_token of block-cache to rule (default) or commit",
        "set remask of remdm to cap (default), rescale, conf or loop",
    ):
        assert said in out


def refusal(sampler, option, name):
    try:
        build_sampler(sampler, **{option: name})
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_name_of_an_option_is_one_that_its_sampler_knows(sampler):
    for option, names in allowed_names(sampler).items():
        # Beside the defaults a name may be refused, for another reason.
        found = [refusal(sampler, option, name) for name in {*names} - {SHIPPED_RULE}]
        assert not any("is not known" in text for text in found)
        assert f"{option}: 'xyzzy' is not known" in refusal(sampler, option, "xyzzy")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--mode", "sampled", "--min-time", "3s"],
            "min_time: 3 s is not allowed in mode 'sampled'",
        ),
        (["--token-per-step", "8"], "dlm-bench run: unrecognized arguments: --token-per-step 8"),
        (
            ["--token-per-step", "8"],
            "(did you mean '--tokens-per-step'?) (see dlm-bench run",
        ),
        (
            ["-o", "commit=fused", "-o", "commit=none"],
            "--option: commit is given twice; give it once",
        ),
        (["--xyzzy", "8"], "an option of a plug-in's sampler is -o NAME=VALUE"),
        (["--commit", "fused"], "commit: sampler 'full' has no such option"),
        (["-o", "tokens_per_step=4", "--tokens-per-step", "8"], "tokens_per_step is given by"),
        (["--order", "coin"], "order: 'coin' is not known"),
        (["--accept", "coin"], "entropy, factor, factor-released, shipped"),
    ],
)
def test_a_wrong_option_is_one_line_with_a_hint(options, said, run):
    code, _, err = run("full", *options)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1


def test_the_former_name_of_an_option_is_taken_with_a_warning(run):
    code, record, err = run("full", "--unmask", "random")
    assert (code, record.point.options["order"]) == (0, "random")
    warning = "dlm-bench: warning: option unmask is order now\n"
    assert err == warning
    code, _, err = run("full", "--unmask", "coin")
    assert code == 2
    assert err.startswith(f"{warning}dlm-bench: order: 'coin' is not known")


def test_the_start_of_an_options_name_is_not_the_option(capsys):
    trace = ["trace", "diffutran", "full", "-L", "8", "--output", "t.json"]
    assert main([*trace, "--batch", "4"]) == 2
    assert "unrecognized arguments: --batch 4 (did you mean '--batching'?)" in (
        capsys.readouterr().err
    )


def test_a_command_that_is_none_is_hinted_at(capsys):
    assert main(["swep", "x.toml"]) == 2
    assert "'swep' is not known (did you mean 'sweep'?)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "meant"), [("h100", "'h100-sxm' or 'h100-pcie'"), ("RTX", "'rtx-4090'")]
)
def test_hardware_is_found_by_how_it_begins(given, meant, capsys):
    assert main(["cost", "--hardware", given]) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_accepting_by_confidence_with_random_weights_is_warned_of_in_one_line(run):
    code, record, err = run("full", "--accept", "threshold")
    assert code == 0
    assert record.nfe == 32
    (line,) = err.splitlines()
    assert line.startswith("dlm-bench: warning: accept=threshold on random weights")
    assert "the fewest tokens that the rule allows, or by a loose limit most of a block" in line
    assert not run("full")[2]


def test_options_have_the_names_of_other_harnesses_too(run):
    names = ["--output-len", "24", "--input-len", "4", "--batch-size", "2", "-r", "3", "-w", "1"]
    code, record, _ = run("full", *names)
    assert code == 0
    assert (record.point.length, record.point.prompt_len, record.point.batch) == (24, 4, 2)
    assert (record.repeats, record.warmup) == (3, 1)


AUTO = ["run", "diffutran", "full", "--size", "tiny", "-L", "8", "-r", "1", "-w", "0"]


def test_the_device_is_chosen_and_said_in_the_first_line(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(AUTO) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "device: cpu; no CUDA device is here"
    assert not err
    assert main([*AUTO, "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "device: cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU is here")
def test_a_gpu_is_preferred_where_there_is_one(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert main(AUTO) == 2
    assert "device: 'cuda' is not here" in capsys.readouterr().err


def test_json_is_alone_on_standard_output(capsys):
    assert main([*AUTO, "--device", "cpu", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["status"] == "ok"
    assert err == "device: cpu\n"


@pytest.mark.parametrize("before", [True, False])
def test_quiet_leaves_results_and_errors(before, capsys):
    unsure = [*AUTO, "--device", "cpu", "-o", "accept=threshold"]
    assert main(unsure) == 0
    assert "warning: accept=threshold on random weights" in capsys.readouterr().err
    assert main(["--quiet", *unsure] if before else [*unsure, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("point ")
    assert not err
    assert main([*AUTO, "--device", "cpu", "--quiet", "--order", "coin"]) == 2
    assert "order: 'coin' is not known" in capsys.readouterr().err


def test_prompts_of_a_file_are_in_the_record(run, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"name": "x", "text": "one"}\n{"tokens": [5, 257, 7, 8, 9]}\n')
    code, record, _ = run("block-cache", "--prompts", str(path))
    assert code == 0
    assert record.point.prompts.startswith("mine@")
    assert record.point.prompt_len == 3
    assert record.prompt_file == {"prompts": 2, "drawn": ["x"]}
    longer = ["--prompts", str(path), "--seed", "1", "--prompt-len", "9", "--batch", "2"]
    code, record, _ = run("full", *longer)
    assert code == 0
    assert (record.point.prompt_len, record.prompt_file["drawn"]) == (9, ["2", "x"])
    assert record.output["masked_left"] == 0


def test_a_decode_to_the_ends_of_texts_says_so(run):
    code, record, _ = run("block-cache", "--stop-at-eos", "--batch", "2")
    assert code == 0
    assert record.point.stop_at_eos
    assert record.generated == 64
    assert 0 < record.tokens_to_eos == record.timed_tokens <= 64
    assert run("block-cache")[1].generated is None


def test_lines_of_a_decode_to_the_ends_of_texts_name_the_tokens_that_they_count(
    capsys, monkeypatch
):
    options = {"block_size": 8, "tokens_per_step": 4}
    sampler = build_sampler("block-cache", **options)
    tokens = sampler.decode(build_model("diffutran", "tiny", seed=0), 32, 2, seed=0).tolist()
    eos = tokens[0][10]
    monkeypatch.setattr("dlm_bench.samplers.ends.eos_of", lambda _: eos)
    to_eos = [row.index(eos) + 1 if eos in row else 32 for row in tokens]
    blocks = -(-max(to_eos) // 8)
    passes, commits = 2 * blocks, blocks - 1
    command = ["run", "diffutran", "block-cache", *TINY, "--batch", "2", "--stop-at-eos"]
    assert main([*command, "--block-size", "8", "--tokens-per-step", "4"]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
    assert said["throughput"].endswith(" tokens/s to end of text")
    assert said["end"] == f"of text  {sum(to_eos)} of {16 * blocks} tokens generated"
    each, whole = sum(to_eos) / 2 / passes, 16 * blocks / (passes + commits)
    assert each < 4  # as if nothing ended
    assert said["acceptance"].startswith(f"{each:.4g} tokens to end of text per pass, ")
    assert f"{whole:.4g} tokens generated per forward, 0.0% waited" in said["batch"]


def test_sampled_timing_says_the_rounds_that_its_spread_is_of(capsys, tmp_path):
    path = tmp_path / "r.jsonl"
    where = ["run", "diffutran", "block-cache", *TINY, "--mode", "sampled", "--tolerance", "50%"]
    assert main([*where, "--output", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    record = read_records(path)[0]
    assert f"sampled, 0 warm-up, {counted(len(record.seconds), 'round')};" in said
    assert ("standard deviation" in said) == (len(record.seconds) > 1)


def test_a_wrong_file_of_prompts_is_one_line_before_the_weights(run, tmp_path):
    code, _, err = run("full", "--prompts", str(tmp_path))
    assert code == 2
    assert err.splitlines() == [
        f"dlm-bench: prompts: {str(tmp_path)!r}: Is a directory; the file of this package: shipped"
    ]
