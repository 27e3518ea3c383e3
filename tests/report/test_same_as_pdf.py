"""A series has the same name, colour, marker and dashes in the PDF and in the report."""

import json
import re

import pytest
from matplotlib.colors import to_hex
from support.figure_records import measured
from support.records import make_record
from support.report_records import record, study

from dlm_bench.figures import draw_throughput, palette
from dlm_bench.report import build_report
from dlm_bench.report.markers import MARKERS
from dlm_bench.report.plots import WIDTH
from dlm_bench.results.store import frame_of

CPU = record().environment
FUSED = {"tokens_per_step": 8, "block_size": 32, "commit": "fused"}
STUDIES = {
    "demo": study(),
    "commits": [
        *study(),
        *(record("diffumamba", "block-cache", n, point={"options": FUSED}) for n in (512, 1024)),
        *(record("ar-mamba", "ar", n) for n in (512, 1024)),
    ],
    "of a plug-in": [
        *study(),
        *(record("mine", "full", n) for n in (512, 1024)),
        *(make_record("diffutran", "other", n, environment=CPU) for n in (512, 1024)),
    ],
}


def in_pdf(records):
    (axes,) = draw_throughput(frame_of(records)).axes
    return {
        name: (to_hex(curve.get_color()), curve.get_marker(), curve._unscaled_dash_pattern[1] or ())
        for name, curve in measured(axes).items()
    }


def in_report(records):
    page = build_report(records, ["results.jsonl"])
    drawn = json.loads(re.search(r'id="drawn">(.*?)</script>', page, re.DOTALL)[1])
    (points,), (series,) = (tables(drawn, column) for column in ("marker", "dash"))
    found = {}
    for index, label, colour, marker in zip(
        *(points[name] for name in ("series", "label", "colour", "marker")), strict=True
    ):
        assert series["colour"][index] == colour
        dashes = tuple(dash / WIDTH for dash in series["dash"][index])
        found[label] = colour.lower(), marker, dashes
    return found


def tables(drawn, column):
    """The tables of the document that have a column."""
    found, waiting = [], [drawn["document"]]
    while waiting:
        each = waiting.pop()
        waiting += (
            each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        )
        if isinstance(each, dict) and each.get("type") == "map":
            entries = dict(each["entries"])
            found += [entries] if column in entries else []
    return found


@pytest.mark.parametrize("name", STUDIES)
def test_names_colours_markers_and_dashes_are_the_same(name):
    pdf, report = in_pdf(STUDIES[name]), in_report(STUDIES[name])
    assert len(pdf) >= 9
    assert report.keys() == pdf.keys()
    for series, (colour, marker, dashes) in pdf.items():
        assert report[series] == (colour, MARKERS[marker].bokeh, pytest.approx(dashes))


def test_every_marker_of_the_palette_is_in_the_report_and_is_another_one_there():
    markers = {*palette.MORE_MARKERS, *(style.marker for style in palette.SAMPLER_STYLES.values())}
    assert markers == MARKERS.keys()
    assert len({marker.bokeh for marker in MARKERS.values()}) == len(MARKERS)
