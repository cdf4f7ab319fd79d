// The page: which view, which runs, how smooth, over what; all of it also in the address, so that a link shows the same.

import { Cluster } from "./cluster.js";
import { Curves } from "./curves.js";
import { ask, el, show } from "./dom.js";
import { Rollouts } from "./rollouts.js";
import { drawRuns, drawStatus, nothing } from "./side.js";
import { RunTable } from "./table.js";
import { Alerts, Evaluation, Log, Settings } from "./tables.js";

const EVERY_MS = 2000;
const SMOOTH = { 1: "not", 5: "5 steps", 21: "21 steps", 101: "101 steps" };
const page = (id) => document.getElementById(id);
const state = { tab: "Rewards", runs: [], smooth: 5, axis: "step", ...fromAddress() };
const views = {};
let described, runs = [];

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const out = {};
  if (given.get("tab")) out.tab = given.get("tab");
  if (given.get("runs")) out.runs = given.get("runs").split("|");
  if (given.get("smooth") in SMOOTH) out.smooth = Number(given.get("smooth"));
  if (given.get("axis") === "time") out.axis = "time";
  return out;
}

function remember() {
  const now = new URLSearchParams({ tab: state.tab, runs: state.runs.join("|"), smooth: state.smooth, axis: state.axis });
  history.replaceState(null, "", `#${now}`);
}

function selected() {
  const known = runs.map((run) => run.name);
  const chosen = state.runs.filter((name) => known.includes(name));
  return chosen.length ? chosen : known.slice(0, 1);
}

function drawTabs() {
  page("tabs").replaceChildren(...Object.keys(views).map((name, i) => el("button", {
    type: "button", role: "tab", id: `tab-${name}`, "aria-selected": String(name === state.tab), "aria-controls": "main",
    tabindex: name === state.tab ? "0" : "-1", on: { click: () => choose(name), keydown: (event) => arrow(event, i) },
  }, name, i < 9 ? el("kbd", { "aria-hidden": "true" }, i + 1) : null)));
  page(`tab-${state.tab}`).scrollIntoView({ block: "nearest", inline: "nearest" });
}

function arrow(event, i) {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!move) return;
  const names = Object.keys(views);
  choose(names[(i + move + names.length) % names.length]);
  page(`tab-${state.tab}`).focus();
}

function choose(name) {
  state.tab = name;
  remember();
  drawTabs();
  page("main").setAttribute("aria-labelledby", `tab-${name}`);
  page("main").replaceChildren(views[name].node);
  return refresh();
}

function toggle(name) {
  const chosen = selected();
  state.runs = chosen.includes(name) ? chosen.filter((other) => other !== name) : [...chosen, name];
  remember();
  refresh();
}

let busy = null, again = false;

// One at a time; what is asked for meanwhile is done once more afterwards.
async function refresh() {
  if (busy) {
    again = true;
    return busy;
  }
  busy = once();
  await busy;
  busy = null;
  if (again) {
    again = false;
    await refresh();
  }
}

async function once() {
  try {
    const found = await ask("/api/runs");
    runs = found.runs;
    page("folder").textContent = found.folder;
    drawRuns(runs, selected(), toggle);
    if (String(found.parts) !== String(described.parts)) await describe(); // a run that scores another reward
    const needed = state.tab !== "Cluster", view = runs.length || !needed ? views[state.tab].node : nothing(found.folder);
    if (page("main").firstChild !== view) page("main").replaceChildren(view);
    if (runs.length || !needed) await views[state.tab].refresh(selected(), state, runs);
    if (runs.length) await drawStatus(runs.find((run) => run.name === selected()[0]), () => choose("Alerts"));
    show("");
    document.body.dataset.ready = state.tab;
  } catch (error) {
    show(error instanceof TypeError ? "The monitor does not answer; is it still running?" : error.message);
  }
}

function theme(next) {
  document.documentElement.dataset.theme = next;
  document.dispatchEvent(new Event("theme"));
}

function keys(event) {
  const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
  if (typing || event.ctrlKey || event.altKey || event.metaKey || page("keys").open) return;
  const names = Object.keys(views);
  if (event.key >= "1" && event.key <= "9") choose(names[event.key - 1]);
  else if (event.key === "r") page("runs").querySelector("input")?.focus();
  else if (event.key === "c") page("main").querySelector("figure:not([hidden]) .plot")?.focus();
  else if (event.key === "t") page("theme").click();
  else if (event.key === "?") page("keys").showModal();
  else if (!views[state.tab].key?.(event.key)) return;
  event.preventDefault();
}

// The views of curves, for the reward parts of the runs that there are.
async function describe() {
  described = await ask("/api/panels");
  for (const tab of new Set(described.panels.map((panel) => panel.tab))) {
    const view = new Curves(described, described.panels.filter((panel) => panel.tab === tab));
    views[tab]?.node.replaceWith(view.node);
    views[tab] = view;
  }
}

function controls() {
  const system = matchMedia("(prefers-color-scheme: dark)"), wanted = () => localStorage.getItem("theme") ?? (system.matches ? "dark" : "light");
  theme(wanted());
  system.addEventListener("change", () => theme(wanted()));
  page("theme").addEventListener("click", () => {
    localStorage.setItem("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    theme(wanted());
  });
  page("help").addEventListener("click", () => page("keys").showModal());
  page("smooth").append(...Object.entries(SMOOTH).map(([value, name]) => el("option", { value, selected: Number(value) === state.smooth }, name)));
  page("smooth").addEventListener("change", (event) => { state.smooth = Number(event.target.value); remember(); refresh(); });
  page("axis").value = state.axis;
  page("axis").addEventListener("change", (event) => { state.axis = event.target.value; remember(); refresh(); });
  page("side").open = innerWidth > 900;
  document.addEventListener("keydown", keys);
}

async function start() {
  controls();
  views.Runs = new RunTable(toggle);
  await describe();
  Object.assign(views, { Rollouts: new Rollouts(), Evaluation: new Evaluation(), Configuration: new Settings(), Log: new Log(), Alerts: new Alerts(), Cluster: new Cluster() });
  await choose(state.tab in views ? state.tab : "Rewards");
  setInterval(() => document.hidden || refresh(), EVERY_MS);
}

start().catch((error) => show(error.message));
