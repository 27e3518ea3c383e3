"""bench/small_passes.py: calls of small passes, which are the same at every run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# PyTorch's calls of a pass of `small`, with 2.13; a loop over heads, directions or segments, or
# rows made anew in every layer, is hundreds more. Fast-dLLM makes adaLN's rows in every pass.
MOST = {
    ("diffumamba", "block-cache", "denoise"): 1200,
    ("diffumamba", "block-cache", "commit"): 1250,
    ("diffumamba", "block-cache commit=fused", "fused"): 1500,
    ("diffumamba", "fast-dllm", "refresh"): 2800,
    ("diffumamba", "fast-dllm", "denoise"): 1400,
    ("diffutran", "block-cache", "denoise"): 700,
    ("diffutran", "block-cache", "commit"): 620,
    ("diffutran", "block-cache commit=fused", "fused"): 900,
    ("diffutran", "fast-dllm", "denoise"): 900,
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
    assert calls.keys() >= MOST.keys()
    for case, most in MOST.items():
        assert calls[case] <= most, case
    assert re.search(
        r"64 tokens with a block cache: diffumamba \d+ tokens/s\n  diffutran \d+", done.stdout
    )
