"""Traces by hand."""

from dlm_bench.samplers.acceptance.trace import Trace

FACTS = {
    "schema_version": 2,
    "backbone": "diffumamba",
    "size": "tiny",
    "sampler": "block-cache",
    "options": {"accept": "threshold", "threshold": 0.9},
    "block_size": 4,
    "length": 10,
    "checkpoint": "",
    "seed": 0,
    "sequences": [[[3, 1], [1, 1, 1, 1], [2]]],
}
EDITS = {"accept": "joint", "threshold": 0.9, "edit_threshold": 0.0, "max_edit_passes": 4}


def trace_of(accepted=None, **changes):
    sequences = {} if accepted is None else {"sequences": [accepted]}
    return Trace.by_hand(**FACTS | changes | sequences)
