"""A model or a decode that the device's memory cannot hold is refused before weights are drawn."""

import pytest

from dlm_bench.cli import main, model
from dlm_bench.cost.memory import decode_memory
from dlm_bench.models.config import model_config
from dlm_bench.samplers import build_sampler
from dlm_bench.samplers.schedule import DecodeShape

POINT = ("diffutran", "block-cache", "--size", "tiny", "--device", "cpu", "--length", "64")
NEEDED = decode_memory(
    model_config("diffutran", "tiny"), build_sampler("block-cache"), DecodeShape(64), "float32"
)


@pytest.fixture
def memory(monkeypatch):
    """Set the bytes of the device; building a model is a failure."""

    def build(*_, **__):
        raise AssertionError("a model was built")

    def there(size):
        monkeypatch.setattr(model, "total_memory", lambda _: size)

    monkeypatch.setattr(model, "build_model", build)
    return there


@pytest.mark.parametrize(
    "command",
    [
        ("run", *POINT),
        ("profile", *POINT),
        ("trace", *POINT, "--accept", "threshold", "--output", "t.json"),
    ],
    ids=lambda command: command[0],
)
def test_a_decode_larger_than_the_memory_is_a_failed_point_of_one_line(memory, command, capsys):
    memory(NEEDED.total - 1)
    assert main(command) == 3
    error = capsys.readouterr().err.removeprefix("dlm-bench: ")
    assert error.startswith("diffutran needs at least ")
    assert error.endswith("another dtype or device may do\n")
    assert error.count("\n") == 1


def test_weights_larger_than_the_memory_are_refused_by_check(memory, capsys):
    memory(NEEDED.weights - 1)
    assert main(["check", "diffutran", "--size", "tiny", "--device", "cpu"]) == 3
    assert "diffutran needs at least" in capsys.readouterr().err


@pytest.mark.parametrize("size", [NEEDED.total, None])
def test_a_model_that_may_fit_is_built(memory, size, capsys):
    memory(size)
    assert main(["run", *POINT]) == 70
    assert "internal error: AssertionError: a model was built" in capsys.readouterr().err
