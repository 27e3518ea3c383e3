"""`sweep --dry-run`: passes on any machine, and what a sweep takes on other hardware."""

import re

import pytest
import torch
from support.processes import quick_plan

from dlm_bench.cli import main, sweep_results
from dlm_bench.cost.roofline import decode_floor, find_hardware
from dlm_bench.models.config import model_config
from dlm_bench.results.record import Record
from dlm_bench.samplers import build_sampler
from dlm_bench.samplers.acceptance.trace import Trace, save_trace
from dlm_bench.sweep.cost import sweep_seconds_text
from dlm_bench.sweep.planning import make_plan

SWEEP = """
name = "there"
size = "240m"
device = "cuda"
mode = "{mode}"
graphs = "require"
lengths = [1024, 4096]

[[lines]]
backbone = "diffutran"
sampler = "full"
tokens_per_step = 8
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(SWEEP.format(mode="exact"))
    return path


@pytest.mark.process
@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU is here")
def test_a_sweep_for_a_gpu_is_counted_on_a_machine_without_one(path, capsys, monkeypatch):
    monkeypatch.chdir(path.parent)
    assert main(["sweep", str(path), "--dry-run"]) == 0
    out, _ = capsys.readouterr()
    assert "4,096" in out
    assert "512" in out
    assert "device 'cuda:0' is not here" in out
    assert main(["sweep", str(path)]) == 2
    assert "is not here" in capsys.readouterr().err
    assert [*path.parent.iterdir()] == [path]


def seconds(text):
    number, unit = re.match(r"at least ([\d.]+) (s|min|h) ", text).groups()
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def test_other_hardware_says_what_all_decodes_take_at_least(path, capsys):
    hardware = find_hardware("h100-sxm")
    sampler = build_sampler("full", tokens_per_step=8)
    config = model_config("diffutran", "240m")
    floors = [decode_floor(config, sampler, n, hardware, dtype="bfloat16") for n in (1024, 4096)]
    assert main(["sweep", str(path), "--dry-run", "--hardware", "h100-sxm"]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.endswith("for 2 points on h100-sxm, by its roofline")
    assert seconds(told) == pytest.approx((3 + 5) * sum(floors), rel=0.05)


@pytest.mark.parametrize(
    ("keys", "least", "rest"),
    [
        ("", 60, ""),
        ("soak = 100\n", 120, "; 4.3 min if 2 points take all of max_seconds or soak"),
        ("tolerance = 0.01\n", 60, "; 1.7 min if 2 points take all of max_seconds or soak"),
    ],
)
def test_least_times_of_whole_decodes_are_a_part_of_the_prediction(path, keys, least, rest):
    path.write_text(f"min_warmup = 20\nmin_time = 10\n{keys}" + SWEEP.format(mode="exact"))
    text = sweep_seconds_text(make_plan(path, on_this_machine=False), find_hardware("h100-sxm"))
    assert seconds(text) == pytest.approx(least, rel=0.1), "two points; their decodes take little"
    assert text.endswith(f"by its roofline{rest}")


def test_sampled_points_take_their_max_seconds_at_most(path):
    path.write_text(SWEEP.format(mode="sampled"))
    plan = make_plan(path, on_this_machine=False)
    text = sweep_seconds_text(plan, find_hardware("h100-sxm"))
    assert seconds(text) == pytest.approx(2, rel=0.1), "a second each, the least of sampling"
    assert "60 s if 2 sampled points take all of max_seconds" in text


CPU = """
name = "here"
size = "tiny"
lengths = [64]
memory_limit = "64MiB"

[[lines]]
backbone = "diffutran"
sampler = "full"
"""


def test_a_sweep_in_another_precision_is_predicted_in_that_of_the_hardware(path, capsys):
    path.write_text(CPU)
    assert main(["sweep", str(path), "--dry-run", "--hardware", "h100-sxm"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].endswith(
        "for 1 point on h100-sxm, by its roofline; in bfloat16, as the peak of h100-sxm is, where "
        "the sweep asks for float32"
    )
    assert not err


def test_hardware_that_is_not_known_is_told_before_anything_is_printed(path, capsys):
    assert main(["sweep", str(path), "--dry-run", "--hardware", "h10"]) == 2
    out, err = capsys.readouterr()
    assert "hardware: 'h10' is not known" in err
    assert not out


def test_a_dry_run_says_that_no_worker_was_started_under_the_memory_limit(path, capsys):
    path.write_text(CPU)
    assert main(["sweep", str(path), "--dry-run"]) == 0
    out, _ = capsys.readouterr()
    assert "1 point, exact; nothing is recorded" in out
    assert "no worker was started: what it needs of the memory limit" in out


def test_a_dry_run_for_slurm_says_its_jobs_and_what_they_take(path, capsys):
    options = ["--launcher", "slurm", "--dry-run", "--hardware", "h100-sxm"]
    assert main(["sweep", str(path), *options, "--points-per-job", "1"]) == 0
    *_, checked, jobs, told = capsys.readouterr().out.splitlines()
    assert checked == "kernels, graphs and limits are checked by the jobs"
    assert jobs == "2 jobs for 2 points"
    assert told.endswith("for 2 points on h100-sxm, by its roofline")


def test_hardware_belongs_to_a_dry_run(path, capsys):
    assert main(["sweep", str(path), "--hardware", "h100-sxm"]) == 2
    assert "--hardware: is not allowed without --dry-run" in capsys.readouterr().err
    assert main(["sweep", str(path), "--dry-run", "--hardware", "h10"]) == 2


@pytest.mark.parametrize(("contended", "told"), [(2, True), (1, False)])
def test_a_sweep_says_in_one_line_that_most_points_were_contended(
    tmp_path, capsys, contended, told
):
    plan = quick_plan([("diffutran", n) for n in (1, 2, 3)])
    records = []
    for index, point in enumerate(plan.sweep.points):
        record = Record(point=point, status="ok", mode="exact", warmup=0, repeats=1, nfe=1)
        record.seconds, record.identity = [1.0], plan.identity_of(point)
        record.flags = ["contended"] * (index < contended)
        record.environment = {"hardware": "imaginary"}
        records.append(record)
    assert sweep_results.conclude([plan], records, 3, tmp_path / "r.jsonl") == 0
    err = capsys.readouterr().err
    assert ("2 of 3 points were contended" in err) == told
    assert len(err.splitlines()) == told


def test_passes_that_the_seed_decides_are_those_expected(path, capsys):
    drawn = 'steps = 64\nspread = "mdlm"\norder = "random"'
    path.write_text(path.read_text().replace("tokens_per_step = 8", drawn))
    assert main(["sweep", str(path), "--dry-run"]) == 0
    out, _ = capsys.readouterr()
    # 64 (1 - (1 - 1/64)^L) of L = 1024 and 4096: hardly a pass is left out.
    assert out.count("64.0 expected") == 2
    path.write_text(path.read_text().replace("[1024, 4096]", "[64]"))
    assert main(["sweep", str(path), "--dry-run"]) == 0
    out, _ = capsys.readouterr()
    assert "40.6 expected" in out  # 64 (1 - 0.36501)
    assert "2,601" in out  # passes of 64 tokens


def test_prompts_of_a_file_and_ends_of_text_are_shown(tmp_path, capsys):
    (tmp_path / "mine.jsonl").write_text('{"text": "abcdefg"}\n')
    path = tmp_path / "s.toml"
    path.write_text(
        'name = "s"\nsize = "tiny"\nlengths = 32\nprompts = "mine.jsonl"\n'
        '[[lines]]\nbackbone = "diffutran"\nsampler = ["full", "block-cache"]\n'
        '[[lines]]\nbackbone = "diffutran"\nsampler = "full"\nprompts = ""\nstop_at_eos = true\n'
    )
    assert main(["sweep", str(path), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("7 of mine") == 2
    assert out.count("up to 4") == 1


def test_a_replay_has_the_passes_of_its_points_seed(tmp_path, capsys):
    save_trace(Trace.by_hand([[[32]], [[1] * 32]], 32), tmp_path / "two.json")
    path = tmp_path / "s.toml"
    path.write_text(
        'name = "s"\nsize = "tiny"\nlengths = 64\nseed = [0, 1]\n'
        '[[lines]]\nbackbone = "diffutran"\nsampler = "block-cache"\ntrace = "two.json"\n'
    )
    assert main(["sweep", str(path), "--dry-run"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "GB" not in line]
    # Both blocks as one sequence or as the other, and a commit between.
    assert [row[2] for row in rows if row[0] in ("0", "1")] == ["3", "65"]
