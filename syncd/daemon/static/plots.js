/* Draws the plots of a link with uPlot, from the JSON beside the page; draws them again when a run has ended, when the
   width changes, and when the colours of the system do. */
"use strict";

(() => {
  const area = document.getElementById("plots");
  if (!area || typeof uPlot === "undefined") return;
  const HEIGHT = 160;
  const drawn = new Map();
  let version = null;
  let data = null;

  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const shown = (value, unit) =>
    value === null || value === undefined
      ? "–"
      : value.toLocaleString("en", { maximumFractionDigits: unit ? 1 : 0 }) + (unit ? ` ${unit}` : "");

  const shape = {
    steps: () => uPlot.paths.stepped({ align: 1 }),
    line: () => uPlot.paths.linear(),
    bars: (place, all) => uPlot.paths.bars({ size: [all > 1 ? 0.4 : 0.8, 14], align: all > 1 ? (place ? 1 : -1) : 0 }),
  };

  function options(plot, width) {
    const ink = token("--quiet");
    const grid = { stroke: token("--plot-grid"), width: 1 };
    const axis = { stroke: ink, grid, ticks: grid, font: "12px system-ui, sans-serif" };
    const lines = plot.lines.map((line, place) => {
      const colour = token(`--plot-${place + 1}`);
      return {
        label: line.label,
        stroke: colour,
        width: plot.shape === "bars" ? 0 : 1.75,
        fill: plot.shape === "bars" ? colour : undefined,
        paths: shape[plot.shape](place, plot.lines.length),
        points: { show: plot.shape === "bars" ? false : undefined, size: 4, fill: colour },
        spanGaps: false,
        value: (_plot, value) => shown(value, plot.unit),
      };
    });
    if (plot.limit !== null) {
      lines.push({ label: "limit", stroke: token("--bad"), width: 1, dash: [5, 4], points: { show: false },
        value: (_plot, value) => shown(value, plot.unit) });
    }
    return {
      width,
      height: HEIGHT,
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"), /* as all times of the page */
      scales: {
        x: { time: true, range: () => [data.from, data.to] },
        y: { range: (_plot, _low, high) => [0, Math.max(high === null ? 1 : high * 1.08, 1)] },
      },
      axes: [{ ...axis, space: 64, size: 30, values: times }, { ...axis, size: 48, values: (_plot, ticks) => ticks.map((tick) => compact(tick)) }],
      series: [{ label: "at", value: (_plot, at) => (at === null ? "–" : `${day(at)} ${hour(at)} UTC`) }, ...lines],
      legend: { live: true },
      cursor: { drag: { setScale: false }, y: false, points: { size: 6 } },
    };
  }

  const day = (at) => new Date(at * 1000).toLocaleDateString("en", { month: "short", day: "numeric", timeZone: "UTC" });
  const hour = (at) =>
    new Date(at * 1000).toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: "UTC" });
  const times = (_plot, ticks, _axis, _space, apart) =>
    ticks.map((at) => (apart >= 86400 || hour(at) === "00:00" ? day(at) : hour(at)));

  const compact = (value) =>
    value === 0 ? "0" : value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });

  function columns(plot) {
    const found = [data.times, ...plot.lines.map((line) => line.values)];
    if (plot.limit !== null) found.push(data.times.map(() => plot.limit));
    return found;
  }

  function draw(again) {
    for (const place of area.querySelectorAll("[data-plot]")) {
      const plot = data.plots[place.dataset.plot];
      const known = drawn.get(place);
      if (known && !again) {
        known.setData(columns(plot));
        continue;
      }
      if (known) known.destroy();
      place.replaceChildren();
      drawn.set(place, new uPlot(options(plot, place.clientWidth), columns(plot), place));
    }
  }

  async function load() {
    if (area.dataset.version === version && data) return;
    const wanted = area.dataset.version;
    try {
      const answer = await fetch(area.dataset.series, { cache: "no-store", redirect: "error" });
      if (!answer.ok) return;
      data = await answer.json();
      version = wanted;
      draw(false);
    } catch {
      /* page.js says when syncd does not answer; the plots keep what they show. */
    }
  }

  document.addEventListener("refreshed", load);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => data && draw(true));
  new ResizeObserver(() => {
    for (const [place, plot] of drawn) {
      if (place.clientWidth && place.clientWidth !== plot.width) {
        plot.setSize({ width: place.clientWidth, height: HEIGHT });
      }
    }
  }).observe(area);
  load();
})();
