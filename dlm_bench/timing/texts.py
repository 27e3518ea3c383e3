"""The fields of a record about the texts of a decode: its prompts and its ends."""

from typing import Any

from dlm_bench.errors import PointError
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.ends import find_ends
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape, prefill_passes
from dlm_bench.samplers.state import DecodeState
from dlm_bench.samplers.stop import stop_at


def end_of(model: Model, sampler: Sampler, state: DecodeState) -> dict[str, int]:
    """Find the end of the texts by a decode, cut the passes there, and return the record's fields
    about it. Raises PointError if there is nothing left to time."""
    ends = find_ends(sampler, model, state)
    stop_at(state, ends)
    first = sum(step.reveal for step in state.passes[: prefill_passes(state.passes)])
    timed = sum(tokens - first for tokens in ends.to_eos)
    if not timed:
        raise PointError(
            "stop_at_eos: every sequence ends with the token of the prefill pass; nothing is left "
            "to time"
        )
    return {
        "timed_tokens": timed,
        "generated": sum(ends.generated),
        "tokens_to_eos": sum(ends.to_eos),
    }


def prompt_fields(shape: DecodeShape, seed: int) -> dict[str, Any]:
    """Return the record's `prompt_file`."""
    if shape.prompts is None:
        return {}
    drawn = shape.prompts.drawn(range(seed, seed + shape.batch))
    return {"prompts": len(shape.prompts.ids), "drawn": drawn}
