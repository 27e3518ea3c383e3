"""A file that is no results file is one clear line, in every command that reads results."""

import pytest
from support.report_records import record

from dlm_bench.cli import main
from dlm_bench.errors import ResultsError
from dlm_bench.results.store import TornLineWarning, append_record, read_records

SWEEP = """
name = "mine"
size = "tiny"
lengths = [512, 1024]
[[lines]]
backbone = "diffutran"
sampler = "full"
"""


@pytest.mark.parametrize(
    "command",
    [
        ["plot"],
        ["fit"],
        ["report"],
        ["table", "speedup"],
        ["compare", "{path}"],
    ],
    ids=lambda command: command[0],
)
def test_a_sweep_file_says_to_run_it_first(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(SWEEP)
    assert main([each.format(path="mine.toml") for each in command] + ["mine.toml"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "dlm-bench: results file 'mine.toml': this is a sweep file; run "
        "`dlm-bench sweep mine.toml` first\n"
    )
    assert [each.name for each in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    "content",
    ["length,tokens\n512,3\n1024,4\n", "<html>\n<body>\n</body>\n", "\x00\x01\n\xff\n\xfe\n"],
)
@pytest.mark.parametrize("strict", [False, True])
def test_another_file_says_what_writes_results(content, strict, tmp_path):
    (tmp_path / "x").write_bytes(content.encode("latin-1"))
    with pytest.raises(ResultsError, match=r"no line is a record; `dlm-bench sweep` and `run"):
        read_records(tmp_path / "x", strict=strict)


def test_torn_lines_beside_records_are_named_and_many_of_them_counted(tmp_path):
    path = tmp_path / "x"
    path.write_text('{"schema_version": 1, "poi\n' * 5)
    append_record(path, record())
    with pytest.warns(TornLineWarning) as caught:
        assert len(read_records(path)) == 1
    said = [str(each.message) for each in caught]
    assert [text.partition(": ")[0] for text in said] == [
        *(f"{path}:{n}" for n in (1, 2, 3)),
        f"{path}",
    ]
    assert said[-1] == f"{path}: 2 more lines skipped"


def test_a_file_of_two_torn_lines_may_still_become_one_of_results(tmp_path):
    (tmp_path / "x").write_text('{"schema_version": 1, "poi\n' * 2)
    with pytest.warns(TornLineWarning):
        assert read_records(tmp_path / "x") == []
