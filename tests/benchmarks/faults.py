"""The fault campaign: a real run on a small Ray cluster, one fault after the other, and what became of it.

    python tests/benchmarks/faults.py undisturbed replica all-replicas redis controller hung [--into DIR]
    python tests/benchmarks/faults.py judge engine learner slow-geocoder
    python tests/benchmarks/faults.py node drain
    python tests/benchmarks/faults.py partition            (as root: network namespaces)
    python tests/benchmarks/faults.py disk-full            (as root: a small file system)
    python tests/benchmarks/faults.py --table docs/faults.md

Every call is one run (head node and reward nodes on this machine) whose answers come through an HTTP geocoder with
300 +- 200 ms; results gather in DIR, from which the table is made. Samples are generated, geocoded and judged for real.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import faults_table  # noqa: E402
import psutil  # noqa: E402
from geocoder_server import serving  # noqa: E402

from cluster.local_nodes import QUICK, LocalCluster, local_cluster  # noqa: E402

PROMPTS, GROUP = 4, 4
SIZES = [f"rollout.prompts_per_step={PROMPTS}", f"rollout.group_size={GROUP}", "scenes.train=96", "steps=60"]
CARE = ["run.save_every=2", "reward.geocoder.nodes=reward_node", "reward.geocoder.replicas=2", "reward.deadline_s=90"]
WAIT_S = 180.0
HOST_IP, NODE_IP, SPACE = "10.231.7.1", "10.231.7.2", "ga-faults"


class Run:
    """`geoagent-rl train` on the cluster, its output with times, and its records."""

    def __init__(self, cluster: LocalCluster, folder: Path, overrides: list[str], resume: bool = False) -> None:
        self.folder, self.lines = folder, []
        words = ["train", "--config", "configs/local.yaml", f"run.dir={folder}", *SIZES, *CARE, *overrides]
        env = {**os.environ, **QUICK, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(Path(__file__).parents[2])}
        main = "from cluster.cli import main; main()"
        command = [sys.executable, "-c", main, *words, *(["--resume"] if resume else [])]
        cwd = Path(__file__).parents[2]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env,
                                        cwd=cwd)  # fmt: skip
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.rstrip()))
            print(f"    {line.rstrip()}", file=sys.stderr, flush=True)

    def steps(self) -> dict[int, dict]:
        file = self.folder / "metrics.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return {row["step"]: row for row in map(json.loads, lines)}

    def samples(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "rollouts.jsonl").read_text().splitlines()]

    def last(self) -> int:
        return max(self.steps(), default=0)

    def until(self, what: str, true, seconds: float = WAIT_S) -> float:
        """Seconds that it took."""
        begin = time.monotonic()
        while not true():
            if self.process.poll() is not None:
                raise SystemExit(f"the run ended with {self.process.returncode} while waiting for {what}")
            if time.monotonic() - begin > seconds:
                raise SystemExit(f"{what} did not happen within {seconds:g} s")
            time.sleep(0.1)
        return time.monotonic() - begin

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise SystemExit("the run did not stop within 90 s of SIGINT") from None


class Ground:
    """One run and what surrounds it."""

    def __init__(self, cluster: LocalCluster, run: Run) -> None:
        self.cluster, self.run, self.tail = cluster, run, False

    def pids(self, title: str) -> set[int]:
        """Of Ray's processes with that in their title (a process' first word is replaced by it), and others by name."""
        found = set()
        for process in psutil.Process().children(recursive=True):
            try:
                words = " ".join(process.cmdline())
                if process.status() != psutil.STATUS_ZOMBIE and title in words.split(" --")[0]:
                    found.add(process.pid)
            except psutil.Error:
                continue
        return found

    def killed(self, title: str, count: int, signal_number: int = signal.SIGKILL, wanted: int | None = None):
        """Kills `count` processes; whole again: as many as before (or `wanted`) run, none of them one of these."""
        before = self.pids(title)
        if not before:
            raise SystemExit(f"no process of {title}")
        victims = set(sorted(before)[:count])
        for pid in victims:
            os.kill(pid, signal_number)
        number = len(before) if wanted is None else wanted
        return lambda: not victims & (now := self.pids(title)) and len(now) >= number and self.replicas_ready(title)

    def replicas_ready(self, title: str) -> bool:
        """Serve's own view of the application in `title` (its processes are there before they can answer)."""
        from ray import serve

        if "ServeReplica" not in title and "Controller" not in title:
            return True
        part = "judge" if "Agent" in title else "geo-embed"
        apps = [app for name, app in serve.status().applications.items() if name.endswith(part)]
        return bool(apps) and apps[0].status == "RUNNING"

    def geocode(self, path: str, query: str, key: str) -> None:
        """The HTTP geocoder's delay: 300 +- 200 ms, and with `tail` every third answer takes 30 s."""
        chance = random.Random(f"{query}/{time.monotonic_ns()}")
        slow = self.tail and chance.random() < 1 / 3
        time.sleep(30.0 if slow else max(0.02, chance.gauss(0.3, 0.2)))


GEO, JUDGE = "GeoEmbedWorker", "ConsistencyAgent"
KILLS = {
    "replica": lambda g: g.killed(GEO, 1),
    "all-replicas": lambda g: g.killed(GEO, 9),
    "judge": lambda g: g.killed(JUDGE, 1),
    "engine": lambda g: g.killed("ray::RolloutEngine", 1),
    "learner": lambda g: g.killed("ray::LearnerRank", 1),
    "redis": lambda g: g.killed("redis-server", 1),
    "controller": lambda g: g.killed("ray::ServeController", 1),
    "hung": lambda g: g.killed(GEO, 1, signal.SIGSTOP),
}


def slow_geocoder(g: Ground):
    g.tail, begin = True, time.monotonic()

    def over() -> bool:
        if time.monotonic() - begin > 30.0:
            g.tail = False
        return not g.tail

    return over


def on_nodes(number: int):
    """Whether the run's reward replicas are all up."""
    from ray import serve

    for name, app in serve.status().applications.items():
        if name.endswith("geo-embed"):
            (deployment,) = app.deployments.values()
            return deployment.replica_states == {"RUNNING": number}
    return False


def node(g: Ground):
    """A reward node dies while another is there; a third is added once the run is whole."""
    g.cluster.nodes[1].kill()
    g.run.until("the death to be noticed", lambda: not on_nodes(2))
    return lambda: on_nodes(2)


def drain(g: Ground):
    """Ray is told that a reward node will go: its replicas move to a new node first, then it is stopped."""
    import ray

    g.cluster.add("reward-c", 4, "reward_node")
    going, name = g.cluster.nodes[-2], g.cluster.nodes[-2].name
    (node_id,) = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get(name)]
    command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--address", g.cluster.address]
    command += ["--node-id", node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "campaign"]
    subprocess.run([*command, "--deadline-remaining-seconds", "120"], check=True, stdout=subprocess.DEVNULL)

    def moved() -> bool:
        words = [" ".join(p.cmdline()) for p in going.alive() if p.is_running()]
        if any(GEO in w for w in words) or not on_nodes(2):
            return False
        going.stop()
        return True

    return moved


def disk_full(g: Ground):
    """The file system of the run's directory is full for 15 s."""
    filler = g.run.folder.parent / "filler"
    with open(filler, "wb") as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass
    time.sleep(15)
    filler.unlink()
    return lambda: g.run.last() > 2


def partition(g: Ground):
    """The reward node's link goes down for 20 s: longer than Ray waits, so the node comes back as a new one."""
    command = ["ip", "link", "set", "ga-host"]
    subprocess.run([*command, "down"], check=True)
    g.run.until("the partition to be noticed", lambda: not on_nodes(2), 60)
    time.sleep(20)
    subprocess.run([*command, "up"], check=True)
    again = g.cluster.nodes[1]
    again.stop()  # a raylet that was declared dead ends itself when it hears of it; whoever runs nodes starts it anew
    g.cluster.add("reward-again", 4, "reward_node", NODE_IP, ["ip", "netns", "exec", SPACE])
    return lambda: on_nodes(2)


FAULTS = {**KILLS, "slow-geocoder": slow_geocoder, "node": node, "drain": drain, "partition": partition}
FAULTS |= {"disk-full": disk_full}


def suffer(g: Ground, name: str) -> dict:
    """Injects one fault in the middle of a step; the row of the table."""
    run = g.run
    start = run.last()
    run.until("a step", lambda: run.last() > start)
    before, begin = run.last(), time.monotonic()
    time.sleep(random.uniform(0.2, 1.0))  # somewhere in the step
    run.until(f"recovery from {name}", FAULTS[name](g))
    whole_s = time.monotonic() - begin
    run.until("a step after it", lambda: run.last() >= before + 1, WAIT_S)
    resumed_s = time.monotonic() - begin
    at = run.last()
    run.until("a whole step after it", lambda: run.last() >= at + 1, WAIT_S)
    said = [line for when, line in run.lines if when > begin and "starting" in line and "again" in line]
    return {"fault": name, "steps": [before + 1, run.last()], "whole_s": whole_s, "resumed_s": resumed_s, "said": said}


def tally(run: Run, row: dict, done: set[int]) -> dict:
    """Samples and times of the steps that the fault may have touched."""
    steps, (first, last) = run.steps(), row["steps"]
    touched = range(first, last + 1)
    samples = [s for s in run.samples() if s["step"] in touched]
    distinct = {(s["step"], s["uid"], s["index"]) for s in samples}
    seconds = sorted(steps[s]["step_seconds"] for s in steps if s not in done and s > 1)
    printed = [line.split()[1].split("/")[0] for _, line in run.lines if line.startswith("step ")]
    return row | {
        "lost": len(touched) * PROMPTS * GROUP - len(distinct),
        "twice": len(samples) - len(distinct),
        "unscorable": sum(s["total"] is None for s in samples),
        "longest_step_s": max(steps[s]["step_seconds"] for s in touched),
        "usual_step_s": seconds[len(seconds) // 2] if seconds else None,
        "redone": sum(printed.count(str(s)) - 1 for s in touched),
    }


def campaign(names: list[str], into: Path) -> None:
    """One run through all of `names`; appends a row for each, and the run's metrics, to `into`."""
    import ray

    apart, alone = "partition" in names, "disk-full" in names
    with (
        faults_table.run_folder(small=alone) as folder,
        local_cluster(
            8, ip=HOST_IP if apart else "127.0.0.1", resource="reward_node" if alone else "head_node"
        ) as cluster,
    ):
        if apart:
            cluster.add("reward", 4, "reward_node", NODE_IP, ["ip", "netns", "exec", SPACE])
        elif not alone:
            cluster.add("reward", 4, "reward_node")
        if "node" in names or "drain" in names:
            cluster.add("reward-b", 4, "reward_node")
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        ground = Ground(cluster, None)
        with serving(places={}, trouble=ground.geocode) as server:
            http = ["reward.geocoder.provider=[nominatim,gazetteer]", f"reward.geocoder.nominatim.url={server.url}"]
            run = ground.run = Run(
                cluster,
                Path(folder) / "run",
                [] if apart else [*http, "reward.geocoder.nominatim.rate_per_s=100000"],
            )
            rows = []
            try:
                run.until("the first steps", lambda: run.last() >= 2, 300)
                for name in names:
                    if name != "undisturbed":
                        rows.append(suffer(ground, name))
                if "undisturbed" in names:
                    run.until("the undisturbed steps", lambda: run.last() >= 24, 400)
            except SystemExit as problem:  # what was measured before it is kept
                print(f"FAILED: {problem}", file=sys.stderr)
            finally:
                run.stop()
                ray.shutdown()
        touched = {s for row in rows for s in range(row["steps"][0], row["steps"][1] + 1)}
        rows = [tally(run, row, touched) for row in rows]
        into.mkdir(parents=True, exist_ok=True)
        kept = {s: [r["reward_total_mean"], r["completion_tokens_mean"], r["loss"]] for s, r in run.steps().items()}
        text = json.dumps({"rows": rows, "names": names, "metrics": kept}, indent=1)
        (into / f"{'-'.join(names)}.json").write_text(text)
        print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faults", nargs="*", choices=[*FAULTS, "undisturbed"])
    parser.add_argument("--into", type=Path, default=Path("runs/faults"))
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    os.environ.update(QUICK)
    if arguments.faults:
        apart = "partition" in arguments.faults
        with faults_table.linked_space(SPACE, HOST_IP, NODE_IP) if apart else contextlib.nullcontext():
            campaign(arguments.faults, arguments.into)
    if arguments.table:
        arguments.table.write_text(faults_table.table(arguments.into))


if __name__ == "__main__":
    main()
