"""A unit timed alone makes the very calls of a decode: nothing kept from its last run helps."""

from collections import Counter

import pytest
import torch
from support.cases import samplers
from torch.utils._python_dispatch import TorchDispatchMode

from dlm_bench.models.factory import build_model
from dlm_bench.models.language_model import KEPT
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.unit_timer import UnitTimer
from dlm_bench.timing.units import units

LENGTH, BLOCK = KEPT + 8, 8  # a token a pass: more timesteps than are kept, of a block few


class Calls(TorchDispatchMode):
    """Counts PyTorch's operators."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.found[str(operator)] += 1
        return operator(*args, **(kwargs or {}))


class CountedSteps(Steps):
    """Steps that count the calls of each pass."""

    def __init__(self, model, sampler, state):
        super().__init__(model, sampler, state, "off")
        self.calls = []

    def __call__(self, kind):
        with Calls() as calls:
            super().__call__(kind)
        self.calls.append(calls.found)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["full", "dual", "prefix", "separate", "fused", "none"])
def test_a_timed_unit_makes_the_calls_of_a_decode(name):
    sampler = samplers(block_size=BLOCK, tokens_per_step=1)[name]
    # Attention, then Mamba.
    model = build_model("diffumamba-h", "tiny", layers=2, device="cpu", dtype=torch.float32)
    state = sampler.prepare(model, LENGTH)
    steps = CountedSteps(model, sampler, state)
    for _ in range(2):  # what a decode keeps is there in the second one
        steps.calls.clear()
        sampler.seek(state, 0)
        for planned in state.passes:
            steps(planned.kind)
    decode = list(steps.calls)
    timer = UnitTimer(sampler, state, steps, torch.device("cpu"))
    unit = [*units(state.passes)][-2]
    for _ in range(2):
        timer.laps(unit)
    assert steps.calls[-unit.count :] == decode[unit.index : unit.index + unit.count]
