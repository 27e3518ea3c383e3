"""The implementation that a measurement on a GPU chooses, kept on disk."""

import pytest
import torch

from dlm_bench.models.measured import faster

FACTS = ("a GPU", "1.3b")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "small-pass.json"


def never(name):
    raise AssertionError(f"{name} is timed again")


@pytest.mark.parametrize(("own", "chosen"), [(1.0, "triton"), (3.0, "torch"), (2.0, "torch")])
def test_the_faster_stays_and_is_timed_once(own, chosen, path):
    assert faster(FACTS, {"triton": own, "torch": 2.0}.get, path) == chosen
    assert faster(FACTS, never, path) == chosen


def test_other_facts_are_timed_anew(path):
    faster(FACTS, {"triton": 1.0, "torch": 2.0}.get, path)
    assert faster(("another GPU", "1.3b"), {"triton": 3.0, "torch": 2.0}.get, path) == "torch"
    assert faster(FACTS, never, path) == "triton"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_file_is_replaced(text, path):
    path.parent.mkdir()
    path.write_text(text)
    assert faster(FACTS, {"triton": 1.0, "torch": 2.0}.get, path) == "triton"
    assert faster(FACTS, never, path) == "triton"


def test_without_a_place_to_write_each_process_measures(path):
    path.parent.write_text("a file where the folder would be")
    for _ in range(2):
        assert faster(FACTS, {"triton": 3.0, "torch": 2.0}.get, path) == "torch"


def test_a_kernel_that_raises_is_not_chosen_and_named(path):
    def seconds(name):
        if name == "triton":
            raise RuntimeError("ptxas: out of registers")
        return 2.0

    with pytest.warns(UserWarning, match="ptxas: out of registers"):
        assert faster(FACTS, seconds, path) == "torch"
    assert not path.exists()  # another version may do better


def test_too_little_memory_is_no_choice(path):
    def seconds(name):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        faster(FACTS, seconds, path)
