// One panel: lines over steps or wall time, drawn by uPlot (uplot.min.js). Lines differ in colour (Okabe-Ito) and dash.
// Drag to zoom, double-click for the whole; the same by keys, and values read out as text.

import { el, svg, number, duration } from "./dom.js";
import { fingers } from "./fingers.js";

const DASHES = [[], [8, 4], [2.5, 3], [10, 3, 2, 3], [1.5, 4], [14, 5], [5, 2]];
export const STYLES = DASHES.length;
const MINUTES = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400, 172800, 604800];
const COUNTED = ["count", "0/1", "versions"]; // units of whole numbers
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 1000000];

export function sample(style) {
  return svg("svg", { class: `key s${style}`, viewBox: "0 0 30 10", "aria-hidden": "true" },
    svg("path", { d: "M0 5H30", "stroke-dasharray": DASHES[style].join(" ") || null }));
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const clear = (name, share) => () => `color-mix(in srgb, ${colour(name)} ${share}%, transparent)`;

// Where an axis of values begins and ends: what cannot be negative starts at 0 where the data are near it.
export function span(low, high, share) {
  if (low === null || low === undefined || !Number.isFinite(low)) return [0, 1];
  if (low === high) {
    if (low === 0) return [0, 1];
    return low > 0 ? [0, share ? Math.min(1, low * 2) : low * 2] : [low * 2, 0];
  }
  const room = 0.06 * (high - low);
  const bottom = low >= 0 && low < 0.6 * high ? 0 : low - room;
  const top = share && low >= 0 && high <= 1 ? Math.min(1, high + room) : high + room;
  return [low >= 0 ? Math.max(0, bottom) : bottom, top];
}

export class Chart {
  // unit: of the values. A share is shown in percent.
  constructor(title, unit, wide) {
    this.title = title;
    this.share = unit === "share";
    this.counted = COUNTED.includes(unit);
    this.readout = el("output", { class: "readout", "aria-live": "polite" });
    this.plot = el("div", { class: "plot", tabindex: "0", role: "img", "aria-label": `${title}, not drawn yet` });
    this.legend = el("div", { class: "legend" });
    this.log = el("button", { type: "button", class: "small", "aria-pressed": "false", "aria-label": `${title}: logarithmic axis`, on: { click: () => this.turn() } }, "log");
    this.whole = el("button", { type: "button", class: "small", hidden: true, on: { click: () => this.zoom(null) } }, "zoom out");
    this.figure = el("figure", { class: wide ? "card wide" : "card" },
      el("figcaption", {}, el("h2", {}, title), el("span", { class: "tools" }, el("span", { class: "muted small" }, unit === "1" ? "" : unit), this.whole, this.log)),
      this.legend, this.plot, this.readout);
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.mark(null));
    document.addEventListener("theme", () => this.chart?.redraw());
    new ResizeObserver(() => this.draw()).observe(this.plot);
    new IntersectionObserver(([seen]) => { this.seen = seen.isIntersecting; this.draw(); }, { rootMargin: "300px" }).observe(this.plot);
    this.lines = null; // until it is told
    this.at = null;
  }

  // lines: [{label, style, x, y, raw, low, high}], arrays of numbers; raw, low and high may be null. axis: step or time.
  set(lines, axis) {
    if (axis !== this.axis) this.zoomed = null;
    this.lines = lines;
    this.axis = axis;
    this.draw();
  }

  // Only what can be seen, or soon; and only what has changed since.
  draw() {
    const width = this.plot.clientWidth, height = this.plot.clientHeight;
    if (!width || !this.seen || !this.lines) return;
    if (this.drawn === this.lines) {
      if (this.chart && this.chart.width !== width) this.chart.setSize({ width, height });
      return;
    }
    this.drawn = this.lines;
    this.shown = this.lines.filter((line) => line.x.length);
    this.figure.dataset.lines = this.shown.length;
    this.chart?.destroy();
    this.chart = null;
    if (!this.shown.length) return this.plot.replaceChildren(el("p", { class: "muted small" }, "nothing recorded"));
    this.log.hidden = !this.shown.some((line) => line.y.some((y) => y > 0));
    this.data = joined(this.shown, this.log.getAttribute("aria-pressed") === "true");
    this.figure.dataset.points = this.data[0].length;
    const zoomed = this.zoomed;
    this.chart = new uPlot(this.options(width, height), this.data, this.plot);
    this.plot.replaceChildren(this.chart.root);
    fingers(this.chart.over, this.chart, (left) => this.read(this.chart.posToIdx(left)), (to) => this.within(to));
    if (zoomed) this.chart.setScale("x", zoomed);
    const ends = this.shown.map((line) => `${line.label}: from ${this.number(line.y[0])} to ${this.number(line.y.at(-1))}`).join("; ");
    this.plot.setAttribute("aria-label", `${this.title} by ${this.axis}. ${ends}`);
    this.mark(this.at);
  }

  options(width, height) {
    const log = this.log.getAttribute("aria-pressed") === "true", time = this.axis === "time";
    const axis = { stroke: () => colour("--muted"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const bands = [];
    const series = this.shown.flatMap((line, i) => {
      const name = `--s${line.style}`, hidden = { stroke: "transparent", width: 0, points: { show: false }, spanGaps: true };
      bands.push({ series: [i * 4 + 4, i * 4 + 3], fill: clear(name, 16) });
      const points = { show: line.x.length < 3, size: 6 };
      return [
        { stroke: clear(name, 38), width: 1, spanGaps: true, points: { show: false } },
        { label: line.label, stroke: () => colour(name), width: 2, dash: DASHES[line.style], spanGaps: true, points },
        hidden, hidden];
    });
    return {
      width, height, padding: [8, 10, 0, 0], legend: { show: false }, series: [{}, ...series], bands,
      scales: { x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
        y: log ? { distr: 3 } : { range: (_, low, high) => span(low, high, this.share) } },
      axes: [{ ...axis, size: 26, gap: 3, space: time ? 70 : 55, incrs: time ? MINUTES : WHOLE, values: (_, at) => at.map((x) => (time ? duration(x) : number(x))) },
        { ...axis, size: 54, gap: 4, space: 32, ...(this.counted ? { incrs: WHOLE } : {}), values: (_, at) => at.map((y) => (y === null ? "" : this.number(y))) }],
      cursor: { y: false, drag: { x: true, y: false }, points: { size: 6 } },
      hooks: { setCursor: [(u) => u.cursor.idx !== null && u.cursor.event && this.mark(u.cursor.idx)], setScale: [(u, key) => key === "x" && this.scaled(u)] },
    };
  }

  number(value) {
    return this.share && value !== null && value !== undefined && !Number.isNaN(value) ? `${number(100 * value)}\u00a0%` : number(value);
  }

  scaled(u) {
    const { min, max } = u.scales.x, x = u.data[0];
    this.zoomed = min > x[0] || max < x.at(-1) ? { min, max } : null;
    this.whole.hidden = !this.zoomed;
    this.figure.dataset.zoomed = this.zoomed ? `${min} ${max}` : "";
  }

  zoom(to) {
    const x = this.data[0];
    this.chart?.setScale("x", to ?? { min: x[0], max: x.at(-1) });
  }

  // No farther than the data go.
  within({ min, max }) {
    const x = this.data[0];
    this.zoom({ min: Math.max(min, x[0]), max: Math.min(max, x.at(-1)) });
  }

  // Reads values out at a place in the data, with the line there.
  read(at) {
    this.mark(at);
    this.chart.setCursor({ left: this.chart.valToPos(this.data[0][this.at], "x"), top: 20 }, false);
  }

  turn() {
    this.log.setAttribute("aria-pressed", String(this.log.getAttribute("aria-pressed") !== "true"));
    this.drawn = null;
    this.draw();
  }

  // The place in the data that is read out: null for the last of each line.
  mark(at) {
    this.at = at === null ? null : Math.min(Math.max(at, 0), this.data[0].length - 1);
    if (!this.chart) return;
    if (this.at === null) {
      this.readout.textContent = `last: ${this.shown.map((line) => `${line.label} ${this.number(line.y.at(-1))}`).join(" · ")}`;
      return;
    }
    const x = this.data[0][this.at], where = this.axis === "time" ? `after ${duration(x)}` : `step ${number(Math.round(x))}`;
    const values = this.shown.map((line, i) => `${line.label} ${this.number(near(this.data[i * 4 + 2], this.at))}`);
    this.readout.textContent = `${where}: ${values.join(" · ")}`;
  }

  key(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (!this.chart || event.ctrlKey || event.metaKey) return;
    const x = this.data[0], { min, max } = this.chart.scales.x;
    if (event.key in moves) {
      const now = this.at ?? x.length;
      this.read(Math.min(Math.max(now + moves[event.key] * (event.shiftKey ? 10 : 1), 0), x.length - 1));
    } else if (event.key === "+" || event.key === "-") {
      const middle = this.at === null ? (min + max) / 2 : x[this.at], half = ((max - min) / 2) * (event.key === "+" ? 0.5 : 2);
      this.within({ min: middle - half, max: middle + half });
    } else if (event.key === "0") this.zoom(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

// The columns that uPlot takes: x, then raw, smooth, low and high of each line.
function joined(lines, log) {
  const shown = (values) => (log ? values.map((y) => (y > 0 ? y : null)) : values);
  return uPlot.join(lines.map((line) => {
    const none = line.x.map(() => null);
    return [line.x, ...[line.raw ?? none, line.y, line.low ?? none, line.high ?? none].map(shown)];
  }));
}

// The value at a place, or the nearest before it, or after it.
function near(values, at) {
  for (let i = at; i >= 0; i--) if (values[i] !== null && values[i] !== undefined) return values[i];
  return values.find((value) => value !== null && value !== undefined) ?? null;
}
