"""The buffers of a decode that stops where its sequences end."""

from dlm_bench.samplers.ends import Ends
from dlm_bench.samplers.first_done import idle_after
from dlm_bench.samplers.pass_numbers import numbers_of, timesteps_of
from dlm_bench.samplers.places import places_of
from dlm_bench.samplers.state import DecodeState


def stop_at(state: DecodeState, ends: Ends) -> None:
    """Cut a decode at its ends. A sequence that ends before the last one idles until then."""
    batch, most, timesteps = len(state.tokens), max(ends.generated), timesteps_of(state.passes)
    state.passes = state.passes[: max(ends.passes)]
    state.end = state.prompt_len + most
    state.behind_ends = sum(most - count for count in ends.generated)
    if state.places is not None:
        state.passes = idle_after(state.passes, ends.passes)
        state.places = places_of(state.passes, batch, state.index.device)
        state.numbers = numbers_of(state.passes, timesteps, batch).to(state.index.device)
