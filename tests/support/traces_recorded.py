"""Traces recorded by the command line."""

from dlm_bench.cli import main

SWEEP = """
name = "replays"
size = "tiny"
dtype = "float32"
warmup = 0
repeats = 1
lengths = [16, 48]

[[lines]]
backbone = "diffutran"
sampler = "block-cache"
block_size = 8
trace = ["traces/a.json", "traces/b.json"]

[[lines]]
backbone = "diffutran"
sampler = "block-cache"
block_size = 8
accept = "threshold"
threshold = [0.02, 0.05]
"""


def record(path, *arguments):
    where = [
        "diffutran",
        "block-cache",
        "-L",
        "32",
        "--size",
        "tiny",
        "--device",
        "cpu",
        "-o",
        "block_size=8",
    ]
    assert main(["trace", *where, *arguments, "--output", str(path)]) == 0


def refused(capsys, *arguments):
    """What a command that ends with 2 says, in one line."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said
