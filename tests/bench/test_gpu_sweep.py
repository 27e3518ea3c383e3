"""The sweep of the GPU check with what its earlier stages found."""

import gpu_sweep
import pytest
from rows import append


@pytest.fixture
def kernels(tmp_path):
    """A file of attention's cases, where another backend is the fastest both ways and causal."""
    path = tmp_path / "kernels.jsonl"
    for name, size, seconds in (
        ("cudnn", "L=16384", 10.0),
        ("cudnn", "L=16384 causal", 9.0),
        ("flash", "L=16384", 20.0),
        ("flash", "L=16384 causal", 1.0),
        ("triton", "L=16384 causal", 1.0),
    ):
        append(path, case(name, size) | {"seconds": seconds})
    append(path, case("triton", "L=16384") | {"operation": "conv", "seconds": 1e-6})
    return path


def case(name, size, status="ok"):
    row = {"operation": "attention", "implementation": name, "size": size, "status": status}
    return row | {"kernels": {"attention": name}}


def test_the_fastest_attention_is_that_of_both_ways(kernels):
    assert gpu_sweep.fastest_attention(kernels) == "cudnn"


@pytest.mark.parametrize("size", ["L=16384", "L=16384 causal"])
def test_an_attention_that_was_wrong_is_not_the_fastest(kernels, size):
    append(kernels, case("cudnn", size, "raised"))
    assert gpu_sweep.fastest_attention(kernels) == "flash"
    append(kernels, case("cudnn", size) | {"seconds": 10.0})  # mended
    assert gpu_sweep.fastest_attention(kernels) == "cudnn"


def test_without_measurements_the_default_attention_stays(tmp_path):
    assert gpu_sweep.fastest_attention(tmp_path / "none") is None


@pytest.fixture
def swept(tmp_path, monkeypatch, kernels):
    """Run the script where each sweep ends with the next of these codes: what was asked of them."""

    def run(*codes, options=()):
        asked, ends = [], iter(codes)
        monkeypatch.setattr(gpu_sweep, "dlm_bench", lambda a: asked.append(a) or next(ends))
        call = ["x", "gpu_first", "--output", str(tmp_path / "records.jsonl")]
        monkeypatch.setattr("sys.argv", [*call, "--kernels", str(kernels), *options])
        assert gpu_sweep.main() == codes[-1]
        assert next(ends, None) is None
        return asked

    return run


def test_the_sweep_gets_what_was_found(swept, kernels):
    (asked,) = swept(3)
    assert asked[:2] == ["sweep", "gpu_first"]
    assert "--resume" not in asked
    assert asked[asked.index("--kernel-check") + 1] == str(kernels)
    assert asked[-2:] == ["--attention", "cudnn"]
    assert asked[asked.index("--timeout") + 1] == "60s"
    (asked,) = swept(0, options=["--only", "length=8", "--timeout", "100s"])
    assert asked[asked.index("--timeout") + 1] == "100s"
    assert asked[asked.index("--only") + 1] == "length=8"
    kernels.unlink()
    (asked,) = swept(0)
    assert not {"--attention", "--kernel-check"} & set(asked)


def test_a_second_run_measures_what_is_missing_before_what_failed(swept, tmp_path):
    (tmp_path / "records.jsonl").touch()
    missing, failed = swept(3, 0)
    assert missing[-1] == "--resume"
    assert failed[-2:] == ["--resume", "--retry-failed"]
    assert len(swept(0)) == len(swept(130)) == 1  # nothing failed; interrupted
