"""The record that all records of imaginary measurements are made by."""

from dlm_bench.results.record import Point, Record

# The options of each denoiser's sampler, but for the tokens per step.
SAMPLERS = {
    "full": {},
    "fast-dllm": {"block_size": 32, "cache": "dual"},
    "block-cache": {"block_size": 32, "commit": "separate"},
}


def make_record(backbone="diffutran", sampler="full", length=64, *, point=None, **fields):
    """Return an ok record of a tiny model; `point` has fields of its point."""
    where = {"size": "tiny", "dtype": "float32"} | (point or {})
    told = {"status": "ok", "mode": "exact", "warmup": 1, "repeats": 2, "nfe": 8} | fields
    where = Point(backbone=backbone, sampler=sampler, length=length, **where)
    return Record(point=where, **{"seconds": [1.0]} | told)
