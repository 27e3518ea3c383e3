"""The figures of the repository's own records: a small sweep on a CPU, without energy."""

from pathlib import Path

import pytest
from support.figure_records import DRAWN, caption_of, measured

from dlm_bench.errors import ResultsError
from dlm_bench.figures import FIGURES, save
from dlm_bench.figures.caption import as_text
from dlm_bench.results.store import load_results

ROOT = Path(__file__).parents[2]
QUICK, PLOTS = ROOT / "results" / "cpu" / "quick.jsonl", ROOT / "plots" / "cpu"
SERIES = {  # of its three denoisers under three samplers, and two autoregressive ones
    "throughput": 11,
    "paper-full": 6,
    "paper-block": 4,
    "speedup": 6,
    "roofline": 11,
    "energy": 11,
    "memory": 11,
}
pytestmark = pytest.mark.filterwarnings("ignore::dlm_bench.figures.NotDrawnWarning")


@pytest.fixture
def quick():
    return load_results(QUICK)


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "energy"])
def test_every_figure_renders_with_all_its_series(quick, name, tmp_path):
    figure = DRAWN[name](quick)
    if name in SERIES:
        (axes,) = figure.axes
        assert len(measured(axes)) == SERIES[name]
    (size,) = set(quick["size"])
    assert size in caption_of(figure)
    assert all(path.stat().st_size > 5000 for path in save(figure, tmp_path / name)[:2])


def test_energy_is_named_as_what_the_records_lack(quick):
    with pytest.raises(ResultsError, match="no energy in the telemetry, for any of the 55 ok"):
        DRAWN["energy"](quick)


def test_energy_renders_once_the_records_have_it(quick, tmp_path):
    joules = 40 * quick["mean_seconds"] * quick["seconds"].map(len)
    quick["telemetry"] = [
        told | {"energy_joules": each}
        for told, each in zip(quick["telemetry"], joules, strict=True)
    ]
    figure = DRAWN["energy"](quick)
    (axes,) = figure.axes
    assert len(measured(axes)) == SERIES["energy"]
    curve = measured(axes)["DiffuTran, full sequence"]
    first = quick.iloc[0]
    # 40 W over the tokens per second; the same quotient in another order of operations.
    assert curve.get_ydata()[0] == pytest.approx(40 / first["tokens_per_second"], rel=1e-12)
    assert all(path.stat().st_size > 5000 for path in save(figure, tmp_path / "energy")[:2])


@pytest.mark.parametrize("name", [*sorted(SERIES.keys() - {"roofline", "energy"}), "latency"])
def test_the_captions_in_the_repository_are_those_of_the_code(quick, name):
    """If not: dlm-bench plot results/cpu/quick.jsonl --output plots/cpu."""
    assert (PLOTS / f"{name}.txt").read_text() == as_text(FIGURES[name](quick).caption)
