"""What is in a report, without a browser; what it does in one is in test_report_in_browser."""

import subprocess
import sys
from html.parser import HTMLParser

import pytest
from support.processes import cpu_seconds
from support.report_records import EVIL, LENGTHS, failed, of_gpu, record, study, thousand

from dlm_bench.cli import main

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """The text of a page by the section it is in, the elements there are, and their attributes."""

    def __init__(self, path):
        super().__init__()
        self.open, self.section, self.code = [], "", ""
        self.text, self.tags, self.attributes = {}, set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.tags.add(tag)
        self.attributes += attributes
        if tag in ("section", "article", "header"):
            self.section = dict(attributes).get("id", self.section)

    def handle_endtag(self, tag):
        assert tag == self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.code += data
        else:
            self.text[self.section] = self.text.get(self.section, "") + data

    @property
    def words(self):
        return " ".join(" ".join(self.text.values()).split())


@pytest.fixture(scope="module")
def whole(write_report):
    flagged = record(length=8192, flags=["drifting", "outliers"])
    return Page(write_report(*study(), flagged, failed("oom", 16384, message="no memory left")))


def test_every_series_is_in_the_legends_and_tables(whole):
    for backbone in ("DiffuTran", "DiffuMamba", "DiffuMamba-H"):
        for sampler in ("full sequence", "Fast-dLLM", "block cache, commit=separate"):
            assert f"{backbone}, {sampler}" in whole.text["throughput"]
            assert f"{backbone}, {sampler}" in whole.text["table-throughput"]
            assert f"{backbone}, {sampler}" in whole.text["table-fits"]
    for length in LENGTHS:
        assert f"{length:,}" in whole.text["table-throughput"]


def test_the_speed_up_is_of_the_others_alone(whole):
    for section in ("speedup", "table-speedup"):
        assert "DiffuMamba, full sequence" in whole.text[section]
        assert "DiffuTran, full sequence" not in whole.text[section]
    # At 4096 tokens, two doublings from 1024: 2.0 x 2.6² over 3.0 x 1.9².
    assert "1.25" in whole.text["table-speedup"]


def test_what_cannot_be_drawn_is_named(whole):
    assert "peak memory (no record has its peak memory)" in whole.words
    assert "energy (no energy sensor)" in whole.words
    assert "fraction of the roofline (no sheet" in whole.words


def test_failed_and_flagged_points_are_told(whole):
    told = " ".join(whole.text["problems"].split())
    assert "1 out of memory" in told
    assert "no memory left" in told
    assert "diffutran tiny full p=8 L=16384" in told
    assert "drifting, outliers" in told
    assert "repeats get slower or faster; some repeats far off" in told


def test_a_point_that_was_measured_later_has_not_failed(write_report):
    page = Page(write_report(failed("timeout", 2048), *study()))
    assert "Every point was measured." in page.words


def test_points_are_counted_and_not_records(write_report):
    """As after `--resume --retry-failed`: a failure, then its success; and a failure for good."""
    flagged = record(length=512, flags=["drifting"])
    retried = [failed("timeout", 2048), *study(), failed("oom", 1 << 14), failed("oom", 1 << 14)]
    page = Page(write_report(flagged, *retried, failed("error", 1024)))
    told = page.words.replace(" ", "")
    # Of the 36 points of the study one was flagged at first, and measured again without a flag.
    assert "records41points37measured36failedorskipped1flagged0" in told
    assert "1 out of memory" in page.words
    assert "No measured point has a flag." in page.words


@pytest.mark.parametrize("mode", ["exact", "sampled"])
def test_the_bars_are_said_to_be_the_interval(mode, write_report):
    error = 0.1 if mode == "sampled" else None
    page = Page(write_report(*(record(length=n, mode=mode, error_estimate=error) for n in LENGTHS)))
    assert "Bars are the 95 % interval of the mean." in page.words
    assert ("Hollow marks are sampled timing." in page.words) == (mode == "sampled")


def test_points_without_a_known_interval_are_told(write_report):
    page = Page(write_report(*(record(length=n, seconds=[1.0, 2.0]) for n in LENGTHS)))
    assert "points without a bar have too few repeats." in page.words


def test_the_environment_is_told_for_each_there_is(write_report):
    other = {"hardware": "another CPU", "torch": "2.14.0"}
    page = Page(write_report(*study(), record(length=8192, environment=other)))
    told = page.text["environment"]
    for word in ("a CPU of the tests", "another CPU", "2.13.0", "2.14.0", "36"):
        assert word in told


def test_a_gpus_records_have_every_figure(write_report):
    page = Page(write_report(*(of_gpu("diffutran", "full", n, 8) for n in LENGTHS)))
    for name in ("throughput", "latency", "roofline", "memory", "energy"):
        assert name in page.text
    assert "attention" in page.text["environment"]
    assert "speed-up over diffutran (no point of" in page.words


def test_nothing_in_the_page_refers_to_the_network(whole):
    for name, value in whole.attributes:
        if name in ("src", "href", "action", "srcset", "data"):
            assert value.startswith(("#", "data:")), (name, value)
    assert "@import" not in whole.code
    assert "url(http" not in whole.code


def test_text_of_records_is_never_markup(write_report):
    # A results file is text that anyone may have written: names, messages and hardware too.
    options = {"options": {"tokens_per_step": 8, EVIL: EVIL}, "size": EVIL, "dtype": EVIL}
    page = write_report(
        *study(),
        *(record(EVIL, length=n, environment={"hardware": EVIL, EVIL: EVIL}) for n in LENGTHS),
        record(length=8192, point=options, kernels={EVIL: EVIL}, graphs={"denoise": EVIL}),
        record(length=16384, flags=["throttled"], telemetry={"throttle_reasons": [EVIL]}),
        failed("error", message=EVIL),
    )
    parsed = Page(page)
    assert "img" not in parsed.tags
    assert EVIL in parsed.words
    text = page.read_text(encoding="utf-8")
    assert "<script>window" not in text
    assert "<img" not in text


def test_a_report_of_failures_alone_tells_them(write_report):
    page = Page(write_report(failed("oom", message="too big"), failed("skipped", 16384)))
    assert "there is nothing to draw" in page.words
    assert "too big" in page.words
    assert "1 out of memory, 1 skipped" in page.words
    assert "canvas" not in page.tags
    assert "Bokeh" not in page.code


def test_a_torn_line_is_told_in_the_page_and_on_stderr(tmp_path, capsys):
    results, page = tmp_path / "torn.jsonl", tmp_path / "r.html"
    lines = [each.model_dump_json() for each in study()]
    results.write_text("\n".join(lines) + "\n" + lines[0][:100])
    assert main(["report", str(results), "--output", str(page)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{page}\n"
    assert "torn.jsonl:37: skipped" in captured.err
    assert len(captured.err.splitlines()) == 1
    assert "torn.jsonl:37: skipped" in Page(page).words


@pytest.mark.process
def test_the_same_records_give_the_same_bytes(tmp_path):
    # In processes of their own, because Bokeh counts its models in each.
    results = tmp_path / "r.jsonl"
    results.write_text("".join(each.model_dump_json() + "\n" for each in study()))
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        command = [sys.executable, "-m", "dlm_bench", "report", str(results)]
        subprocess.run([*command, "--output", str(page)], check=True, capture_output=True)
    assert pages[0].read_bytes() == pages[1].read_bytes()


@pytest.mark.parametrize(
    ("lines", "output", "message"),
    [
        ("", "r.html", "nothing to report: no record in"),
        (None, "r.html", "results.jsonl': No such file"),
        (study()[0].model_dump_json(), ".", "report '.': is a folder"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(
    lines, output, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if lines is not None:
        (tmp_path / "results.jsonl").write_text(lines)
    assert main(["report", "results.jsonl", "--output", output]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.process
def test_a_thousand_records_take_a_few_times_as_long_as_ten_and_under_5_megabytes(tmp_path):
    records, pages = thousand(), [tmp_path / "ten.html", tmp_path / "thousand.html"]
    assert len(records) == 1000
    took = [seconds_of(records[:10], pages[0]), seconds_of(records, pages[1])]
    # 2.2 is measured: imports and drawing are most of the first. A step that looks for each record
    # at all others takes longer by far.
    assert took[1] < 4 * took[0], took
    assert pages[1].stat().st_size < 5_000_000


def seconds_of(records, page):
    """The seconds of CPU time that a report of records takes."""
    results = page.with_suffix(".jsonl")
    results.write_text("".join(each.model_dump_json() + "\n" for each in records))
    return cpu_seconds("-m", "dlm_bench", "report", str(results), "--output", str(page))
