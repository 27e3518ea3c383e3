"""A decode faster than the hardware allows is an error of the point."""

from dataclasses import asdict

import pytest
import torch
from support.records import make_record

import dlm_bench
from dlm_bench import build_sampler
from dlm_bench.cost import too_fast
from dlm_bench.cost.hardware import HARDWARE
from dlm_bench.cost.roofline import decode_floor, utilisation
from dlm_bench.cost.too_fast import check_not_too_fast
from dlm_bench.errors import ConfigError, PointError
from dlm_bench.models.config import model_config

SAMPLER = build_sampler("full")
CONFIG = model_config("diffutran", "1.3b")
FLOOR = decode_floor(CONFIG, SAMPLER, 4096, HARDWARE["h200"])


def measured(share, hardware="NVIDIA H200", dtype="bfloat16", **point):
    return make_record(
        "diffutran",
        length=4096,
        point={"dtype": dtype, "size": "1.3b"} | point,
        seconds=[share * FLOOR],
        model=asdict(CONFIG),
        environment={"hardware": hardware},
    )


def test_a_decode_faster_than_its_floor_is_refused_with_both_times():
    with pytest.raises(PointError, match=r"is faster than h200 can be, .* not computed"):
        check_not_too_fast(measured(0.5), SAMPLER)


def test_measure_of_python_refuses_it_too(monkeypatch):
    model = dlm_bench.build_model("diffutran", "tiny", dtype=torch.bfloat16)
    assert dlm_bench.measure(model, SAMPLER, 8, warmup=0, repeats=1).status == "ok"
    monkeypatch.setattr(too_fast, "sheet_of", lambda name: HARDWARE["h200"])
    monkeypatch.setattr(too_fast, "MARGIN", 1e9)
    with pytest.raises(PointError, match="is faster than h200 can be"):
        dlm_bench.measure(model, sampler=SAMPLER, length=8, warmup=0, repeats=1)


@pytest.mark.parametrize(
    "record",
    [
        measured(1.1),
        measured(0.5, hardware="Some CPU, 2 threads"),
        measured(0.5, dtype="float32"),
        measured(0.5, stop_at_eos=True),  # whose last passes did not run
        measured(0.5).model_copy(update={"model": {"backbone": "a plug-in's"}}),
    ],
)
def test_nothing_is_said_of_a_slower_decode_or_where_the_floor_is_not_known(record):
    check_not_too_fast(record, SAMPLER)


def test_a_decode_that_ended_with_its_texts_has_no_share_of_the_roofline():
    record = measured(2.0, stop_at_eos=True)
    assert utilisation(measured(2.0), HARDWARE["h200"]).roofline == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="stop_at_eos: a record names no passes"):
        utilisation(record, HARDWARE["h200"])


def test_weights_that_fit_in_a_cache_have_no_floor_by_the_memory():
    config = model_config("diffutran", "tiny")
    floor = decode_floor(config, SAMPLER, 64, HARDWARE["h200"])
    record = make_record("diffutran", length=64, seconds=[floor / 2], model=asdict(config))
    check_not_too_fast(record, SAMPLER, HARDWARE["h200"])
