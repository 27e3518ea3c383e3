"""The sweep of the GPU check with what its earlier stages found."""

import gpu_sweep
import pytest
from rows import append


@pytest.fixture
def files(tmp_path):
    """Speeds at two lengths, where another backend is the fastest at each."""
    libraries, kernels = tmp_path / "libraries.jsonl", tmp_path / "kernels.jsonl"
    for name, length, seconds in (
        ("cudnn", 8192, 2.0),
        ("flash", 8192, 1.0),
        ("cudnn", 32768, 10.0),
        ("flash", 32768, 20.0),
    ):
        row = {"what": "attention", "implementation": name, "length": length, "seconds": seconds}
        append(libraries, row)
    append(
        libraries, {"what": "attention", "implementation": "x", "length": 99999, "message": "no"}
    )
    append(libraries, {"what": "matmul", "implementation": "linear", "seconds": 1e-6})
    return libraries, kernels


def test_the_fastest_attention_is_that_at_the_longest_length(files):
    assert gpu_sweep.fastest_attention(*files) == "cudnn"


def test_an_attention_that_was_wrong_is_not_the_fastest(files):
    case = {"operation": "attention", "implementation": "cudnn", "size": "8192"}
    append(files[1], case | {"status": "wrong", "kernels": {"attention": "cudnn"}})
    append(files[1], case | {"operation": "conv", "status": "raised", "kernels": {}})
    assert gpu_sweep.fastest_attention(*files) == "flash"
    append(files[1], case | {"status": "ok", "kernels": {"attention": "cudnn"}})  # mended
    assert gpu_sweep.fastest_attention(*files) == "cudnn"


def test_without_measurements_the_default_attention_stays(tmp_path):
    assert gpu_sweep.fastest_attention(tmp_path / "none", tmp_path / "none") is None


def test_the_sweep_gets_what_was_found_and_goes_on(files, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(gpu_sweep, "dlm_bench", lambda arguments: asked.append(arguments) or 3)
    output = tmp_path / "records.jsonl"
    call = ["x", "gpu_first", "--output", str(output), "--kernels", str(files[1])]
    call += ["--libraries", str(files[0])]
    monkeypatch.setattr("sys.argv", call)
    assert gpu_sweep.main() == 3
    assert asked[0][:2] == ["sweep", "gpu_first"]
    assert "--resume" not in asked[0]
    assert "--kernel-check" not in asked[0]
    assert asked[0][-2:] == ["--attention", "cudnn"]
    assert asked[0][asked[0].index("--timeout") + 1] == "150s"
    output.touch()
    files[1].touch()
    gpu_sweep.main()
    assert asked[1][asked[1].index("--resume") + 1] == "--retry-failed"
    assert asked[1][asked[1].index("--kernel-check") + 1] == str(files[1])
