"""A report in headless Chromium: what it shows, what a click and a hover do, and that it stays
silent on the console and on the network."""

import contextlib
import json

import pytest
from support.browser import CHROMIUM, Page
from support.report_records import EVIL, LENGTHS, failed, of_gpu, record, study

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium on the PATH; `apt-get install chromium` has it"
    ),
]

FIGURES = "Bokeh.documents[0].roots()"
# What canvases show: pixels that are not transparent, over all of a figure.
INK = """
(() => {
  let ink = 0
  const walk = (root) => root.querySelectorAll("*").forEach((each) => {
    if (each.shadowRoot) walk(each.shadowRoot)
    if (each.tagName !== "CANVAS" || !each.width) return
    const { data } = each.getContext("2d").getImageData(0, 0, each.width, each.height)
    for (let i = 3; i < data.length; i += 4) ink += data[i] > 0
  })
  walk(document.getElementById("figure-%s"))
  return ink
})()
"""
# Where on the screen the point of a row of the columns is.
PLACE = """
(() => {
  const plot = Bokeh.documents[0].get_model_by_name("%s")
  const view = Bokeh.index.find_one(plot)
  const points = Bokeh.documents[0].get_model_by_name("points").data
  const box = view.el.getBoundingClientRect()
  return [box.x + view.frame.x_scale.compute(points["length"][%d]),
          box.y + view.frame.y_scale.compute(points["%s value"][%d])]
})()
"""
# The text of everything in the page, the tooltips' shadow trees included.
TEXT = """
(() => {
  let text = ""
  const walk = (root) => root.querySelectorAll("*").forEach((each) => {
    if (each.shadowRoot) { text += each.shadowRoot.textContent; walk(each.shadowRoot) }
  })
  walk(document)
  return text
})()
"""


@pytest.fixture
def opened(write_report):
    """A function that opens a report of records and closes it after the test, which fails if the
    page has logged an error or asked for anything."""
    pages = []

    def open_report(*records, **size):
        page = closing.enter_context(Page(write_report(*records), **size))
        pages.append(page)
        page.wait_until("document.body.dataset.drawn || !window.Bokeh")
        return page

    with contextlib.ExitStack() as closing:
        yield open_report
        for page in pages:
            page.run("new Promise((done) => setTimeout(done, 200))")  # what comes late
            assert page.errors == []
            assert page.requests == []


def click(page, selector):
    page.run(f"document.querySelector({json.dumps(selector)}).click()")


def shown(page, name="series shown"):
    return page.run(f"Bokeh.documents[0].get_model_by_name('{name}').booleans")


def test_every_figure_is_drawn(opened):
    page = opened(*(of_gpu(b, "full", n, 8) for b in ("diffutran", "diffumamba") for n in LENGTHS))
    names = page.run(f"{FIGURES}.map((each) => each.name)")
    assert names == ["throughput", "latency", "speedup", "roofline", "memory", "energy"]
    for name in names:
        page.wait_until(f"{INK % name} > 1000")


def test_a_click_on_a_legend_hides_a_series_in_every_figure_and_shows_it_again(opened):
    page = opened(*study())
    assert shown(page) == [True] * 9
    page.wait_until(f"{INK % 'latency'} > 1000")
    before = page.run(INK % "latency")
    click(page, "#throughput [data-series='0']")
    assert shown(page) == [False] + [True] * 8
    assert shown(page, "points shown") == [False] * 4 + [True] * 32
    page.wait_until(f"{INK % 'latency'} < {before}")
    pressed = "document.querySelector('#latency [data-series=\"0\"]').getAttribute('aria-pressed')"
    assert page.run(pressed) == "false"
    click(page, "#latency [data-series='0']")
    assert shown(page) == [True] * 9
    page.wait_until(f"{INK % 'latency'} === {before}")


@pytest.mark.parametrize(("axis", "side"), [("x", "below"), ("y", "left")])
def test_a_button_makes_an_axis_linear_and_logarithmic_again(axis, side, opened):
    page = opened(*study())
    plot = "Bokeh.documents[0].get_model_by_name('throughput')"
    state = f"[{plot}.{axis}_scale.type, {plot}.{axis}_range.start, {plot}.{side}[0].ticker.type]"
    scale, start, ticker = page.run(state)
    assert (scale, ticker) == ("LogScale", "FixedTicker")
    assert start > 0
    button = f"[data-figure=throughput][data-axis={axis}]"
    click(page, button)
    assert page.run(state) == ["LinearScale", 0, "BasicTicker"]
    assert page.run(f"document.querySelector('{button}').textContent") == f"{axis}: linear"
    click(page, button)
    assert page.run(state) == [scale, start, ticker]
    page.wait_until(f"{INK % 'throughput'} > 1000")


def test_a_hover_shows_the_facts_of_a_point(opened):
    page = opened(*study())
    page.wait_until(f"{INK % 'throughput'} > 1000")
    x, y = page.run(PLACE % ("throughput", 3, "throughput", 3))
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.wait_until(f"{TEXT}.includes('4,096 tokens, 512 passes')")
    told = page.run(TEXT)
    assert "DiffuTran, full sequence" in told
    assert "exact timing, 3 repeats" in told


def test_another_panel_shows_its_own_series(opened):
    page = opened(*study(), *(record("diffumamba", length=n, p=16) for n in LENGTHS))
    assert shown(page) == [True] * 9 + [False]
    click(page, "#throughput [data-series='2']")
    page.run(
        "const panel = document.getElementById('facet'); panel.value = '1';"
        "panel.dispatchEvent(new Event('change', { bubbles: true }))"
    )
    assert shown(page) == [False] * 9 + [True]
    legend = "[...document.querySelectorAll('#throughput .legend button')]"
    assert page.run(f"{legend}.filter((each) => each.offsetParent).length") == 1
    # DiffuTran was not measured there.
    assert page.run("document.getElementById('figure-speedup').hidden") is True


def test_text_of_records_does_not_run(opened):
    page = opened(
        *(record(EVIL, length=n, environment={"hardware": EVIL}) for n in LENGTHS),
        failed("error", message=EVIL),
    )
    page.wait_until(f"{INK % 'throughput'} > 1000")
    x, y = page.run(PLACE % ("throughput", 1, "throughput", 1))
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.wait_until(f"{TEXT}.includes('onerror')")
    assert page.run("typeof window.ran") == "undefined"


def test_failures_alone_make_a_page_that_opens(opened):
    page = opened(failed("oom"), failed("timeout", 16384))
    assert "there is nothing to draw" in page.run("document.body.innerText")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(width, opened):
    long = {"hardware": "a machine with a very long name " * 3, "platform": "x" * 200}
    page = opened(
        *study(),
        record(length=8192, environment=long),
        failed("oom", message="y" * 300),
        width=width,
    )
    assert page.run("document.documentElement.scrollWidth") <= width


def test_the_browser_does_tell_of_errors_and_requests(tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        "<!doctype html><script>console.error('said'); nothing()</script>"
        "<img src='http://127.0.0.1:9/x.png'>"
    )
    with Page(path) as page:
        page.run("1")
    told = " ".join(page.errors)
    assert "said" in told
    assert "nothing is not defined" in told
    assert page.requests == ["http://127.0.0.1:9/x.png"]
