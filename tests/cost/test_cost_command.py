"""The table of costs: its laws hold for its numbers, and the command prints it in three formats."""

import pytest

from dlm_bench.cli import main
from dlm_bench.cost import calibration
from dlm_bench.cost.roofline import HARDWARE, Hardware
from dlm_bench.cost.table import METHODS, cost_report, formula, numbers

TITLES = [method.title for method in METHODS]
# Far into leading order: L well above d, B²/p and (B/p)(F/W); B below the ridge F/W = 200.
HERE = {"L": 65536, "p": 2, "B": 64}
SYMBOLS = {"d": 64, "n": 16, "a": 1 / 3, "F": 2e14, "W": 1e12}  # of size tiny
DEEP = Hardware("deep", peak=2e14, bandwidth=1e12, memory=1e12, source="made up")


def at(method, place):
    found = numbers(
        method,
        DEEP,
        size="tiny",
        length=place["L"],
        tokens_per_step=place["p"],
        block_size=place["B"],
    )
    return {
        "flops": found.flops,
        "memory": found.weights + found.caches,
        "intensity": found.intensity,
        "throughput": found.tokens_per_second,
    }


@pytest.mark.parametrize("method", METHODS, ids=TITLES)
def test_doubling_a_symbol_changes_the_numbers_as_the_law_says(method):
    before = at(method, HERE)
    for symbol in HERE:
        there = HERE | {symbol: 2 * HERE[symbol]}
        after = at(method, there)
        for quantity, value in before.items():
            law = getattr(method, quantity)
            laws = [eval(law, {}, SYMBOLS | place) for place in (HERE, there)]
            # 15 %: the terms left out. The largest is Fast-dLLM's passes between refreshes, 13 %
            # of its time once B is doubled; a wrong exponent would be a factor of 2.
            assert after[quantity] / value == pytest.approx(laws[1] / laws[0], rel=0.15), (
                symbol,
                quantity,
            )


def test_the_designs_conclusion_is_in_the_numbers():
    found = {
        (m.backbone, m.sampler): [
            numbers(m, HARDWARE["h100-sxm"], length=length).tokens_per_second
            for length in (8192, 131072)
        ]
        for m in METHODS
    }
    short, long = found["diffumamba", "block-cache"]
    # The paper's: Mamba mixers with a block cache alone decode at a rate that does not fall with
    # the length. 0.1 %: the last block has no commit, which is 1 in 1279 passes of the short one.
    assert long == pytest.approx(short, rel=1e-3)
    for key, (short, long) in found.items():
        if key != ("diffumamba", "block-cache"):
            assert long < 0.8 * short, key


def test_a_block_cache_pays_for_its_commits():
    method = METHODS[TITLES.index("DiffuMamba, block cache")]
    found = numbers(method, HARDWARE["h200"], length=8192)
    assert found.passes == 8192 // 8 + 8192 // 32 - 1
    assert found.arithmetic_bound == 0


def test_a_law_is_printed_as_mathematics():
    assert formula("L**2*(d**2 + a*L*d)/p", "text") == "L²(d² + aLd)/p"
    assert formula("L**2*(d**2 + a*L*d)/p", "latex") == "$L^2 (d^2 + a L d)/p$"


def test_what_does_not_fit_is_said():
    report = cost_report(HARDWARE["rtx-4090"], length=131072)
    lines = [line for line in report.splitlines() if "out of memory" in line]
    # 24 GB of keys and values beside the weights.
    assert [line.split("  ")[0] for line in lines] == ["AR Transformer", "DiffuTran, block cache"]


def test_the_command_prints_laws_and_numbers(capsys):
    assert main(["cost", "--length", "1024"]) == 0
    out = capsys.readouterr().out
    for title in TITLES:
        assert len([line for line in out.splitlines() if line.startswith(title + "  ")]) == 2
    for words in ("1.3b, L = 1024, p = 8, B = 32", "h100-sxm: 989.4 TFLOP/s", "commit=separate"):
        assert words in out


def test_markdown_has_a_rule_and_as_many_cells_in_each_row(capsys):
    assert main(["cost", "--size", "tiny", "--length", "64", "--format", "markdown"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (2 + len(METHODS))
    assert {row.count("|") for row in rows[: len(METHODS) + 2]} == {6}
    assert {row.count("|") for row in rows[len(METHODS) + 2 :]} == {9}


def test_latex_is_two_tabulars_with_balanced_mathematics(capsys):
    assert main(["cost", "--size", "tiny", "--length", "64", "--format", "latex"]) == 0
    lines = capsys.readouterr().out.splitlines()
    code = [line for line in lines if not line.startswith("% ")]
    text = "\n".join(code)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert all(line.count("$") % 2 == 0 for line in code)
    assert "²" not in text
    assert "%" not in text.replace(r"\%", "")  # else the rest of the line is a comment


def test_measured_hardware_is_calibrated_in_its_own_precision(capsys, monkeypatch):
    quick = Hardware("measured", 1e11, 1e10, 1e10, "calibration on cpu", dtype="float32")
    monkeypatch.setattr(calibration, "measure_hardware", lambda device: quick)
    arguments = ["cost", "--size", "tiny", "--length", "64", "--hardware", "measured"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "float32" in out
    assert "measured: 0.1 TFLOP/s, 0.01 TB/s (calibration on cpu)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "big"], "size: 'big'"),
        (["--length", "0"], "length: 0 is not allowed"),
        (["--tokens-per-step", "64"], "tokens_per_step: 64 is not allowed; must be at most"),
        (["--block-size", "0"], "block_size: 0 is not allowed"),
        (["--hardware", "h100"], "hardware: 'h100' is not known"),
        (["--format", "html"], "format: 'html' is not known; allowed: text, markdown, latex"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(arguments, message, capsys):
    assert main(["cost", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
