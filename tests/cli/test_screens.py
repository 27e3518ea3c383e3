"""Tables on narrow screens and streams of few characters: every number is whole, and readable."""

import csv
import io
import os
import re
import subprocess
import sys

import pytest
from support.command_lines import TINY_RUN
from support.report_records import study

from dlm_bench.cli import main
from dlm_bench.results.text_table import text_grid
from dlm_bench.streams import plain

COMMANDS = [
    ["table", "throughput", "{0}"],
    ["table", "speedup", "{0}"],
    ["table", "fit", "{0}"],
    ["fit", "{0}"],
    ["sweep", "quick", "--dry-run"],
    ["list"],
    ["compare", "{0}", "{0}"],
    ["cost"],
    ["cost", "--sweep", "paper"],
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("screens") / "r.jsonl"
    path.write_text("".join(each.model_dump_json() + "\n" for each in study()))
    return str(path)


@pytest.fixture
def printed(capsys, monkeypatch, results):
    """What a command prints on a screen of this many columns."""

    def run(command, columns=None):
        if columns is None:
            monkeypatch.delenv("COLUMNS", raising=False)
        else:
            monkeypatch.setenv("COLUMNS", str(columns))
        assert main([part.format(results) for part in command]) == 0
        return capsys.readouterr().out

    return run


def numbers(text):
    return sorted(re.findall(r"(?<![\w.,-])\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?(?![\w.])", text))


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_number_is_shortened_and_no_line_is_wider_than_the_screen(command, columns, printed):
    narrow = printed(command, columns)
    assert "…" not in narrow
    lines = [line for line in narrow.splitlines() if not line.startswith(("base: ", "head: "))]
    assert max(map(len, lines)) <= columns
    assert set(numbers(printed(command))) <= set(numbers(narrow))


def test_columns_that_do_not_fit_come_in_a_table_below_with_the_names_again():
    titles = ["name", *(f"{1 << n:,}" for n in range(10, 20))]
    rows = [[name, *("1,234,567.8 ±0.5%",) * 10] for name in ("one", "two")]
    text = text_grid(titles, rows, 60)
    assert text.count("1,234,567.8 ±0.5%") == 20
    assert text.count("one") == text.count("two") > 1
    assert max(map(len, text.splitlines())) <= 60


def test_names_are_folded_between_words_before_numbers_move():
    text = text_grid(["line", "512"], [["DiffuMamba-H, block cache, commit=separate", "1.0"]], 40)
    assert [line.rstrip() for line in text.splitlines()] == [
        "line                                 512",
        "-----------------------------------  ---",
        "DiffuMamba-H, block cache,           1.0",
        "commit=separate",
    ]


def test_what_all_points_have_in_common_is_in_the_heading(printed):
    first, titles, *_ = printed(["sweep", "quick", "--dry-run"]).splitlines()
    assert first == "quick: size tiny, float32, cpu"
    assert "size" not in titles
    heading = printed(["table", "throughput", "{0}"]).splitlines()[0]
    assert heading.startswith("Tokens/s: a CPU of the tests, cpu, float32, tiny, p=8")


def test_throughput_has_its_error_and_a_mark_for_flags(printed):
    out = printed(["table", "throughput", "{0}"])
    assert re.search(r"\d ±\d+(\.\d)?%", out)
    assert "± is half the 95 % interval" in out.splitlines()[-1]


def test_latex_has_a_caption_that_says_what_is_common(printed):
    out = printed(["table", "throughput", "{0}", "--format", "latex"])
    assert out.startswith("\\begin{table}\n\\centering\n\\caption{Tokens/s: a CPU of the tests")
    assert r"$\pm$" in out
    assert out.endswith("\\end{tabular}\n\\end{table}\n")


@pytest.mark.parametrize("table", ["throughput", "speedup", "fit"])
def test_csv_headers_are_ascii(table, printed):
    titles = next(csv.reader(io.StringIO(printed(["table", table, "{0}", "--format", "csv"]))))
    assert all(title.isascii() for title in titles)


@pytest.mark.process
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(
    "command",
    [
        *COMMANDS,
        ["compare", "{0}", "{0}", "--format", "markdown"],
        ["table", "fit", "{0}", "--format", "csv"],
        ["cost"],
        ["env"],
        TINY_RUN,
        ["fit", "nichts-für-ungut-²±.jsonl"],
    ],
    ids=" ".join,
)
def test_a_stream_of_few_characters_gets_plainer_ones(command, encoding, results):
    command = [sys.executable, "-m", "dlm_bench", *(part.format(results) for part in command)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, env=environment)
    assert done.returncode == (2 if "nichts" in command[-1] else 0), done.stderr
    assert "Traceback" not in done.stderr.decode(encoding)
    assert "internal error" not in done.stderr.decode(encoding)
    done.stdout.decode(encoding)


def test_plain_characters_say_the_same():
    assert plain("L² (ns/token²), 5 µs ±2 %, 3\N{MULTIPLICATION SIGN} ≤ 4 \N{EN DASH} é") == (
        "L^2 (ns/token^2), 5 us +-2 %, 3x <= 4 - \\xe9"
    )


@pytest.mark.process
def test_columns_align_where_a_character_becomes_two(results):
    command = [sys.executable, "-m", "dlm_bench", "fit", results, "--sampler", "full"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    _, titles, rule, *_ = done.stdout.splitlines()
    assert "L^2 (ns/token^2)" in titles
    assert len(titles) == len(rule)
