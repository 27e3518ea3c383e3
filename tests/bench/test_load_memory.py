"""bench/load_memory.py: what loading a folder takes above its weights."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_two_shards_takes_less_than_1_2_times_the_weights():
    script = str(ROOT / "bench" / "load_memory.py")
    command = [sys.executable, script, "--gigabytes", "0.6"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    weights, peak, times = map(float, re.findall(r"\d+\.\d+", done.stdout)[:3])
    assert 0.5 < weights < 0.7
    # A loader that held the files, or a whole shard, beside the model would need 1.5 and more.
    assert 0.99 < times < 1.2
    assert peak > 0.5
