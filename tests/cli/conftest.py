"""Fixtures of the command line's tests."""

import pytest
from support.comparing import compare_records
from support.traces_recorded import SWEEP, record


@pytest.fixture
def compare(tmp_path, capsys):
    """Compares two lists of records through the command line: exit code, stdout, stderr."""

    def run(base, head, *options, **runs):
        return compare_records(tmp_path, base, head, *options, **runs), *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sweep of two traces and of two thresholds."""
    folder = tmp_path_factory.mktemp("replays")
    (folder / "s.toml").write_text(SWEEP)
    record(folder / "traces" / "a.json", "--threshold", "0.02")
    record(folder / "traces" / "b.json", "--factor", "2.9")
    return folder
