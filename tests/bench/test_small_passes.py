"""bench/small_passes.py: calls of small passes, which are the same at every run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# PyTorch's calls of a pass of `small`, with 2.13; a loop over heads, directions or segments, or
# rows made anew in every layer, is hundreds more.
MOST = {
    ("diffumamba", "denoise"): 1200,
    ("diffumamba", "commit"): 1250,
    ("diffumamba", "fused"): 1500,
    ("diffumamba", "refresh"): 2800,
    ("diffutran", "denoise"): 700,
    ("diffutran", "commit"): 620,
    ("diffutran", "fused"): 900,
}


@pytest.mark.process
def test_a_small_pass_makes_few_calls():
    script = str(ROOT / "bench" / "small_passes.py")
    command = [sys.executable, script, "--rounds", "2", "--decodes", "1", "--lengths", "64"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = re.findall(r"^(\S+) +(\S.*?)  +(\S+) +(\d+) +(\d+)   \d", done.stdout, re.MULTILINE)
    calls = {}
    for backbone, sampler, kind, _, count in rows:
        calls[backbone, sampler, kind] = int(count)
    assert {(backbone, kind) for backbone, _, kind in calls} >= MOST.keys()
    for (backbone, _, kind), count in calls.items():
        assert count <= MOST.get((backbone, kind), count), (backbone, kind)
    assert re.search(
        r"64 tokens with a block cache: diffumamba \d+ tokens/s\n  diffutran \d+", done.stdout
    )
