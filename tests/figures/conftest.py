"""Records on disk, as the command line finds them."""

import pytest

from dlm_bench.results.store import append_record, load_results


@pytest.fixture
def frame(tmp_path):
    """A function that stores records and loads them again, as the command line does."""

    def load(*records):
        path = tmp_path / "results.jsonl"
        path.unlink(missing_ok=True)
        path.touch()
        for each in records:
            append_record(path, each)
        return load_results(path)

    return load
