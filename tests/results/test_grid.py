"""A table says the same in each format, and its words stay words."""

import csv
import io

import pytest

from dlm_bench.results.table import FORMATS, MISSING, Number, Table

WORDS = r"a|b & 50% of c_d {e} <f> \g ~ ^ #$ ²µ"
TABLE = Table(
    ["line", Number(1024, "1,024"), Number(2048, "2,048")],
    [
        [WORDS, Number(1234.5678, "1,234.6", 1200.0, 1300.0), MISSING],
        ["two\nlines", Number(0.5, "0.5"), Number(2.0, "2.0")],
    ],
)


def test_text_has_columns_that_line_up():
    lines = TABLE.render("text").splitlines()
    assert len(lines) == 4
    assert lines[2].startswith(WORDS)
    assert {len(line) for line in lines} == {len(lines[0])}
    assert "two lines" in lines[3]


def test_markdown_escapes_what_would_end_a_cell_or_start_an_element():
    rows = TABLE.render("markdown").splitlines()
    assert {row.replace("\\|", "").count("|") for row in rows} == {4}
    assert "a\\|b" in rows[2]
    assert "&lt;f>" in rows[2]


def test_latex_escapes_every_special_character():
    lines = TABLE.render("latex").splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}"
    assert lines[-1] == r"\end{tabular}"
    row = next(line for line in lines if line.startswith("a|b"))
    words = row.split(" & 1,234.6")[0]
    assert words == (
        r"a|b \& 50\% of c\_d \{e\} $<$f$>$ \textbackslash{}g \textasciitilde{} "
        r"\textasciicircum{} \#\$ $^2$$\mu$"
    )


def test_csv_has_numbers_as_they_are_and_their_bounds_beside_them():
    rows = list(csv.reader(io.StringIO(TABLE.render("csv"))))
    assert rows[0] == ["line", "1024", "1024 low", "1024 high", "2048"]
    assert rows[1] == [WORDS, "1234.57", "1200", "1300", ""]
    assert rows[2] == ["two\nlines", "0.5", "", "", "2"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_without_rows_is_its_titles(form):
    assert "tokens" in Table(["line", "tokens"], []).render(form)
