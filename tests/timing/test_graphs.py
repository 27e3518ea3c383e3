"""The graph runner, with a stand-in for CUDA's capture: it keeps a step and replays it."""

from contextlib import nullcontext

import pytest
import torch

from dlm_bench.errors import ConfigError
from dlm_bench.models.factory import build_model
from dlm_bench.samplers import build_sampler
from dlm_bench.timing.graphs import MOST_GRAPHS, WARMUP_STEPS, Steps


class Plain:
    """A capture that keeps the step, and rehearses it as it is."""

    def rehearsal(self):
        return nullcontext()

    def __call__(self, step):
        return step


class Recorder(Plain):
    """Counts captures and replays; refuses with what it is told to."""

    def __init__(self, *refusals):
        self.captures, self.replays, self.refusals = 0, 0, list(refusals)

    def __call__(self, step):
        self.captures += 1
        if self.refusals:
            raise self.refusals.pop()

        def replay():
            self.replays += 1
            step()

        return replay


def decode(sampler, length, capture, graphs="auto"):
    """Decode by steps as the runner does; returns the state and the steps."""
    model = build_model("diffumamba-h", "tiny")
    state = sampler.prepare(model, length)
    steps = Steps(model, sampler, state, graphs, capture)
    kinds = [place.kind for place in state.passes]
    steps.prepare(kinds)
    sampler.seek(state, 0)
    for kind in kinds:
        steps(kind)
    return state, steps


def expected_tokens(sampler, length):
    return sampler.decode(build_model("diffumamba-h", "tiny"), length)


@pytest.mark.parametrize("commit", ["separate", "fused", "none"])
@torch.inference_mode()
def test_every_kind_is_captured_once_and_every_pass_is_a_replay(commit):
    sampler, capture = build_sampler("block-cache", commit=commit, block_size=16), Recorder()
    state, steps = decode(sampler, 100, capture)  # the last block is shorter: a kind of its own
    kinds = {place.kind for place in state.passes}
    assert capture.captures == len(kinds) > 1
    assert capture.replays == len(state.passes)
    assert set(steps.report().values()) == {"captured"}
    assert torch.equal(state.tokens, expected_tokens(sampler, 100))


@torch.inference_mode()
def test_a_kind_is_not_captured_again():
    capture = Recorder()
    state, steps = decode(build_sampler("full"), 40, capture)
    steps.prepare(place.kind for place in state.passes)
    assert capture.captures == 1


@torch.inference_mode()
def test_a_step_is_warmed_up_and_its_place_found_again_before_the_capture():
    model, sampler = build_model("diffutran", "tiny"), build_sampler("full")
    state = sampler.prepare(model, 40)
    passes, seen = [], []
    model.register_forward_hook(lambda *_: passes.append(1))

    class Looking(Plain):
        def __call__(self, step):
            seen.append((len(passes), int(state.index)))
            return step

    Steps(model, sampler, state, "auto", Looking()).prepare(["denoise"])
    assert seen == [(WARMUP_STEPS, 0)]


@torch.inference_mode()
def test_what_cannot_be_captured_runs_eagerly_and_says_why():
    refusal = RuntimeError("not permitted when stream is capturing\nand so on")
    sampler = build_sampler("fast-dllm", block_size=16)
    state, steps = decode(sampler, 64, Recorder(refusal))
    assert steps.report() == {
        "refresh": "eager: not permitted when stream is capturing",
        "denoise": "captured",
    }
    assert torch.equal(state.tokens, expected_tokens(sampler, 64))


def test_required_graphs_that_cannot_be_are_an_error():
    with pytest.raises(ConfigError, match=r"'denoise' passes cannot be captured: no such luck"):
        decode(build_sampler("full"), 32, Recorder(RuntimeError("no such luck")), "require")


def test_running_out_of_memory_is_not_taken_for_a_refusal():
    with pytest.raises(torch.OutOfMemoryError):
        decode(build_sampler("full"), 32, Recorder(torch.OutOfMemoryError("all of it")))


@torch.inference_mode()
def test_graphs_can_be_off():
    capture = Recorder()
    _, steps = decode(build_sampler("full"), 32, capture, "off")
    assert capture.captures == 0
    assert steps.report() == {"denoise": "eager: graphs are off"}


@torch.inference_mode()
def test_a_decode_of_many_kinds_captures_some_and_says_how_many():
    # A prefix cache's passes get shorter with every block: a kind a block.
    sampler = build_sampler("fast-dllm", cache="prefix", block_size=2, tokens_per_step=1)
    length = 2 * (MOST_GRAPHS + 5)
    capture = Recorder()
    _, steps = decode(sampler, length, capture)
    assert capture.captures == MOST_GRAPHS
    assert steps.report() == {
        "refresh": "captured",
        "denoise": f"captured ({MOST_GRAPHS - 1} kinds); eager: this decode has more than "
        f"{MOST_GRAPHS} kinds of pass (6 kinds)",
    }
