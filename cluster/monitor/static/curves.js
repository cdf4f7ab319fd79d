// The panels of a view: fetches the curves, ready to be drawn, when something was added, and redraws what changed.

import { Chart, STYLES, sample } from "./chart.js";
import { ask, el } from "./dom.js";

export class Curves {
  // described: the answer of /api/panels. panels: those to show.
  constructor(described, panels) {
    this.described = described;
    this.names = [...new Set(panels.flatMap((p) => [...p.metrics, ...p.band]))];
    this.data = new Map(); // run -> {state, curves: {metric: points}}
    this.panels = panels.map((p) => new PanelView(described, p));
    this.node = el("div", { class: "panels" }, this.panels.map((p) => p.chart.figure));
  }

  async refresh(runs, smooth) {
    await Promise.all(runs.map((run) => this.fetch(run, smooth)));
    const now = runs.map((run) => `${run} ${this.data.get(run).state}`).join();
    if (now === this.drawn) return;
    this.drawn = now;
    for (const panel of this.panels) panel.draw(runs, this.data);
  }

  async fetch(run, smooth) {
    const known = this.data.get(run)?.state;
    const { state, curves } = await ask("/api/series", { run, names: this.names.join(","), smooth, known });
    if (state === known) return;
    const points = ([name, [xs, ys]]) => [name, xs.map((x, i) => [x, ys[i]])];
    this.data.set(run, { state, curves: Object.fromEntries(Object.entries(curves).map(points)) });
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

  draw(runs, data) {
    const known = this.panel.metrics.map((name, i) => i).filter((i) => runs.some((run) => has(data.get(run), this.panel.metrics[i])));
    this.chart.figure.hidden = known.length === 0;
    if (!known.length) return;
    const compare = runs.length > 1;
    if (!known.includes(this.chosen)) this.chosen = known[0];
    this.drawLegend(known, compare, () => this.draw(runs, data));
    const lines = [];
    runs.forEach((run, r) => {
      const curves = data.get(run).curves;
      for (const i of compare ? [this.chosen] : known.filter((i) => !this.hidden.has(i))) {
        const name = this.panel.metrics[i];
        if (!has(data.get(run), name)) continue;
        const band = !compare && i === known[0] && this.panel.band.length && this.panel.band.every((b) => curves[b]?.length);
        lines.push({
          label: compare ? run : this.labels[i],
          style: compare ? r % STYLES : this.style(i),
          points: curves[name],
          band: band ? this.panel.band.map((b) => curves[b]) : null,
        });
      }
    });
    this.chart.set(lines);
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

const has = (known, name) => known.curves[name]?.length > 0;

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
