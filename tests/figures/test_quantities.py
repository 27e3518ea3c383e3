"""Speed-up, share of the roofline, energy and memory: their values, and what is said to lack."""

import math

import pytest
from support.figure_records import CPU, H100, SHEET, caption_of, demo, measured, record

from dlm_bench.cost.roofline import HARDWARE, utilisation
from dlm_bench.errors import ResultsError
from dlm_bench.figures import (
    NotDrawnWarning,
    draw_energy,
    draw_memory,
    draw_roofline,
    draw_speedup,
)

LENGTHS = [512, 2048, 8192]


def bars(axes):
    """The ends of the bars of the only line, by its places."""
    (container,) = axes.containers
    _, _, (segments,) = container.lines
    return [segment[:, 1].tolist() for segment in segments.get_segments()]


def test_speedup_is_over_diffutran_with_the_same_sampler(frame):
    with pytest.warns(NotDrawnWarning, match="AR Transformer.*no DiffuTran with the same"):
        figure = draw_speedup(frame(*demo(LENGTHS, noise=0)))
    (axes,) = figure.axes
    lines = measured(axes)
    assert len(lines) == 6
    assert not any(label.startswith("DiffuTran") for label in lines)
    # The laws of the records, in ms a pass, at 8192: 4e-6 L² + 1e-2 L + 1 over 1.4e-2 L + 2.4.
    expected = (4e-6 * 8192**2 + 1e-2 * 8192 + 1) / (1.4e-2 * 8192 + 2.4)
    found = lines["DiffuMamba, full sequence"].get_ydata()[-1]
    assert found == pytest.approx(expected, rel=1e-9)  # rounding alone: no noise
    assert axes.get_ylabel() == "speed-up over DiffuTran"
    assert "over those of DiffuTran with the same sampler and options" in caption_of(figure)


def test_the_caption_of_a_speedup_names_the_attention_of_both_sides(frame):
    kernels = {
        "diffutran": {"attention": "cudnn", "cached_attention": "triton", "ssd": "torch"},
        "diffumamba-h": {"attention": "flash", "cached_attention": "triton", "ssd": "mamba-ssm"},
        "diffumamba": {"attention": "flash-attn-4", "cached_attention": "varlen"},  # but has none
    }
    records = [record(name, "full", 1024, kernels=kernels[name]) for name in kernels]
    records.append(record("diffutran", "full", 2048, kernels={"attention": "flash-attn-4"}))
    said = draw_speedup(frame(*records)).caption
    assert said.endswith(
        "Attention: DiffuTran cudnn or flash-attn-4 (whole sequences), triton (blocks over a "
        "cache); DiffuMamba-H flash (whole sequences), triton (blocks over a cache)."
    )


def test_the_caption_of_a_speedup_without_a_choice_of_attention_names_none(frame):
    plain = {"attention": "torch", "cached_attention": "torch"}
    records = [record(name, "full", 1024, kernels=plain) for name in ("diffutran", "diffumamba")]
    assert "Attention" not in draw_speedup(frame(*records)).caption


def test_bars_of_a_speedup_have_the_errors_of_both(frame):
    slow = record("diffutran", "full", 512, seconds=[4.0, 5.0], error_estimate=math.e**0.3 - 1)
    fast = record("diffumamba", "full", 512, seconds=[1.0, 2.0], error_estimate=math.e**0.4 - 1)
    (axes,) = draw_speedup(frame(slow, fast)).axes
    assert measured(axes)["DiffuMamba"].get_ydata() == pytest.approx([3.0])
    (ends,) = bars(axes)
    assert ends == pytest.approx([3 / math.e**0.5, 3 * math.e**0.5])


def test_a_length_that_diffutran_did_not_reach_is_named(frame):
    records = [record("diffumamba", "full", n) for n in LENGTHS]
    records += [record("diffutran", "full", n) for n in LENGTHS[:2]]
    with pytest.warns(NotDrawnWarning, match=r"not drawn: DiffuMamba at L = 8192 \(no DiffuTran"):
        (axes,) = draw_speedup(frame(*records)).axes
    assert measured(axes)["DiffuMamba"].get_xdata().tolist() == LENGTHS[:2]


def test_a_speedup_over_nothing_is_an_error(frame):
    with pytest.raises(ResultsError, match="no ok record of 'diffutran'; there are: diffumamba"):
        draw_speedup(frame(record("diffumamba", "full", 512)))
    other = [record("diffumamba", "full", 512), record("diffutran", "block-cache", 512)]
    with pytest.raises(ResultsError, match="no DiffuTran with the same sampler and options"):
        draw_speedup(frame(*other))


def test_the_share_of_the_roofline_is_utilisations(frame):
    each = record("diffumamba", "block-cache", 512, seconds=[1.0, 3.0], error_estimate=0.5)
    figure = draw_roofline(frame(each), hardware=SHEET)
    (axes,) = figure.axes
    share = utilisation(each, SHEET).roofline
    # 1e-12: the same quotients in another order of operations.
    assert measured(axes)["DiffuMamba, commit=separate"].get_ydata() == pytest.approx(
        [share], rel=1e-12
    )
    assert bars(axes)[0] == pytest.approx([share / 1.5, share * 1.5], rel=1e-12)
    assert "made-up, a test" in caption_of(figure)


def test_the_sheet_is_that_of_the_machine_and_records_without_one_are_named(frame):
    half = {"dtype": "bfloat16"}
    gpu = [record("diffutran", "full", n, hardware=H100, point=half) for n in LENGTHS]
    cpu = [record("diffutran", "full", n) for n in LENGTHS]
    single = [record("diffutran", "ar", n, hardware=H100) for n in LENGTHS]
    with pytest.warns(NotDrawnWarning) as caught:
        figure = draw_roofline(frame(*gpu, *cpu, *single))
    told = str(caught[0].message)
    assert f"full (no sheet of {CPU!r}; --hardware names one)" in told
    assert "ar (dtype: 'float32' is not allowed" in told
    (axes,) = figure.axes
    (line,) = measured(axes).values()
    expected = [utilisation(each, HARDWARE["h100-sxm"]).roofline for each in gpu]
    assert line.get_ydata().tolist() == pytest.approx(expected, rel=1e-12)


def test_records_that_do_not_say_their_model_are_named(frame):
    with pytest.raises(ResultsError, match="full \\(model: this record does not say what it is"):
        draw_roofline(frame(record("diffutran", "full", 512, model={})), hardware=SHEET)
    with pytest.raises(ResultsError, match="theirs \\(sampler: 'theirs' is not known"):
        draw_roofline(frame(record("diffutran", "theirs", 512)), hardware=SHEET)


def test_energy_is_of_a_token_of_all_repeats(frame):
    told = {"energy_joules": 640.0}
    each = record("diffutran", "full", 512, telemetry=told, point={"batch": 2})
    (axes,) = draw_energy(frame(each)).axes
    # Five repeats of two sequences of 512 tokens.
    assert measured(axes)["DiffuTran"].get_ydata() == pytest.approx([640 / (5 * 2 * 512)])


def test_points_without_energy_are_named(frame):
    records = [record("diffutran", "full", n) for n in LENGTHS]
    records[0].telemetry["energy_joules"] = None
    records += [record("diffumamba", "full", n, telemetry={}) for n in LENGTHS]
    with pytest.warns(NotDrawnWarning) as caught:
        draw_energy(frame(*records))
    assert str(caught[0].message) == (
        "figure 'energy': not drawn: DiffuTran at L = 512; DiffuMamba (no energy in the telemetry)"
    )


def test_memory_is_the_peak_in_gibibytes(frame):
    records = [record("diffutran", "full", n, peak_memory_bytes=n * 2**20) for n in LENGTHS]
    (axes,) = draw_memory(frame(*records)).axes
    assert measured(axes)["DiffuTran"].get_ydata().tolist() == [0.5, 2, 8]
    unknown = [record("diffutran", "full", n, peak_memory_bytes=None) for n in LENGTHS]
    with pytest.raises(ResultsError, match="no peak memory in the record, for any of the 3 ok"):
        draw_memory(frame(*unknown))
