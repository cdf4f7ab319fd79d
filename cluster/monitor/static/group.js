// The answers to one prompt side by side, with their advantages: what GRPO compares.

import { ask, el, number } from "./dom.js";

const LEVELS = ["country", "region", "place"];

// open(at): shows another of them.
export async function beside(run, at, open) {
  const group = await ask("/api/group", { run, at });
  const names = [...new Set(group.flatMap((one) => Object.keys(one.parts)))];
  const rows = [
    ["total", (one) => number(one.total)],
    ["advantage", (one) => el("b", { class: one.advantage > 0 ? "yes" : one.advantage < 0 ? "no" : "" }, signed(one.advantage))],
    ...names.map((name) => [name, (one) => number(one.parts[name])]),
    ["km away", (one) => number(one.distance_km === null ? null : Math.round(one.distance_km))],
    ["tokens", (one) => number(one.tokens)],
    ...LEVELS.map((level, i) => [level, (one) => one.levels[i] || "–"]),
    ...(group.some((one) => one.position) ? [["position", (one) => one.position || "–"]] : []),
  ];
  const heads = group.map((one) => el("th", { scope: "col", "aria-current": one.at === at ? "true" : null },
    el("button", { type: "button", on: { click: () => open(one.at) } }, `#${one.index}`)));
  const more = group.length > 1 ? `The ${group.length} answers to this prompt` : "This answer (its neighbours are still being read)";
  return el("section", { class: "group" }, el("h3", {}, more), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Answers of the group" },
    el("table", {}, el("thead", {}, el("tr", {}, el("td", {}), heads)),
      el("tbody", {}, rows.map(([name, cell]) => el("tr", {}, el("th", { scope: "row" }, name), group.map((one) => el("td", {}, cell(one)))))))));
}

const signed = (value) => (value > 0 ? "+" : "") + number(value);
