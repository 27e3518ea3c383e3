"""`dlm-bench table`: what it prints of records, and what it says of those that are not there."""

import csv
import io

import pytest
from support.report_records import failed, record, study

from dlm_bench.cli import main


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "r.jsonl"
    extra = [record("ar-transformer", "ar"), failed("oom", 8192)]
    path.write_text("".join(each.model_dump_json() + "\n" for each in [*study(), *extra]))
    return str(path)


def printed(capsys, *arguments):
    assert main(["table", *arguments]) == 0
    return capsys.readouterr()


def parsed(text):
    titles, *rows = csv.reader(io.StringIO(text))
    return {row[0]: dict(zip(titles[1:], row[1:], strict=True)) for row in rows}


def test_the_speed_up_is_the_ratio_of_the_means_with_the_errors_of_both(results, capsys):
    rows = parsed(printed(capsys, "speedup", results, "--format", "csv").out)
    # A pass of DiffuMamba takes 3.0 ms at 1024 tokens and one of DiffuTran 2.0, by the records.
    row = rows["DiffuMamba, full sequence"]
    assert float(row["1024"]) == pytest.approx(2 / 3, rel=1e-5)  # six digits are printed
    factor = (1 + record().relative_error) ** 2**0.5  # two records with the same error
    assert float(row["1024 low"]) == pytest.approx(2 / 3 / factor, rel=1e-5)
    assert float(row["1024 high"]) == pytest.approx(2 / 3 * factor, rel=1e-5)
    assert float(row["4096"]) == pytest.approx(2 / 3 * (2.6 / 1.9) ** 2, rel=1e-5)


def test_lines_without_a_counterpart_have_no_row(results, capsys):
    out = printed(capsys, "speedup", results).out
    assert "DiffuMamba-H, block cache, commit=separate" in out
    assert "DiffuTran," not in out
    assert "AR Transformer" not in out


def test_another_backbone_may_be_the_reference(results, capsys):
    out = printed(capsys, "speedup", results, "--reference", "diffumamba", "--format", "csv").out
    assert out.startswith("times as fast as DiffuMamba,")
    assert float(parsed(out)["DiffuTran, full sequence"]["1024"]) == pytest.approx(1.5, rel=1e-5)


def test_at_chooses_the_columns_in_its_own_order(results, capsys):
    out = printed(capsys, "speedup", results, "--at", "4096, 512", "--format", "markdown").out
    first = next(line for line in out.splitlines() if line.startswith("|"))
    titles = [cell.strip() for cell in first.strip("| ").split("|")]
    assert titles == ["times as fast as DiffuTran", "4,096", "512"]


def test_a_length_without_records_is_named(results, capsys):
    captured = printed(capsys, "throughput", results, "--at", "512,65536")
    assert captured.err == "dlm-bench: length 65536: not in the records\n"
    assert "65,536" not in captured.out


def test_throughput_has_every_line_and_a_dash_where_one_lacks_a_length(results, capsys):
    out = printed(capsys, "throughput", results, "--format", "latex").out
    assert r"AR Transformer, autoregressive & - & " in out
    assert out.count(r" \\") == 1 + 10


def test_fits_are_numbers_with_their_intervals(results, capsys):
    rows = parsed(printed(capsys, "fit", results, "--format", "csv").out)
    row = rows["DiffuTran, full sequence"]
    assert float(row["L (us/token) low"]) <= float(row["L (us/token)"])
    assert float(row["R^2"]) > 0.9


def test_lines_too_short_to_fit_are_named_on_stderr(results, capsys):
    captured = printed(capsys, "fit", results)
    assert captured.err.startswith("dlm-bench: AR Transformer, autoregressive: not fitted: lengths")
    assert "AR Transformer" not in captured.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speedup", "--at", "65536,131072"], "length 65536, 131072: not in the records; there"),
        (["speedup", "--at", "8192"], "length 8192: not in the records"),  # it ran out of memory
        (["speedup", "--at", "512,many"], "--at: '512,many' is not allowed; must be lengths"),
        (["speedup", "--at", "0"], "--at: '0' is not allowed"),
        (["speedup", "--reference", "gpt"], "reference: no ok record of 'gpt'; there are: diffu"),
        (["speedup", "--reference", "ar-transformer"], "reference: no series has the counterpart"),
        (["speedup", "--format", "html"], "format: 'html' is not known"),
        (["fit", "--at", "512"], "--at: is not allowed with table fit"),
        (["fit", "--reference", "diffutran"], "--reference: is not allowed with table fit"),
        (["speed"], "table: 'speed' is not known (did you mean 'speedup'?); allowed: speedup"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(arguments, message, results, capsys):
    table, *options = arguments
    assert main(["table", table, results, *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


def test_a_fit_of_no_line_is_a_mistake(tmp_path, capsys):
    path = tmp_path / "r.jsonl"
    path.write_text(record().model_dump_json())
    assert main(["table", "fit", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.err == (
        "dlm-bench: none of 1 series can be fitted; DiffuTran: lengths: 1 distinct; "
        "the law needs at least 3\n"
    )
    assert captured.out == ""


@pytest.mark.parametrize("table", ["speedup", "throughput", "fit"])
@pytest.mark.parametrize("lines", [[], [failed("oom")]])
def test_records_without_a_measurement_have_no_table(table, lines, tmp_path, capsys):
    path = tmp_path / "r.jsonl"
    path.write_text("".join(each.model_dump_json() + "\n" for each in lines))
    assert main(["table", table, str(path)]) == 2
    assert "no record" in capsys.readouterr().err


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    """A block cache of 100 b^0.5 tokens/s and autoregression of 50 b, as fast at batch 4."""
    path = tmp_path_factory.mktemp("table") / "batches.jsonl"
    lines = []
    for length in (256, 512):
        for batch in (1, 2, 8, 16):
            for backbone, sampler, speed in (
                ("diffumamba", "block-cache", 100 * batch**0.5),
                ("ar-mamba", "ar", 50 * batch),
            ):
                each = record(backbone, sampler, length)
                point = each.point.model_copy(update={"batch": batch})
                seconds = [batch * length / speed]
                lines.append(each.model_copy(update={"point": point, "seconds": seconds}))
    path.write_text("".join(each.model_dump_json() + "\n" for each in lines))
    return str(path)


def test_a_table_of_batches_says_where_autoregression_overtakes(batches, capsys):
    rows = parsed(printed(capsys, "batch", batches, "--at", "256", "--format", "csv").out)
    label, ar = "DiffuMamba, block cache, commit=separate", "AR Mamba-2, autoregressive"
    assert list(rows) == [label, ar]
    # Both are straight on logarithmic axes, and six digits are printed.
    assert float(rows[label]["8"]) == pytest.approx(100 * 8**0.5, rel=1e-5)
    assert float(rows[ar]["8"]) == pytest.approx(400, rel=1e-5)
    assert float(rows[label][f"overtaken by {ar} at"]) == pytest.approx(4, rel=1e-5)
    assert rows[ar][f"overtaken by {ar} at"] == ""


def test_a_table_of_batches_has_a_row_for_each_length(batches, capsys):
    out = printed(capsys, "batch", batches).out
    assert out.count("L=256") == out.count("L=512") == 2
    assert main(["table", "batch", batches, "--at", "99"]) == 2
    assert "length 99: not in the records; there are: 256, 512" in capsys.readouterr().err


def test_records_without_blocks_are_told_with_what_to_do(results, capsys):
    assert main(["table", "waiting", results]) == 2
    assert capsys.readouterr().err == (
        "dlm-bench: waiting: no record tells the passes of its blocks; measure again: older ones "
        "have none\n"
    )
