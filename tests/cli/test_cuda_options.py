"""--graphs, --attention and --kernel, and their keys in a sweep file, reach the record."""

import json

import pytest

from dlm_bench.cli import main
from dlm_bench.models.factory import build_model
from dlm_bench.samplers import build_sampler
from dlm_bench.sweep.load import load_sweep
from dlm_bench.sweep.worker.jobs import JobServer
from dlm_bench.timing.measure import measure

pytestmark = pytest.mark.process

POINT = ["run", "diffumamba", "block-cache", "--size", "tiny", "--device", "cpu", "--length", "40"]
POINT += ["--warmup", "0", "--repeats", "2"]
SWEEP = """
name = "options"
size = "tiny"
lengths = [40]
warmup = 0
repeats = 2
{extra}
[[lines]]
backbone = "diffumamba"
sampler = "block-cache"
"""


@pytest.fixture
def sweep_file(tmp_path):
    def write(extra=""):
        path = tmp_path / "sweep.toml"
        path.write_text(SWEEP.format(extra=extra))
        return path

    return write


@pytest.mark.parametrize("mode", ["exact", "sampled"])
def test_a_record_says_that_graphs_were_off(mode):
    model = build_model("diffumamba", "tiny")
    record = measure(
        model, build_sampler("block-cache"), 64, mode, 0, 2, graphs="off", max_seconds=1
    )
    assert record.graphs == {"denoise": "eager: graphs are off", "commit": "eager: graphs are off"}


def test_run_passes_graphs_on(capsys):
    assert main([*POINT, "--graphs", "off", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert set(record["graphs"].values()) == {"eager: graphs are off"}


def answer(path, **overrides):
    """A worker's answer about the first point of a sweep file."""
    sweep = load_sweep(path, **overrides)
    measuring, point = sweep.measuring.model_dump(), sweep.points[0].model_dump()
    return JobServer().answer({"measure": point, "measuring": measuring, "memory_limit": None})


def test_a_sweep_passes_graphs_on(sweep_file):
    record = answer(sweep_file('graphs = "off"'))["record"]
    assert set(record["graphs"].values()) == {"eager: graphs are off"}


def test_a_sweeps_kernels_reach_its_models(sweep_file, monkeypatch):
    monkeypatch.setattr("dlm_bench.sweep.kernels.choose_kernels", lambda *_, **__: None)  # not here
    failure = answer(sweep_file(), kernels={"attention": "cudnn"})["failure"]
    assert failure["status"] == "error"
    assert "attention: 'cudnn' is not there" in failure["message"]


def test_a_failed_point_names_its_kernels_too(sweep_file):
    path = sweep_file()
    path.write_text(path.read_text().replace("lengths = [40]", "lengths = [40]\nbatch = 65536"))
    sweep = load_sweep(path)
    blocks = {"block_size": 1 << 16, "tokens_per_step": 1 << 16}  # few passes to plan
    large = {"length": 1 << 21, "options": sweep.points[0].options | blocks}
    point = sweep.points[0].model_copy(update=large)  # no machine has the memory
    job = {"measure": point.model_dump(), "measuring": sweep.measuring.model_dump()}
    failure = JobServer().answer(job | {"memory_limit": None})["failure"]
    assert failure["status"] == "oom"
    assert failure["kernels"]["attention"] == "torch"


def test_the_command_line_overrides_the_file(sweep_file):
    path = sweep_file('graphs = "off"\nkernels = { ssd = "torch", conv = "torch" }')
    sweep = load_sweep(path, graphs="auto", kernels={"conv": "torch", "lm_head": "torch"})
    assert sweep.measuring.graphs == "auto"
    assert sweep.measuring.kernels == {"ssd": "torch", "conv": "torch", "lm_head": "torch"}


REFUSED = [
    (["--graphs", "require"], "graphs: 'require' needs a CUDA device"),
    (["--graphs", "on"], "'on'"),
    (["--graphs", ""], "''"),
    (["--attention", "cudnn"], "attention: 'cudnn' is not there: it needs a CUDA device"),
    (["--attention", "fast"], "attention: 'fast' is not known"),
    (["--kernel", "ssd"], "--kernel: 'ssd' is not allowed; must be OPERATION=NAME"),
    (["--kernel", "scan=torch"], "kernel: 'scan' is not known"),
    (["--kernel", "ssd=mamba-ssm", "--kernel", "ssd=torch"], "ssd is 'mamba-ssm' already"),
    (["--attention", "flash", "--kernel", "attention=torch"], "attention is 'flash' already"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_what_cannot_be_is_one_line(command, options, message, sweep_file, capsys, tmp_path):
    arguments = POINT if command == "run" else ["sweep", str(sweep_file())]
    arguments = [*arguments, "--output", str(tmp_path / "out.jsonl"), *options]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists() or not (tmp_path / "out.jsonl").read_text()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ('graphs = "require"', "graphs: 'require' needs a CUDA device"),
        ('graphs = "on"', "graphs: 'on' is not allowed"),
        ('kernels = { attention = "cudnn" }', "attention: 'cudnn' is not there"),
        ("kernels = { attention = 1 }", "kernels.attention: 1 is not allowed"),
        ('kernels = "cudnn"', "kernels: 'cudnn' is not allowed"),
    ],
)
def test_a_sweep_file_is_refused_likewise(extra, message, sweep_file, capsys):
    assert main(["sweep", str(sweep_file(extra)), "--dry-run"]) == 2
    assert message in capsys.readouterr().err


def test_env_names_the_kernels(capsys):
    assert main(["env"]) == 0
    assert "kernel attention        torch\n" in capsys.readouterr().out


def test_the_gpu_checks_sweep_is_a_valid_one():
    sweep = load_sweep("bench/sweeps/gpu_check.toml", device="cpu")
    assert {point.size for point in sweep.points} == {"1.3b"}
    assert max(point.length for point in sweep.points) == 131072


def test_no_two_passes_nor_seeds_share_their_noise():
    model, sampler = build_model("diffumamba", "tiny"), build_sampler("block-cache")
    seen = set()
    for seed in (0, 4, 8):
        state = sampler.prepare(model, 64, batch=4, seed=seed)
        for index in range(len(state.passes)):
            state.index.fill_(index)
            seen.update(state.noise_seed().tolist())
    assert len(seen) == 3 * 4 * len(state.passes)
