"""A report of records that were stored, made by the command."""

import pytest

from dlm_bench.cli import main


@pytest.fixture(scope="session")
def write_report(tmp_path_factory):
    """A function that stores records and returns the path of their report."""

    def write(*records):
        folder = tmp_path_factory.mktemp("report")
        results, page = folder / "results.jsonl", folder / "report.html"
        results.write_text("".join(each.model_dump_json() + "\n" for each in records))
        assert main(["report", str(results), "--output", str(page)]) == 0
        return page

    return write
