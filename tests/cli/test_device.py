"""`--device auto`: CUDA if there is a GPU, else the CPU, in every command and in a sweep file."""

import pytest
import torch

from dlm_bench import ConfigError
from dlm_bench.cli import main
from dlm_bench.models.device import find_device
from dlm_bench.sweep.load import load_sweep

SWEEP = """
name = "anywhere"
size = "tiny"
lengths = [8]
{device}

[[lines]]
backbone = "diffutran"
sampler = "full"
"""


@pytest.fixture
def sweep(tmp_path):
    def write(device=""):
        (tmp_path / "s.toml").write_text(SWEEP.format(device=device))
        return tmp_path / "s.toml"

    return write


@pytest.fixture
def gpus(monkeypatch):
    def have(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return have


def test_auto_is_the_gpu_if_there_is_one_else_the_cpu(gpus):
    gpus(0)
    assert str(find_device("auto")) == "cpu"
    gpus(2)
    assert str(find_device("auto")) == "cuda:0"


def test_auto_is_not_chosen_for_another_machine():
    with pytest.raises(ConfigError, match="'auto' is chosen on the machine that measures"):
        find_device("auto", must_exist=False)


@pytest.mark.parametrize(
    ("count", "build", "remedy"),
    [
        (2, "12.8", "name cpu, or a device up to cuda:1"),
        (0, "12.8", "name cpu, or look with nvidia-smi why torch finds no GPU"),
        (0, None, "name cpu, or install a CUDA build of torch: "),
    ],
)
def test_a_missing_gpu_is_told_with_what_to_do(gpus, monkeypatch, count, build, remedy):
    gpus(count)
    monkeypatch.setattr(torch.version, "cuda", build)
    with pytest.raises(ConfigError, match=f"^device: 'cuda:2' is not here; {remedy}"):
        find_device("cuda:2")


def test_the_points_of_a_sweep_name_the_device_that_was_chosen(sweep, gpus):
    gpus(0)
    for loaded in (load_sweep(sweep('device = "auto"')), load_sweep(sweep(), device="auto")):
        assert loaded.points[0].device == "cpu"
        assert loaded.points[0].dtype == "float32"


def test_a_dry_run_says_the_device(sweep, gpus, capsys):
    gpus(0)
    assert main(["sweep", str(sweep()), "--device", "auto", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("float32, cpu")
    slurm = ["--launcher", "slurm", "--dry-run"]
    assert main(["sweep", str(sweep()), "--device", "auto", *slurm]) == 2
    assert "name cpu or cuda" in capsys.readouterr().err
