"""Malformed records, by the hundred: skipped with a warning, or exactly what the line says."""

import json
import math
import tempfile
import warnings
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from support.malformed import HUNDRED, damaged

from dlm_bench.results.record import SCHEMA_VERSION, Point, Record
from dlm_bench.results.store import append_record, read_records

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
COMPUTED = Record.model_computed_fields.keys()
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
    kept = {name: value for name, value in line.items() if name not in COMPUTED}
    assert said | finite(kept) == said, "what is read is not what is written"
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
