// The table of runs: sorted by a click on a column, filtered by words, with a note for each.

import { ask, change, duration, el, number, show, status } from "./dom.js";

const COLUMNS = {
  run: (run) => run.name, status: (run) => run.status, step: (run) => run.step, "time left": (run) => run.eta_seconds,
  reward: (run) => run.last.reward_total_mean, validation: (run) => run.last.validation_reward, KL: (run) => run.last.kl,
  "no variance": (run) => run.last.zero_variance_share, "s/step": (run) => run.last.step_seconds,
  model: (run) => run.settings["policy.model"], loss: (run) => run.settings["learner.loss"], lr: (run) => run.settings["learner.lr"],
  group: (run) => run.settings["rollout.group_size"], seed: (run) => run.settings["run.seed"], written: (run) => run.written,
};

const NOTE_AT = 4; // columns before it

export class RunTable {
  // toggle(name): shows a run's curves, or does not any more.
  constructor(toggle) {
    this.toggle = toggle;
    this.by = "written";
    this.up = false;
    this.search = el("input", { type: "search", class: "long", placeholder: "words: name, status, model, note", "aria-label": "Filter runs", on: { input: () => this.draw() } });
    this.head = el("tr", {});
    this.body = el("tbody", {});
    this.said = el("p", { class: "muted small", role: "status" });
    this.node = el("section", { class: "card" }, el("h2", {}, "Runs"), el("p", { class: "filters" }, this.search), this.said,
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of runs" }, el("table", { class: "runs" }, el("thead", {}, this.head), this.body)));
  }

  async refresh(chosen, _, runs) {
    this.chosen = chosen;
    this.runs = runs;
    const now = JSON.stringify([chosen, runs]);
    if (now === this.drawn || this.body.contains(document.activeElement)) return; // somebody writes a note
    this.drawn = now;
    this.draw();
  }

  draw() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (run) => JSON.stringify([run.name, run.status, run.note, run.settings]).toLowerCase();
    const found = this.runs.filter((run) => words.every((word) => text(run).includes(word)));
    found.sort((a, b) => order(COLUMNS[this.by](a), COLUMNS[this.by](b)) * (this.up ? 1 : -1));
    this.said.textContent = `${found.length} of ${this.runs.length}; tick runs to compare their curves and configurations`;
    const heads = Object.keys(COLUMNS).map((name) => this.heading(name));
    this.head.replaceChildren(el("th", { scope: "col" }, "show"), ...heads.toSpliced(NOTE_AT, 0, el("th", { scope: "col" }, "note")));
    this.body.replaceChildren(...found.map((run) => this.row(run)));
  }

  heading(name) {
    const sorted = name === this.by ? (this.up ? "ascending" : "descending") : "none";
    const press = () => {
      this.up = name === this.by ? !this.up : false;
      this.by = name;
      this.draw();
      this.head.querySelector(`[data-name="${name}"]`).focus();
    };
    return el("th", { scope: "col", "aria-sort": sorted }, el("button", { type: "button", "data-name": name, on: { click: press } },
      name, { ascending: " ▲", descending: " ▼" }[sorted] ?? ""));
  }

  row(run) {
    const box = el("input", { type: "checkbox", "aria-label": `show ${run.name}`, checked: this.chosen.includes(run.name), on: { change: () => this.toggle(run.name) } });
    const shown = {
      run: el("span", { title: run.path }, run.name), status: status(run.status), step: `${number(run.step)} of ${run.steps ?? "?"}`,
      "time left": run.eta_seconds === null ? "–" : duration(run.eta_seconds), written: new Date(run.written * 1000).toLocaleString(),
    };
    const cells = Object.entries(COLUMNS).map(([name, value]) => shown[name] ?? plain(value(run)));
    const note = el("input", { type: "text", class: "note", maxlength: "2000", "aria-label": `note on ${run.name}`, on: { change: (event) => this.keep(run, event.target) } });
    note.value = run.note;
    return el("tr", {}, [box, ...cells.toSpliced(NOTE_AT, 0, note)].map((cell) => el("td", {}, cell)));
  }

  async keep(run, field) {
    try {
      await change("/api/note", { run: run.name, text: field.value });
      run.note = field.value;
      field.dataset.kept = "yes";
    } catch (error) {
      show(error.message);
    }
  }
}

const plain = (value) => (typeof value === "number" || value === null || value === undefined ? number(value) : String(value));

function order(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  return a < b ? -1 : 1;
}
