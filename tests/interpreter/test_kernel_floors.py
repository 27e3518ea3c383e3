"""The script that measures each kernel on a GPU runs, and finds the interpreted kernels right."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "kernel_floors.py"

OPERATIONS = {
    "": {
        "attention",
        "cached_attention",
        "mixer",
        "refresh",
        "block_scan",
        "small_pass",
        "step",
        "lm_head",
        "add_norm",
        "rotary",
        "take",
        "unmask",
    },
    "--field": {"attention", "cached_attention", "rotary", "add_rms_norm", "swiglu"},
}


@pytest.mark.parametrize("which", OPERATIONS)
def test_every_case_runs_and_agrees(which, monkeypatch, tmp_path, capsys):
    output = tmp_path / "kernels.jsonl"
    arguments = "--device cpu --size tiny --sequence 48 --contexts 16 64 --output"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *which.split(), *arguments.split(), str(output)])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert done.value.code == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert {row["operation"].split()[0] for row in rows} == OPERATIONS[which]
    for row in rows:
        assert max(row["errors"].values()) < 1e-5, row  # float32, sums in another order
    assert "x floor" in capsys.readouterr().out
