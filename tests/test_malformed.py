"""Malformed sweeps and records, by the hundred: one line that says what is wrong, or exactly what
was asked for; never a traceback, and nothing made up."""

import contextlib
import io
import json
import math
import tempfile
import warnings
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlm_bench.cli import main
from dlm_bench.errors import ConfigError
from dlm_bench.results.record import SCHEMA_VERSION, Point, Record
from dlm_bench.results.store import append_record, read_records
from dlm_bench.sweep.load import load_sweep

HUNDRED = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats()
scalars = st.one_of(st.booleans(), numbers, words)
wrong = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(words, scalars, max_size=2),
    st.lists(st.lists(scalars, max_size=2), max_size=2),
)

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
    "unmask": "confidence",
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


@st.composite
def damaged(draw, whole):
    """A table with one of its values gone, of another kind, or under another name."""
    table = dict(whole)
    name = draw(st.sampled_from(sorted(table)))
    how = draw(st.sampled_from(["drop", "replace", "replace", "rename", "add"]))
    if how in ("drop", "rename"):
        value = table.pop(name)
    if how == "rename":
        table[draw(words)] = value
    if how == "replace":
        table[name] = draw(wrong)
    if how == "add":
        table[draw(words)] = draw(wrong)
    return table


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


RECORD = Record(
    point=Point(
        backbone="diffutran", size="tiny", sampler="full", options={"tokens_per_step": 8}, length=64
    ),
    status="ok",
    mode="exact",
    warmup=1,
    repeats=2,
    nfe=8,
    seconds=[1.0, 2.0],
    identity="0123456789abcdef",
)
WHOLE = json.loads(RECORD.model_dump_json())
# What a record is without; the rest may have come after it was written.
NEEDED = ("schema_version", "point", "status", "mode", "warmup", "repeats", "seed", "nfe")
NEEDED += ("seconds", "measured_at")


@HUNDRED
@given(data=st.data(), of_point=st.booleans())
def test_a_malformed_record_is_skipped_with_a_warning_or_is_what_the_line_says(data, of_point):
    line = data.draw(damaged(WHOLE["point"] if of_point else WHOLE))
    line = WHOLE | {"point": line} if of_point else line
    read, caught = read_lines(json.dumps(line).encode())
    assert read[-1] == RECORD, "the line after it is read whatever it holds"
    if len(read) == 1:
        (warning,) = caught
        assert len(warning.splitlines()) == 1
        assert "r.jsonl:1: skipped, not a whole record (" in warning
        return
    newer = read[0].schema_version > SCHEMA_VERSION
    assert ["newer schema_version" in warning for warning in caught] == [True] * newer
    said = json.loads(read[0].model_dump_json())
    assert said | finite(line) == said, "what is read is not what is written"
    for name in NEEDED:
        assert name in line, f"{name} is made up"
    assert said["point"] == finite(line["point"])


def finite(value):
    """What JSON makes of a value: null of a number that is not finite."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@HUNDRED
@given(junk=st.binary(max_size=100).filter(lambda b: b"\n" not in b and b.strip()))
def test_a_line_of_junk_costs_a_warning_and_hides_no_record(junk):
    read, caught = read_lines(junk)
    assert read == [RECORD]
    assert len(caught) == 1


@HUNDRED
@given(cut=st.integers(1, len(RECORD.model_dump_json()) - 1))
def test_a_record_cut_anywhere_is_skipped(cut):
    read, caught = read_lines(RECORD.model_dump_json().encode()[:cut])
    assert read == [RECORD]
    assert len(caught) == 1


def read_lines(*lines):
    """The records of a file of these lines, with a good one appended, and the warnings."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.jsonl"
        path.write_bytes(b"\n".join(lines))
        append_record(path, RECORD)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            return read_records(path), [str(each.message) for each in caught]
