// What a run is, as tables: its configuration (beside another's), evaluation, log and alerts.

import { ask, el, number, table } from "./dom.js";

// A view that asks once per look for each run and redraws what changed.
class View {
  constructor(path, name) {
    this.path = path;
    this.node = el("div", { class: `stack ${name}` });
  }

  async refresh(runs) {
    const found = await Promise.all(runs.map((run) => ask(this.path, { run })));
    const now = JSON.stringify([runs, found]);
    if (now === this.drawn) return;
    this.drawn = now;
    this.node.replaceChildren(...this.shown(runs, found).flat());
  }
}

export class Settings extends View {
  constructor() {
    super("/api/config", "settings");
    this.search = el("input", { type: "search", placeholder: "key or value", "aria-label": "Filter settings", on: { input: () => this.fill() } });
    this.only = el("input", { type: "checkbox", checked: true, on: { change: () => this.fill() } });
    this.body = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Settings" });
  }

  shown(runs, found) {
    this.runs = runs;
    this.found = found;
    const what = runs.length > 1 ? " only what differs" : " only what is not the default";
    this.fill();
    return [el("section", { class: "card" }, el("h2", {}, runs.length > 1 ? "Configurations side by side" : `Configuration of ${runs[0]}`),
      el("p", { class: "filters" }, this.search, el("label", {}, this.only, what)), this.body)];
  }

  fill() {
    const keys = [...new Set(this.found.flatMap((one) => Object.keys(one.settings)))].sort();
    const text = (value) => (value === undefined || value === null || value === "" ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));
    const rows = keys.map((key) => [key, ...this.found.map((one) => text(one.settings[key])), text(this.found[0].defaults[key])]);
    const word = this.search.value.toLowerCase();
    const differs = (row) => new Set(this.runs.length > 1 ? row.slice(1, -1) : row.slice(1)).size > 1;
    const kept = rows.filter((row) => (!this.only.checked || differs(row)) && row.join(" ").toLowerCase().includes(word));
    this.body.replaceChildren(kept.length ? table(["setting", ...this.runs, "default"], kept)
      : el("p", { class: "muted" }, this.runs.length > 1 ? "Nothing differs." : "Everything is at its default."));
  }
}

const STAGES = { base: "before SFT", sft: "after SFT", sft_no_hedge: "after SFT, hedges banned (control)", grpo: "after GRPO" };
const KILOMETRES = ["1", "25", "200", "750", "2500"];
const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)}\u00a0%`);

export class Evaluation extends View {
  constructor() {
    super("/api/evaluation", "evaluation");
  }

  shown(runs, found) {
    return runs.map((run, i) => {
      const splits = [...new Set(Object.values(found[i]).flatMap((splits) => Object.keys(splits)))];
      const none = el("p", { class: "muted" }, "Not evaluated. ", el("code", {}, "geoagent-rl eval run --model RUN/policy --manifest PHOTOS"), " measures a run's policy; a demo does so by itself, and a run with data.eval_manifest.");
      return el("section", { class: "card" }, el("h2", {}, `Evaluation of ${run}`), splits.length ? splits.map((split) => measured(split, found[i])) : none);
    });
  }
}

function measured(split, stages) {
  const span = (m, key) => (m.intervals?.[key] ? el("small", { class: "muted" }, ` [${percent(m.intervals[key][0])}, ${percent(m.intervals[key][1])}]`) : "");
  const rows = Object.entries(stages).filter(([, splits]) => splits[split]).map(([stage, splits]) => {
    const m = splits[split];
    return [STAGES[stage] ?? stage, number(m.n), number(m.failed), ...KILOMETRES.map((km) => el("span", {}, percent(m.hit?.[km]), span(m, km))),
      number(m.median_km), number(m.geoscore === undefined ? null : Math.round(m.geoscore)), percent(m.format_valid), number(m.reward_total)];
  });
  return [el("h3", {}, split), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Evaluation on ${split}` },
    table(["", "n", "failed", ...KILOMETRES.map((km) => `≤ ${km} km`), "median km", "GeoScore", "valid format", "reward"], rows))];
}

export class Log extends View {
  constructor() {
    super("/api/log", "log");
  }

  shown(runs, found) {
    return runs.map((run, i) => el("section", { class: "card" }, el("h2", {}, `Log of ${run}, newest first`),
      found[i].lines.length ? el("pre", { tabindex: "0", "aria-label": `Log of ${run}` }, found[i].lines.toReversed().join("\n")) : el("p", { class: "muted" }, "No log.txt: the run has not printed anything yet, or was started elsewhere or before there was one."),
      found[i].dropped.length ? [el("h3", {}, "Prompts left out"), table(["step", "photograph", "why"], found[i].dropped.map((row) => [number(row.step), row.uid, row.reason]))] : null));
  }
}

const LEVELS = { bad: "✗ look now", warn: "! look", ok: "✓ fine", "": "–" };

export class Alerts extends View {
  constructor() {
    super("/api/alerts", "alerts");
  }

  shown(runs, found) {
    return runs.map((run, i) => el("section", { class: "card" }, el("h2", {}, `Alerts of ${run}`), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Alerts of ${run}` },
      table(["", "what", "seen", "what to do"], found[i].map((one) => [el("b", { class: `level ${one.level}` }, LEVELS[one.level]), one.name, one.says,
        one.level === "ok" || !one.level ? "" : one.advice])))));
  }
}
