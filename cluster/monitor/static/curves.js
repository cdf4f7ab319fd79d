// The panels of a view: fetches the curves, ready to be drawn, when something was added, and redraws what changed.

import { Chart, STYLES, sample } from "./chart.js";
import { ask, el } from "./dom.js";

export class Curves {
  // described: the answer of /api/panels. panels: those to show.
  constructor(described, panels) {
    this.described = described;
    this.names = [...new Set(panels.flatMap((p) => [...p.metrics, ...p.band]))];
    this.data = new Map(); // run -> {state, seconds, curves: {metric: [steps, averages, values]}}
    this.panels = panels.map((p) => new PanelView(described, p));
    this.empty = el("p", { class: "card", hidden: true }, "No step is recorded yet: the first rewards appear here when the first optimizer step has ended.");
    this.node = el("div", {}, this.empty, el("div", { class: "panels" }, this.panels.map((p) => p.chart.figure)));
  }

  // shown: {smooth, axis}.
  async refresh(runs, shown) {
    await Promise.all(runs.map((run) => this.fetch(run, shown.smooth)));
    const now = runs.map((run) => `${run} ${this.data.get(run).state}`).join() + shown.axis;
    if (now === this.drawn) return;
    this.drawn = now;
    for (const panel of this.panels) panel.draw(runs, this.data, shown.axis);
    this.empty.hidden = this.panels.some((panel) => !panel.chart.figure.hidden);
  }

  async fetch(run, smooth) {
    const known = this.data.get(run)?.state;
    const found = await ask("/api/series", { run, names: this.names.join(","), smooth, known });
    if (found.state !== known) this.data.set(run, found);
  }
}

class PanelView {
  constructor(described, panel) {
    this.panel = panel;
    this.parts = described.parts;
    const about = described.metrics[panel.metrics[0]];
    this.chart = new Chart(panel.title, about.unit, panel.wide);
    this.chart.figure.id = `panel-${panel.id}`;
    this.labels = shortened(panel.metrics);
    this.meanings = panel.metrics.map((name) => described.metrics[name].meaning);
    this.hidden = new Set();
    this.chosen = 0; // the metric shown when runs are compared
  }

  draw(runs, data, axis) {
    const known = this.panel.metrics.map((name, i) => i).filter((i) => runs.some((run) => has(data.get(run), this.panel.metrics[i])));
    this.chart.figure.hidden = known.length === 0;
    if (!known.length) return;
    const compare = runs.length > 1;
    if (!known.includes(this.chosen)) this.chosen = known[0];
    this.drawLegend(known, compare, () => this.draw(runs, data, axis));
    const lines = runs.flatMap((run, r) => (compare ? [this.chosen] : known.filter((i) => !this.hidden.has(i)))
      .filter((i) => has(data.get(run), this.panel.metrics[i]))
      .map((i) => this.line(data.get(run), i, axis, {
        label: compare ? run : this.labels[i], style: compare ? r % STYLES : this.style(i), band: !compare && i === known[0] })));
    this.chart.set(lines, axis);
  }

  line(found, i, axis, { label, style, band }) {
    const [steps, y, raw] = found.curves[this.panel.metrics[i]];
    const [low, high] = band ? this.panel.band.map((name) => found.curves[name]) : [];
    const alike = [low, high].every((curve) => curve?.[0].length === steps.length);
    const x = axis === "time" ? steps.map((step) => at(found.seconds, step)) : steps;
    return { label, style, x, y, raw: raw.length ? raw : null, low: alike ? low[1] : null, high: alike ? high[1] : null };
  }

  drawLegend(known, compare, redraw) {
    if (known.length < 2) return this.chart.legend.replaceChildren(el("span", { class: "muted small" }, this.meanings[known[0]]));
    this.chart.legend.replaceChildren(...known.map((i) => {
      const pressed = compare ? i === this.chosen : !this.hidden.has(i);
      const press = () => {
        if (compare) this.chosen = i;
        else if (!this.hidden.delete(i)) this.hidden.add(i);
        redraw();
        this.chart.legend.children[known.indexOf(i)].focus();
      };
      return el("button", { type: "button", "aria-pressed": String(pressed), title: this.meanings[i], on: { click: press } },
        compare ? null : sample(this.style(i)), this.labels[i]);
    }));
  }

  // A reward part looks the same in every panel.
  style(i) {
    const parts = this.panel.metrics.map((name) => partOf(name, this.parts));
    if (parts.every((part) => part === parts[0])) return i % STYLES;
    return parts[i] < 0 ? STYLES - 1 : parts[i] % STYLES;
  }
}

const has = (known, name) => known.curves[name]?.[0].length > 0;

// What a step-by-step record says at a step, between its points in a straight line.
function at([steps, values], step) {
  let high = steps.findIndex((known) => known >= step);
  if (high < 0) return values.at(-1);
  if (steps[high] === step || high === 0) return values[high];
  const share = (step - steps[high - 1]) / (steps[high] - steps[high - 1]);
  return values[high - 1] + share * (values[high] - values[high - 1]);
}

function partOf(name, parts) {
  return parts.findLastIndex((part) => name.includes(`_${part}_`) || name.endsWith(`_${part}`));
}

// What tells the metrics of a panel apart: their names without the words that all of them have.
function shortened(names) {
  if (names.length === 1) return names;
  const words = names.map((name) => name.split("_"));
  const common = words[0].filter((word) => words.every((other) => other.includes(word)));
  return words.map((own) => own.filter((word) => !common.includes(word)).join(" ").replace("q50", "median") || "all");
}
