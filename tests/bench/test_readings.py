"""The scripts in bench/ that read what others measured."""

import subprocess
import sys
from pathlib import Path

import pytest
from pass_floors import floors

from dlm_bench.cost.roofline import HARDWARE, Hardware
from dlm_bench.results.store import load_results

ROOT = Path(__file__).parents[2]
LAPTOP = Hardware("laptop", 1e11, 1e10, 16e9, "made up", dtype="float32")


def test_pass_floors_compares_each_point_with_diffutran_and_the_roofline():
    frame = load_results(ROOT / "results" / "cpu" / "quick.jsonl")
    table = floors(frame, LAPTOP)
    assert len(table) == len(frame)
    tran = table[table.backbone == "diffutran"]
    assert (tran.over_diffutran == 1).all()
    assert table[table["sampler"] == "ar"].over_diffutran.isna().all()
    point = table[(table["sampler"] == "full") & (table.length == 8192)].set_index("backbone")
    speed = point.tokens_per_second
    expected = speed["diffumamba"] / speed["diffutran"]
    assert point.over_diffutran["diffumamba"] == pytest.approx(expected)
    assert (table.x_floor > 0).all()


@pytest.mark.process
def test_pass_floors_says_in_a_line_what_is_wrong(tmp_path):
    command = [sys.executable, str(ROOT / "bench" / "pass_floors.py")]
    command += [str(tmp_path / "none.jsonl"), "--hardware", next(iter(HARDWARE))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("pass_floors: results file")
    assert done.stderr.count("\n") == 1
