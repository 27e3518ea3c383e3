"""bench/sampled_vs_exact.py: its turns, with and without an early stop."""

import sampled_vs_exact as module
from support.pass_clock import PassClock
from support.plans import SAMPLERS

from dlm_bench import build_model


def test_the_rounds_of_an_even_machine_stop_early_at_a_tolerance(monkeypatch):
    monkeypatch.setattr(module, "WARM_SECONDS", 0.0)
    monkeypatch.setattr(module, "time", PassClock(monkeypatch))
    model = build_model("diffutran", "tiny")
    early = module.take_turns(model, SAMPLERS["dual"], 64, 1.0, 0.05)
    assert early.rounds == early.decodes == 5
    assert abs(early.error) < 1e-6  # a nanosecond for each look at the clock
    late = module.take_turns(model, SAMPLERS["dual"], 64, 1.0, module.ANY_ERROR)
    assert late.rounds > 5
