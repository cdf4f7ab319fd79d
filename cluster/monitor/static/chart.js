// One panel: a line chart with a step axis, drawn as SVG. Lines differ in colour (Okabe-Ito), dash and marker.

import { el, svg, number } from "./dom.js";

const LEFT = 46, RIGHT = 10, TOP = 8, BOTTOM = 24, MARKERS = 7;
export const STYLES = 7;
const MARKS = [
  (x, y) => svg("circle", { cx: x, cy: y, r: 3.2 }),
  (x, y) => svg("path", { d: `M${x - 3} ${y - 3}h6v6h-6z` }),
  (x, y) => svg("path", { d: `M${x} ${y - 4}l4 7h-8z` }),
  (x, y) => svg("path", { d: `M${x} ${y - 4.4}l4 4.4l-4 4.4l-4 -4.4z` }),
  (x, y) => svg("path", { d: `M${x - 3.4} ${y - 3.4}l6.8 6.8m0 -6.8l-6.8 6.8`, class: "stroke" }),
  (x, y) => svg("path", { d: `M${x - 4} ${y}h8m-4 -4v8`, class: "stroke" }),
  (x, y) => svg("path", { d: `M${x} ${y + 4}l4 -7h-8z` }),
];

export function sample(style) {
  return svg("svg", { class: `key s${style}`, viewBox: "0 0 30 10", "aria-hidden": "true" },
    svg("path", { class: "line", d: "M0 5H30" }), MARKS[style](15, 5));
}

export function ticks(low, high, about) {
  if (!(high - low > 1e-9 * Math.max(Math.abs(low), Math.abs(high)))) { const half = 0.5 * (Math.abs(low) || 1); low -= half; high += half; }
  const raw = (high - low) / about, unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * unit).find((s) => s >= raw * 0.999);
  const out = [];
  for (let i = Math.floor(low / step + 1e-9); i <= Math.ceil(high / step - 1e-9); i++) out.push(Number((i * step).toPrecision(12)));
  return out;
}

export class Chart {
  // lines: [{label, style, points: [[x, y], ..], band: [points of the lows, of the highs] or null}].
  constructor(title, unit, wide) {
    this.title = title;
    this.readout = el("output", { class: "readout", "aria-live": "polite" });
    this.plot = el("div", { class: "plot", tabindex: "0", role: "img" });
    this.legend = el("div", { class: "legend" });
    this.figure = el("figure", { class: wide ? "card wide" : "card" },
      el("figcaption", {}, el("h3", {}, title), el("span", { class: "muted small" }, unit)),
      this.legend, this.plot, this.readout);
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.mark(null));
    new ResizeObserver(() => this.draw()).observe(this.plot);
    new IntersectionObserver(([seen]) => { this.seen = seen.isIntersecting; this.draw(); }, { rootMargin: "300px" }).observe(this.plot);
    this.lines = [];
  }

  set(lines) {
    this.lines = lines;
    this.draw();
  }

  // Only what can be seen, or soon; and only what has changed since.
  draw() {
    const width = this.plot.clientWidth, height = this.plot.clientHeight;
    if (!width || !this.seen || (this.drawn === this.lines && this.size === `${width} ${height}`)) return;
    this.drawn = this.lines;
    this.size = `${width} ${height}`;
    const drawn = this.lines.filter((l) => l.points.length);
    this.shown = drawn;
    if (!drawn.length) {
      this.plot.replaceChildren(el("p", { class: "muted small" }, "nothing recorded"));
      return;
    }
    const bands = drawn.filter((l) => l.band).map((l) => l.band);
    const all = [...drawn.map((l) => l.points), ...bands.flat()];
    const [x0, x1] = range(all.map((p) => [p[0][0], p.at(-1)[0]]).flat());
    const [y0, y1] = range(all.flatMap((p) => range(p.map((q) => q[1]))));
    const ys = ticks(Math.min(y0, y0 >= 0 && y0 < 0.6 * y1 ? 0 : y0), y1, 4);
    const xs = ticks(x0, Math.max(x1, x0 + 1), Math.max(2, width / 90)).filter((x) => x >= x0 && x <= x1 && Number.isInteger(x));
    this.x = (x) => LEFT + ((x - x0) / Math.max(x1 - x0, 1)) * (width - LEFT - RIGHT);
    this.y = (y) => height - BOTTOM - ((y - ys[0]) / (ys.at(-1) - ys[0])) * (height - TOP - BOTTOM);
    this.back = (px) => x0 + ((px - LEFT) / (width - LEFT - RIGHT)) * Math.max(x1 - x0, 1);
    const path = (points) => "M" + points.map(([x, y]) => `${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`).join("L");
    this.cursor = svg("path", { class: "cursor" });
    this.plot.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      ys.map((y) => [svg("path", { class: "grid", d: `M${LEFT} ${this.y(y)}H${width - RIGHT}` }),
        svg("text", { x: LEFT - 6, y: this.y(y) + 4, "text-anchor": "end" }, number(y))]).flat(),
      xs.map((x) => svg("text", { x: this.x(x), y: height - 6, "text-anchor": "middle" }, number(x))),
      bands.map(([low, high], i) => svg("path", { class: `band s${drawn.filter((l) => l.band)[i].style}`, d: `${path(low)}L${path([...high].reverse()).slice(1)}Z` })),
      drawn.map((l) => svg("g", { class: `s${l.style}` }, svg("path", { class: "line", d: path(l.points) }), this.markers(l))),
      this.cursor));
    const ends = drawn.map((l) => `${l.label}: from ${number(l.points[0][1])} to ${number(l.points.at(-1)[1])}`).join("; ");
    this.plot.setAttribute("aria-label", `${this.title} by step. ${ends}`);
    this.mark(this.at ?? null);
  }

  markers(line) {
    const n = Math.min(MARKERS, line.points.length), out = [];
    for (let i = 0; i < n; i++) {
      const [x, y] = line.points[n === 1 ? 0 : Math.round((i * (line.points.length - 1)) / (n - 1))];
      out.push(MARKS[line.style](Number(this.x(x).toFixed(1)), Number(this.y(y).toFixed(1))));
    }
    return out;
  }

  // The step that is read out: null for the last of each line.
  mark(at) {
    this.at = at;
    if (!this.shown?.length) return;
    if (at === null) {
      this.cursor.setAttribute("d", "");
      const ends = this.shown.map((l) => `${l.label} ${number(l.points.at(-1)[1])}`);
      this.readout.textContent = `last: ${ends.join(" · ")}`;
      return;
    }
    this.cursor.setAttribute("d", `M${this.x(at).toFixed(1)} ${TOP}V${this.plot.clientHeight - BOTTOM}`);
    const values = this.shown.map((l) => `${l.label} ${number(nearest(l.points, at)[1])}`);
    this.readout.textContent = `step ${number(Math.round(at))}: ${values.join(" · ")}`;
  }

  point(event) {
    if (!this.shown?.length) return;
    const box = this.plot.getBoundingClientRect();
    this.mark(nearest(this.shown[0].points, this.back(event.clientX - box.left))[0]);
  }

  key(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (!(event.key in moves) || !this.shown?.length) return;
    event.preventDefault();
    const points = this.shown[0].points;
    const now = this.at === null ? points.length : points.indexOf(nearest(points, this.at));
    const next = now + moves[event.key] * (event.shiftKey ? 10 : 1);
    this.mark(points[Math.min(Math.max(next, 0), points.length - 1)][0]);
  }
}

function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  return [low, high];
}

function nearest(points, x) {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle; else high = middle;
  }
  return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? points[low] : points[high];
}
