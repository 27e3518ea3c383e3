// Draws the figures, hides series, changes scales and facets. Bokeh does the rest.
"use strict";
(async () => {
  const drawn = JSON.parse(document.getElementById("drawn").textContent);
  const hidden = new Set(); // series that a click has hidden
  const linear = new Set(); // axes on a linear scale, such as "speedup x"
  let facet = 0;

  const roots = Object.fromEntries(
    drawn.figures.map((figure) => [figure.root, `figure-${figure.name}`]));
  await Bokeh.embed.embed_items(
    { study: drawn.document }, [{ docid: "study", roots, root_ids: Object.keys(roots) }]);
  const study = Bokeh.documents.at(-1);
  const series_of_point = Array.from(study.get_model_by_name("points").data.series);

  function filter() {
    const shown = drawn.facet.map((its, series) => its === facet && !hidden.has(series));
    study.get_model_by_name("series shown").booleans = shown;
    study.get_model_by_name("points shown").booleans = series_of_point.map((series) => shown[series]);
  }

  function scale(figure, axis) {
    const axes = figure.facets[facet];
    document.getElementById(`figure-${figure.name}`).hidden = !axes;
    if (!axes) return;
    const plot = study.get_model_by_name(figure.name);
    const on = linear.has(`${figure.name} ${axis}`);
    const at = axis === "x" ? 0 : 1;
    const [start, end] = axes[on ? "linear" : "log"][at];
    const bounds = { start, end, reset_start: start, reset_end: end };
    const range = plot[`${axis}_range`];
    const ruler = plot[at ? "left" : "below"][0];
    // A linear range may begin at zero, which a logarithmic scale must not see.
    if (!on) range.setv(bounds);
    const Scale = Bokeh.Models.get(on ? "LinearScale" : "LogScale");
    if (!(plot[`${axis}_scale`] instanceof Scale)) plot[`${axis}_scale`] = new Scale();
    range.setv(bounds);
    ruler.ticker = on
      ? new (Bokeh.Models.get("BasicTicker"))()
      : new (Bokeh.Models.get("FixedTicker"))({ ticks: axes.ticks[at] });
  }

  function show(place) {
    facet = place;
    for (const box of document.querySelectorAll("[data-facet]"))
      box.hidden = Number(box.dataset.facet) !== facet;
    for (const figure of drawn.figures) for (const axis of "xy") scale(figure, axis);
    filter();
  }

  function toggle(series) {
    const on = hidden.delete(series);
    if (!on) hidden.add(series);
    for (const each of document.querySelectorAll(`[data-series="${series}"]`))
      each.setAttribute("aria-pressed", on);
    filter();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.series) toggle(Number(button.dataset.series));
    if (button?.dataset.figure) {
      const { figure, axis } = button.dataset;
      const key = `${figure} ${axis}`;
      const log = linear.delete(key);
      if (!log) linear.add(key);
      button.setAttribute("aria-pressed", log);
      button.textContent = `${axis}: ${log ? "log" : "linear"}`;
      scale(drawn.figures.find((each) => each.name === figure), axis);
    }
  });
  document.getElementById("facet")?.addEventListener("change", (event) =>
    show(Number(event.target.value)));
  show(0);
  document.body.dataset.drawn = "yes";
})();
