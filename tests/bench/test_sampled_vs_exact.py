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


def test_a_measurement_too_short_to_state_an_error_is_an_outcome(monkeypatch):
    """Two rounds state none."""
    record = module.dlm_bench.measure(
        build_model("diffutran", "tiny"), SAMPLERS["dual"], 64, warmup=0, repeats=1
    )
    monkeypatch.setattr(module.dlm_bench, "measure", lambda *_, **__: record)
    assert record.error_estimate is None
    outcome = module.measure_long(None, None, 64, 1.0, 1, nodes=3)
    assert outcome.stated is None
    assert not outcome.covered
    assert "stated nothing NOT COVERED" in module.text_of(outcome)
