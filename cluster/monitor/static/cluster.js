// The live run that the monitor is attached to: nodes, actors, replicas, with buttons that change how many there are.

import { ask, change, el, number, show, table } from "./dom.js";

const HOW = "Not attached to a live run. Start the monitor with --attach to see nodes, actors and replicas here and to change the number of replicas; the Services view has the curves of every run.";

export class Cluster {
  constructor() {
    this.node = el("div", { class: "cluster" });
  }

  async refresh() {
    const found = await ask("/api/cluster"), drawn = JSON.stringify(found);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const focused = document.activeElement?.id;
    this.node.replaceChildren(...(found.attached ? this.shown(found) : [el("p", { class: "card" }, HOW)]));
    if (focused) document.getElementById(focused)?.focus();
  }

  shown(found) {
    if (found.problem) return [el("p", { class: "card" }, found.problem)];
    return [
      el("section", { class: "card" }, el("h2", {}, `Reward services of run ${found.run_id}`), table(["service", "state", "replicas", "change"],
        Object.entries(found.services).map(([name, service]) => [name, service.status.toLowerCase(), counts(service.replicas), this.buttons(found.run_id, name, service)])),
        el("p", { class: "muted small", role: "status" }, found.said ?? "")),
      el("section", { class: "card" }, el("h2", {}, "Nodes"), table(["address", "state", "CPUs", "GPUs"],
        found.nodes.map((node) => [node.address, node.alive ? "alive" : "dead", number(node.cpus), number(node.gpus)]))),
      el("section", { class: "card" }, el("h2", {}, "Actors"), table(["name"], found.actors.map((name) => [name]))),
    ];
  }

  buttons(run, name, service) {
    const now = (service.replicas.RUNNING ?? 0) + (service.replicas.STARTING ?? 0);
    const to = (replicas, sign) => el("button", {
      type: "button", id: `scale-${name}-${sign}`, disabled: replicas < 1, "aria-label": `${name}: ${replicas} replicas`,
      on: { click: () => this.scale(run, name, replicas) },
    }, sign);
    return el("span", { class: "scale" }, to(now - 1, "−"), ` ${now} `, to(now + 1, "+"));
  }

  async scale(run, service, replicas) {
    try {
      await change("/api/scale", { run, service, replicas });
      await this.refresh();
    } catch (error) {
      show(error.message);
    }
  }
}

function counts(replicas) {
  return Object.entries(replicas).map(([state, n]) => `${n} ${state.toLowerCase()}`).join(", ") || "none";
}
