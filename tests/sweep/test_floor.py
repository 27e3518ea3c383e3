"""A sweep's floors, printed without its hardware; the paper's sweep is what it should be."""

import pytest

from dlm_bench.cli import main
from dlm_bench.cost.roofline import HARDWARE, decode_floor
from dlm_bench.errors import ConfigError
from dlm_bench.models.config import model_config
from dlm_bench.samplers import build_sampler
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.sweep.load import load_sweep

PAPER = "bench/sweeps/paper.toml"
SWEEP = """
name = "two"
size = "1.3b"
device = "cuda"
batch = 2
graphs = "require"
lengths = [1024, {length}]

[[lines]]
backbone = "diffutran"
sampler = "block-cache"
tokens_per_step = 16
"""


@pytest.fixture
def sweep(tmp_path):
    def write(length=2048, extra=""):
        (tmp_path / "s.toml").write_text(extra + SWEEP.format(length=length))
        return str(tmp_path / "s.toml")

    return write


def printed(capsys, *arguments):
    assert main(["cost", *arguments]) == 0
    return capsys.readouterr().out


def test_a_line_a_point_has_its_passes_its_floor_and_its_bound(sweep, capsys):
    out = printed(capsys, "--sweep", sweep(), "--hardware", "h200")
    first, second = [line.split() for line in out.splitlines() if line.startswith("diffutran")]
    assert first[:-3][-2:] == ["L=1024", "batch=2"]
    assert int(second[-3].replace(",", "")) == 2048 // 16 + 2048 // 32 - 1
    floor = decode_floor(
        model_config("diffutran", "1.3b"),
        build_sampler("block-cache", tokens_per_step=16),
        2048,
        HARDWARE["h200"],
        batch=2,
    )
    # Four digits, and one after the point, are printed.
    assert float(second[-2]) == pytest.approx(floor, rel=1e-3)
    assert float(second[-1].replace(",", "")) == pytest.approx(2 * 2048 / floor, rel=1e-4)
    assert "h200: 989.4 TFLOP/s" in out


def test_a_point_that_does_not_fit_says_so(sweep, capsys):
    out = printed(capsys, "--sweep", sweep(131072), "--hardware", "rtx-4090")
    fits, does_not = [line for line in out.splitlines() if line.startswith("diffutran")]
    assert "out of memory" not in fits
    assert does_not.endswith("-     out of memory")


def test_a_sweep_in_another_precision_is_predicted_in_that_of_the_peak_and_says_so(sweep, capsys):
    """A sweep for a CPU is in float32; on a GPU the same file would be in bfloat16."""
    asked = printed(capsys, "--sweep", sweep(extra='dtype = "float32"\n'))
    said = "sweep two; in bfloat16, as the peak of h100-sxm is, where the sweep asks for float32"
    assert said in asked.replace("\n", " ")
    same = printed(capsys, "--sweep", sweep())
    assert "sweep two, bfloat16\n" in same
    assert asked.splitlines()[-2:] == same.splitlines()[-2:]


def test_markdown_and_latex_have_a_row_a_point(sweep, capsys):
    rows = printed(capsys, "--sweep", sweep(), "--format", "markdown").splitlines()
    assert {row.count("|") for row in rows if row.startswith("|")} == {5}
    latex = printed(capsys, "--sweep", sweep(), "--format", "latex")
    code = [line for line in latex.splitlines() if not line.startswith("% ")]
    assert sum(line.startswith("diffutran") for line in code) == 2
    assert "%" not in "\n".join(code)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep", "none.toml"], "sweep file 'none.toml'"),
        (["--sweep", PAPER, "--length", "8"], "--length: is not allowed with --sweep"),
        (["--sweep", PAPER, "--tokens-per-step", "8"], "--tokens-per-step: is not allowed"),
        (["--sweep", PAPER, "--format", "html"], "format: 'html' is not known"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(arguments, message, capsys):
    assert main(["cost", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_sweep_to_predict_need_not_be_here_but_must_be_right(sweep):
    assert load_sweep(sweep(), on_this_machine=False).points[0].device == "cuda:0"
    asked = 'kernels = {ssd = "mamba-ssm"}\nmemory_limit = "8GiB"\n'
    assert len(load_sweep(sweep(extra=asked), on_this_machine=False).points) == 2
    with pytest.raises(ConfigError, match="device: 'tpu'"):
        load_sweep(sweep(), device="tpu", on_this_machine=False)
    with pytest.raises(ConfigError, match="dtype: 'fp4'"):
        load_sweep(sweep(extra='dtype = "fp4"\n'), on_this_machine=False)


def test_the_papers_sweep_is_the_papers():
    found = load_sweep(PAPER, on_this_machine=False)
    points = found.points
    assert found.measuring.mode == "auto"
    assert (found.measuring.warmup, found.measuring.repeats) == (3, 5)
    whole = {(point.size, point.batch, point.dtype, point.device) for point in points}
    assert whole == {("1.3b", 1, "bfloat16", "cuda:0")}
    assert {point.length for point in points} == {1 << n for n in range(10, 18)}
    steps = {point.options.get("tokens_per_step") for point in points if point.sampler != "ar"}
    assert steps == {8, 16}
    assert {point.options.get("block_size", 32) for point in points} == {32}
    ways = {(point.backbone, point.sampler) for point in points}
    backbones = ("diffutran", "diffumamba", "diffumamba-h")
    assert ways == {
        *((name, sampler) for name in backbones for sampler in ("full", "block-cache")),
        ("diffutran", "fast-dllm"),
        ("diffumamba-h", "fast-dllm"),
        ("ar-transformer", "ar"),
        ("ar-mamba", "ar"),
    }


DRAWN = """
seed = [0, 1, 2, 3]
lengths = [24]

[[lines]]
backbone = "diffutran"
sampler = "full"
steps = 40
spread = "mdlm"
order = "random"
"""


def test_passes_that_a_seed_decides_are_those_of_each_point(tmp_path, capsys):
    path = tmp_path / "drawn.toml"
    path.write_text('name = "drawn"\nsize = "tiny"\ndevice = "cpu"\n' + DRAWN)
    out = printed(capsys, "--sweep", str(path), "--hardware", "h200")
    rows = [line.split() for line in out.splitlines() if line.startswith("diffutran")]
    sampler = build_sampler("full", steps=40, spread="mdlm", order="random")
    passes = [len(list(sampler.planned(DecodeShape(24), seed))) for seed in range(4)]
    assert [int(row[-3]) for row in rows] == passes
    assert len({*passes}) > 1


def test_a_decode_that_may_end_with_a_text_has_no_floor(sweep, capsys):
    path = sweep(extra="stop_at_eos = true\n")
    out = printed(capsys, "--sweep", path, "--hardware", "h200")
    rows = [line.split() for line in out.splitlines() if line.startswith("diffutran")]
    assert [row[-5:] for row in rows] == [["up", "to", n, "-", "-"] for n in ("95", "191")]
    assert main(["sweep", path, "--dry-run", "--hardware", "h200"]) == 0
    out = capsys.readouterr().out
    assert "for 0 points on h200" in out
    assert "2 more points without a known cost" in out
