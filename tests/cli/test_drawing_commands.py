"""`plot` draws what the records allow and names what they lack; so does `fit`."""

from pathlib import Path

import pytest

from dlm_bench.cli import main
from dlm_bench.cost import calibration
from dlm_bench.cost.roofline import Hardware
from dlm_bench.figures import FIGURES

QUICK = str(Path(__file__).parents[2] / "results" / "cpu" / "quick.jsonl")
SHEET = Hardware("measured", 1e12, 1e11, 1e12, source="a test", dtype="float32")


@pytest.fixture
def calibrations(monkeypatch):
    """The devices that were calibrated."""
    asked = []
    monkeypatch.setattr(
        calibration, "measure_hardware", lambda device: asked.append(device) or SHEET
    )
    return asked


def test_plot_draws_all_that_the_records_allow_and_says_nothing_of_the_rest(tmp_path, capsys):
    assert main(["plot", QUICK, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    names = {path.rpartition("/")[2] for path in printed.out.split()}
    drawn = FIGURES.keys() - {"batch", "waiting", "roofline", "energy", "repeats"}
    suffixes = ("pdf", "png", "txt", "tex")
    assert names == {f"{name}.{suffix}" for name in drawn for suffix in suffixes}
    assert all((tmp_path / name).stat().st_size > 100 for name in names)
    assert printed.err == ""


@pytest.mark.parametrize(
    ("figure", "missing"),
    [
        ("paper-full", "figure 'paper-full': not drawn: p = 16 (no record)"),
        ("paper-block", "figure 'paper-block': not drawn: p = 16 (no record)"),
        ("speedup", "figure 'speedup': not drawn: AR Transformer, autoregressive; AR Mamba-2"),
    ],
)
def test_a_figure_asked_for_says_what_it_lacks(figure, missing, tmp_path, capsys):
    assert main(["plot", QUICK, "--figure", figure, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert missing in printed.err
    assert len(printed.err.splitlines()) == 1


def test_points_left_out_of_a_figure_are_in_the_caption(tmp_path):
    assert main(["plot", QUICK, "--output", str(tmp_path)]) == 0
    caption = " ".join((tmp_path / "speedup.txt").read_text().split())
    assert caption.endswith(
        "Not drawn: AR Transformer, autoregressive; AR Mamba-2, autoregressive "
        "(no DiffuTran with the same sampler and options)."
    )


def test_an_option_of_a_single_figure_asks_for_that_figure(tmp_path, capsys):
    assert main(["plot", QUICK, "--hardware", "h200", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("dlm-bench: not drawn: figure 'roofline': ")
    assert "the peak of hardware 'h200' is that of bfloat16" in printed.err
    assert len(printed.err.splitlines()) == 1


def test_one_figure_is_drawn_alone(tmp_path, capsys):
    assert main(["plot", QUICK, "--figure", "memory", "--output", str(tmp_path)]) == 0
    suffixes = ("pdf", "png", "txt", "tex")
    assert {path.name for path in tmp_path.iterdir()} == {f"memory.{each}" for each in suffixes}
    assert capsys.readouterr().err == ""


def test_the_caption_is_in_the_picture_only_if_asked_for(tmp_path):
    for name, option in (("without", []), ("with", ["--caption"])):
        output = str(tmp_path / name)
        assert main(["plot", QUICK, "--figure", "memory", "--output", output, *option]) == 0
    without, with_caption = (
        {path.suffix: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("without", "with")
    )
    assert without[".txt"] == with_caption[".txt"]
    assert without[".tex"] == with_caption[".tex"]
    height = slice(20, 24)  # of a PNG's header
    assert without[".png"][height] < with_caption[".png"][height]


def test_one_calibration_serves_all_figures(tmp_path, calibrations, capsys):
    options = ["--hardware", "measured", "--predict", "measured"]
    assert main(["plot", QUICK, *options, "--output", str(tmp_path)]) == 0
    assert len(calibrations) == 1
    assert (tmp_path / "roofline.pdf").stat().st_size > 1000
    assert "roofline" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampler", "fool"], "--sampler: no ok record of 'fool' in these results; allowed: "),
        (["--figure", "memory", "--sampler", "full"], "--sampler: is not allowed with --figure"),
        (["--figure", "energy", "--predict", "h200"], "--predict: is not allowed with --figure"),
        (["--figure", "throughput", "--hardware", "h200"], "--hardware: is not allowed with"),
        (["--hardware", "h300"], "hardware: 'h300' is not known"),
        (["--predict", "h300"], "hardware: 'h300' is not known"),
        (["--figure", "energy"], "figure 'energy': no energy in the telemetry"),
        (["--figure", "roofline"], "no sheet of 'AMD EPYC, 2 threads'; --hardware names one"),
        (
            ["--figure", "pie"],
            "allowed: throughput, batch, waiting, paper-full, paper-block, latency, speedup",
        ),
    ],
)
def test_what_plot_cannot_do_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    assert main(["plot", QUICK, *arguments, "--output", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


def test_a_wrong_sampler_names_those_there_are(capsys):
    for command in ("plot", "fit"):
        assert main([command, QUICK, "--sampler", "fool"]) == 2
        assert capsys.readouterr().err.endswith("allowed: full, fast-dllm, block-cache, ar\n")


def test_a_fit_of_nothing_is_one_line_and_exit_code_2(tmp_path, capsys):
    path = tmp_path / "two.jsonl"
    lines = Path(QUICK).read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[5:7]))  # two lengths of two lines
    assert main(["fit", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "dlm-bench: none of 2 series can be fitted; DiffuTran, full sequence: "
        "lengths: 2 distinct; the law needs at least 3\n"
    )
    path.write_text("".join(lines[:7]))
    assert main(["fit", str(path)]) == 0
    printed = capsys.readouterr()
    assert "DiffuTran, full sequence" in printed.out
    assert printed.err == (
        "dlm-bench: DiffuTran, Fast-dLLM: not fitted: lengths: 2 distinct; "
        "the law needs at least 3\n"
    )
