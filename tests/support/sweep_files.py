"""A valid sweep file to change, and the reading of a text as a sweep file."""

from dlm_bench.sweep.load import load_sweep

VALID = """
name = "test"
size = "tiny"
dtype = "float32"
lengths = [64, 128]

[[lines]]
backbone = ["diffutran", "diffumamba"]
sampler = "block-cache"
tokens_per_step = [8, 16]
commit = "fused"
"""


def load(tmp_path, text):
    path = tmp_path / "s.toml"
    path.write_text(text)
    return load_sweep(path)
