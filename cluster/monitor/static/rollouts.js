// The rollouts browser: a page of them, and the one that is open with picture, reasoning, map and how it was scored.

import { ask, el, number, svg } from "./dom.js";
import { beside } from "./group.js";
import { movable } from "./map.js";

const SORTS = { newest: "newest first", oldest: "oldest first", best: "best first", worst: "worst first" };

export class Rollouts {
  constructor() {
    this.asked = { sort: "newest", step: "", uid: "", failed: "", page: 0 };
    const set = (name, read) => (event) => { this.asked = { ...this.asked, [name]: read(event.target), page: 0 }; this.load(); };
    const sorts = Object.entries(SORTS).map(([value, name]) => el("option", { value }, name));
    this.search = el("input", { type: "search", placeholder: "photograph", "aria-label": "Part of the photograph's uid", on: { input: set("uid", (t) => t.value) } });
    this.filters = el("form", { class: "filters", on: { submit: (event) => event.preventDefault() } },
      el("select", { "aria-label": "Order", on: { change: set("sort", (t) => t.value) } }, sorts),
      el("input", { type: "number", min: "0", placeholder: "step", "aria-label": "Step", on: { input: set("step", (t) => t.value) } }),
      this.search,
      el("label", {}, el("input", { type: "checkbox", on: { change: set("failed", (t) => (t.checked ? "1" : "")) } }), " failures only"));
    this.said = el("p", { class: "muted small", role: "status" });
    this.list = el("div", { class: "list", role: "listbox", "aria-label": "Rollouts" });
    this.older = el("button", { type: "button", on: { click: () => this.turn(1) } }, "next page (n)");
    this.newer = el("button", { type: "button", on: { click: () => this.turn(-1) } }, "previous page (p)");
    this.detail = el("article", { class: "card", "aria-live": "off" }, el("p", { class: "muted" }, "Choose a rollout."));
    this.node = el("div", { class: "rollouts" },
      el("section", {}, this.filters, this.said, this.list, el("p", { class: "pager" }, this.newer, this.older)), this.detail);
  }

  async refresh(runs) {
    await land();
    const changed = this.run !== runs[0];
    this.run = runs[0];
    if (changed) this.asked.page = 0;
    await this.load(changed);
  }

  async load(open = false) {
    const asked = JSON.stringify([this.run, this.asked]);
    const found = await ask("/api/rollouts", { run: this.run, ...this.asked });
    if (asked !== JSON.stringify([this.run, this.asked])) return; // another question was asked meanwhile
    const damaged = found.damaged ? ` (damaged lines: ${number(found.damaged)})` : "";
    const more = (found.indexed < 1 ? ` (reading: ${Math.floor(100 * found.indexed)} %)` : "") + damaged;
    const first = found.page * found.size;
    this.said.textContent = found.found
      ? `${number(first + 1)}–${number(first + found.rows.length)} of ${number(found.found)}${found.found < found.all ? ` (all: ${number(found.all)})` : ""}${more}`
      : `no such rollouts${more}`;
    this.newer.disabled = found.page === 0;
    this.older.disabled = first + found.size >= found.found;
    const drawn = asked + JSON.stringify(found.rows);
    if (drawn !== this.drawn) {
      this.drawn = drawn;
      this.rows = found.rows;
      this.list.replaceChildren(...found.rows.map((row) => this.card(row)));
    }
    if (found.indexed < 1) setTimeout(() => this.load(), 50);
    if ((open || this.at === undefined) && found.rows.length) await this.open(found.rows[0].at);
  }

  card(row) {
    const image = el("img", { src: picture(this.run, row.at, "small"), alt: "", loading: "lazy", width: "84", height: "60" });
    const total = row.total === null ? "not scorable" : `reward ${number(row.total)}`;
    return el("button", { type: "button", role: "option", "aria-selected": String(row.at === this.at), "data-at": row.at, on: { click: () => this.open(row.at) } },
      image, el("span", {}, el("b", {}, row.answer || "no answer"), el("small", { class: "muted" }, `${total} · step ${row.step}`),
        el("small", { class: "muted" }, `${row.uid} #${row.index}`)));
  }

  async open(at) {
    this.at = at;
    for (const card of this.list.children) card.setAttribute("aria-selected", String(Number(card.dataset.at) === at));
    const run = this.run, found = await ask("/api/rollout", { run, at });
    if (run !== this.run || at !== this.at) return;
    const open = (other) => this.open(other);
    this.detail.replaceChildren(...shown(run, at, found), await beside(run, at, open));
    if (at === this.at) this.detail.dataset.at = at;
  }

  turn(by) {
    if ((by < 0 ? this.newer : this.older).disabled) return;
    this.asked.page += by;
    this.load(true);
  }

  key(key) {
    if (key === "j" || key === "k") {
      const i = this.rows?.findIndex((row) => row.at === this.at) ?? -1;
      const next = this.rows?.[i + (key === "j" ? 1 : -1)];
      if (next) {
        this.open(next.at);
        this.list.querySelector(`[data-at="${next.at}"]`)?.focus();
      }
    } else if (key === "n" || key === "p") this.turn(key === "n" ? 1 : -1);
    else if (key === "/") this.search.focus();
    else if (key === "z") this.detail.querySelector(".world")?.dispatchEvent(new Event("fit"));
    else return false;
    return true;
  }
}

const picture = (run, at, size) => `/api/image?${new URLSearchParams({ run, at, size })}`;

function shown(run, at, found) {
  const total = found.total === null ? "not scorable" : `reward ${number(found.total)}`;
  const image = el("img", { src: picture(run, at, "large"), alt: `photograph ${found.uid}` });
  image.addEventListener("error", () => image.replaceWith(el("p", { class: "noimage muted" }, "no picture: it is gone, damaged or outside the run's manifest")));
  return [
    el("h2", {}, total, el("small", { class: "muted" }, ` advantage ${number(found.advantage)}`)),
    el("p", { class: "muted small" }, `${found.uid} #${found.index} · step ${found.step} · policy version ${found.version} · ${number(found.tokens)} tokens${found.finish_reason === "length" ? ", cut off" : ""}`),
    el("div", { class: "sides" },
      el("div", {}, image, map(found), names(found)),
      el("div", {}, parts(found), found.problem ? el("p", { class: "no small" }, `Format: ${found.problem}`) : null, found.stages.map(stage),
        el("details", { open: !found.stages.length }, el("summary", {}, "completion as generated"), el("pre", { tabindex: "0" }, found.text)))),
  ];
}

function names(found) {
  const rows = found.names.map((row) => el("tr", {}, el("th", { scope: "row" }, row.level), el("td", {}, row.answer || "–"), el("td", {}, row.truth || "–"), el("td", {}, number(row.similarity))));
  const away = found.distance_km === null ? "answer not located" : `${number(Math.round(found.distance_km))} km away, ${found.matched === "position" ? "by its own position" : `matched as ${found.matched}`}`;
  return el("table", { class: "names" },
    el("tr", {}, ["", "answer", "true place", "similar"].map((head) => el("th", { scope: "col" }, head))), rows,
    el("tr", {}, el("th", { scope: "row" }, "distance"), el("td", { colspan: "3" }, away)));
}

function parts(found) {
  const rows = found.parts.map((part) => {
    const score = part.score === null ? "failed" : number(part.score);
    const weight = part.weight === null ? "" : ` × ${number(part.weight)}`;
    const took = part.seconds === undefined || part.seconds === null ? "" : `${number(part.seconds)} s${part.attempts > 1 ? `, ${part.attempts} attempts` : ""}`;
    const about = Object.entries(part.details).map(([name, value]) => `${name} ${typeof value === "number" ? number(value) : value}`);
    return [
      el("tr", {}, el("th", { scope: "row" }, part.name), el("td", {}, score + weight), el("td", {}, el("meter", { "aria-label": `score of ${part.name}`, min: "0", max: "1", value: part.score ?? 0 })), el("td", { class: "muted" }, took)),
      el("tr", { class: "about" }, el("td", { colspan: "4", class: "muted small" }, [part.reason, ...about].filter(Boolean).join(" · "))),
    ];
  });
  return el("table", { class: "parts" }, rows.flat());
}

function stage(one) {
  const judged = one.judge !== null && one.judge !== undefined
    ? [`judge derives “${one.judge}”: `, el("b", { class: one.agree ? "yes" : "no" }, one.agree ? "✓ agrees" : "✗ disagrees")]
    : [one.not_asked ? `judge not asked: ${one.not_asked}` : ""];
  return el("section", { class: "stage" }, el("h3", {}, `${one.level}: ${one.conclusion}`),
    el("p", {}, one.clues.map((clue) => el("span", { class: "chip" }, clue))), el("p", {}, one.reasoning),
    el("p", { class: "muted small" }, one.uncertainty ? `uncertainty ${one.uncertainty.toLowerCase()} · ` : "", judged));
}

// The shapes that every map refers to.
async function land() {
  if (document.getElementById("land")) return;
  const shapes = await ask("/static/world.json");
  if (document.getElementById("land")) return; // asked for twice
  const paths = Object.entries(shapes).map(([id, d]) => svg("path", { id, d, transform: "scale(.1)" }));
  document.body.append(svg("svg", { width: "0", height: "0", class: "unseen", "aria-hidden": "true" }, svg("defs", {}, paths)));
}

// The map comes as HTML of the server's making, in which every text is escaped.
function map(found) {
  if (!found.map) return el("p", { class: "muted small" }, "no coordinates");
  const figure = document.importNode(new DOMParser().parseFromString(found.map, "text/html").querySelector("figure"), true);
  movable(figure);
  return figure;
}
