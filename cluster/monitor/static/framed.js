// The curves alone, for the Ray dashboard's frames: all of them, or the one that stands for a panel number.

import { Curves } from "./curves.js";
import { ask, el, show } from "./dom.js";

const EVERY_MS = 5000, SHOWN = { smooth: 5, axis: "step" };
// The two panels that the dashboard's Overview shows: "Cluster utilization" and "Node count".
const OVERVIEW = { 41: "total-reward", 24: "step-time-and-t" };
const asked = new URLSearchParams(location.search);
document.documentElement.dataset.theme = asked.get("theme") === "dark" ? "dark" : "light";

async function start() {
  const described = await ask("/api/panels");
  const alone = location.pathname.startsWith("/d-solo/");
  const one = OVERVIEW[asked.get("panelId")] ?? "total-reward";
  const curves = new Curves(described, described.panels.filter((panel) => !alone || panel.id === one));
  if (alone) document.body.classList.add("alone");
  const name = el("p", { class: "muted small" }, "no run yet");
  document.getElementById("main").replaceChildren(name, curves.node);
  const refresh = async () => {
    try {
      const { runs } = await ask("/api/runs");
      if (runs.length) {
        name.textContent = `${runs[0].name}, step ${runs[0].step}`;
        await curves.refresh([runs[0].name], SHOWN);
      }
      show("");
    } catch (error) {
      show(error.message);
    }
    document.body.dataset.ready = "yes";
  };
  await refresh();
  setInterval(() => document.hidden || refresh(), EVERY_MS);
}

start().catch((error) => show(error.message));
