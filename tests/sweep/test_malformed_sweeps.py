"""Malformed sweeps, by the hundred: a line says what is wrong, or the sweep is as asked for."""

import contextlib
import io
import json
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from support.malformed import HUNDRED, damaged

from dlm_bench.cli import main
from dlm_bench.errors import ConfigError
from dlm_bench.sweep.load import load_sweep

SWEEP = {
    "name": "test",
    "size": "tiny",
    "device": "cpu",
    "dtype": "float32",
    "mode": "exact",
    "warmup": 0,
    "repeats": 1,
    "nodes": 2,
    "tolerance": 0.5,
    "max_seconds": 5.0,
    "batch": 1,
    "prompt_len": [0, 16],
    "seed": 0,
    "graphs": "auto",
    "kernels": {"ssd": "torch"},
    "timeout": 9.5,
    "memory_limit": "8GiB",
    "lengths": [64, 96],
}
LINE = {
    "backbone": "diffutran",
    "sampler": "block-cache",
    "tokens_per_step": 8,
    "block_size": 32,
    "commit": "fused",
    "order": "confidence",
    "temperature": 0.0,
}


def toml(value):
    """A value in TOML; JSON's own for words, which TOML reads."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def text_of(sweep, line):
    tables = [f"{toml(name)} = {toml(value)}" for name, value in sweep.items()]
    tables += ["[[lines]]"]
    return "\n".join(tables + [f"{toml(name)} = {toml(value)}" for name, value in line.items()])


@HUNDRED
@given(data=st.data(), of_line=st.booleans())
def test_a_malformed_sweep_is_refused_in_a_line_a_mistake_or_means_what_it_says(data, of_line):
    sweep = SWEEP if of_line else data.draw(damaged(SWEEP))
    line = data.draw(damaged(LINE)) if of_line else LINE
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.toml"
        path.write_text(text_of(sweep, line), encoding="utf-8")
        loaded, mistake = None, ""
        try:
            loaded = load_sweep(path)
        except ConfigError as error:
            mistake = str(error)
    if loaded is None:
        # A renamed key is two: one that is missing, and one that nobody knows.
        assert 1 <= len(mistake.splitlines()) <= 2
        assert all(line.startswith(str(path)) for line in mistake.splitlines())
        return
    assert sweep.keys() <= SWEEP.keys() | LINE.keys(), "a name nobody knows was let through"
    for name in (
        "mode",
        "warmup",
        "repeats",
        "nodes",
        "tolerance",
        "max_seconds",
        "seed",
        "graphs",
        "kernels",
    ):
        if name in sweep:
            assert same(getattr(loaded.measuring, name), sweep[name])
    for name in ("name", "timeout"):
        if name in sweep:
            assert same(getattr(loaded, name), sweep[name])
    for point in loaded.points:
        said = point.model_dump() | point.options
        for name, value in {**sweep, **line}.items():
            if name in said:
                allowed = value if isinstance(value, list) else [value]
                assert any(same(said[name], each) for each in allowed)


def same(one, other):
    """Equal, and no truth value taken for a number."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


@HUNDRED
@given(text=st.text(max_size=200) | st.binary(max_size=200))
def test_a_sweep_that_is_no_toml_is_one_line_and_exit_code_2(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            assert main(["sweep", str(path), "--dry-run"]) == 2
    assert len(err.getvalue().strip().splitlines()) == 1
