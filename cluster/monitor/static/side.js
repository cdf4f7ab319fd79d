// What is beside and above every view: the list of runs, and what the first of those shown is doing.

import { sample, STYLES } from "./chart.js";
import { ask, duration, el, number, status } from "./dom.js";

const page = (id) => document.getElementById(id);
let listed, stated;

// toggle(name): shows a run, or does not any more.
export function drawRuns(runs, chosen, toggle) {
  const now = JSON.stringify([runs.map((run) => [run.name, run.step, run.status, run.last.reward_total_mean]), chosen]);
  if (now === listed) return;
  listed = now;
  const focused = document.activeElement?.value;
  page("runs").replaceChildren(...runs.map((run) => {
    const at = chosen.indexOf(run.name), reward = run.last.reward_total_mean;
    const box = el("input", { type: "checkbox", value: run.name, checked: at >= 0, on: { change: () => toggle(run.name) } });
    const said = `step ${number(run.step)}` + (reward === undefined || reward === null ? "" : `, reward ${number(reward)}`);
    return el("label", { class: "run", title: run.path }, box, chosen.length > 1 && at >= 0 ? sample(at % STYLES) : null,
      el("span", {}, el("b", {}, run.name), status(run.status), el("small", { class: "muted" }, said)));
  }));
  if (focused) [...page("runs").querySelectorAll("input")].find((box) => box.value === focused)?.focus();
  if (!runs.length) page("runs").replaceChildren(el("p", { class: "muted small" }, "none yet"));
}

// alerts(): opens the view of alerts.
export async function drawStatus(run, alerts) {
  const found = (await ask("/api/alerts", { run: run.name })).filter((one) => one.level === "bad" || one.level === "warn");
  const now = JSON.stringify([run.name, run.status, run.step, run.eta_seconds, found]);
  if (now === stated) return;
  stated = now;
  const left = run.eta_seconds === null ? "" : ` · about ${duration(run.eta_seconds)} left`;
  const whole = run.steps ?? run.step;
  page("status").replaceChildren(
    el("b", {}, run.name), status(run.status), el("span", {}, `step ${number(run.step)} of ${number(whole)}${left}`),
    el("progress", { value: String(run.step), max: String(Math.max(whole, 1)), "aria-label": "steps done" }),
    ...found.map((one) => el("button", { type: "button", class: `level ${one.level}`, title: one.says, on: { click: alerts } }, one.name)),
    ...(ADVICE[run.status] ? [el("span", { class: "muted small" }, ADVICE[run.status], el("code", {}, `geoagent-rl train --resume run.dir=${quoted(run.path)}`))] : []));
}

const ADVICE = {
  saved: "stopped with all steps saved; to go on: ",
  crashed: "stopped with steps that no checkpoint has; to go on from the last checkpoint: ",
};

// A path as a shell takes it.
const quoted = (path) => (/[^\w/.,:@%+=-]/.test(path) ? `'${path.replaceAll("'", "'\\''")}'` : path);

export function nothing(folder) {
  page("status").replaceChildren();
  const command = (words) => el("dd", {}, el("code", {}, words));
  return el("section", { class: "card empty" }, el("h2", {}, "No run yet"),
    el("p", {}, "Nothing below ", el("code", {}, folder), " is a run. What starts one:"),
    el("dl", {}, el("dt", {}, "on a laptop"), command("geoagent-rl demo"), el("dt", {}, "with your photographs"), command("geoagent-rl train --config configs/local.yaml data.manifest=PHOTOS"),
      el("dt", {}, "on a cluster"), command("geoagent-rl submit --config configs/paper.yaml")),
    el("p", { class: "muted" }, "It appears here by itself. Runs elsewhere: ", el("code", {}, "geoagent-rl monitor FOLDER"), "."));
}
