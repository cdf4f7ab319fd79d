"""The fault campaign: a real run on a small Ray cluster, one fault after the other, and what became
of it.

    python -m tests.benchmarks.faults undisturbed replica all-replicas redis [--into DIR]
    python -m tests.benchmarks.faults controller hung
    python -m tests.benchmarks.faults judge engine learner slow-geocoder
    python -m tests.benchmarks.faults node drain
    python -m tests.benchmarks.faults partition            (as root: network namespaces)
    python -m tests.benchmarks.faults disk-full            (as root: a small file system)
    python -m tests.benchmarks.faults --table docs/faults.md

Every line is one run (head node and reward nodes on this machine; `undisturbed` is one of its own)
whose answers come through an HTTP geocoder with 300 +- 200 ms; results gather in DIR, from which
the table is made. Samples are generated, geocoded and judged for real."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil

from cluster.local_nodes import LocalCluster, Node, guarded, local_cluster
from tests.benchmarks import faults_table
from tests.benchmarks.faults_run import GROUP, PROMPTS, REPLICAS, Run, is_step, running, title
from tests.support.geocoder_server import serving

CALM_STEPS, START_S = 50, 540.0
HOST_IP, NODE_IP, SPACE = "10.231.7.1", "10.231.7.2", "ga-faults"
MARK = "GEOAGENT_FAULTS"  # in the environment of everything that a campaign starts


class Ground:
    """One run and what surrounds it."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster, self.tail = cluster, False
        self.run: Run
        self.begin = 0.0  # when the fault began
        self.afterwards: list[
            Callable[[], None]
        ] = []  # what belongs to a fault and follows its measurement

    def pids(self, word: str) -> set[int]:
        """Of processes with that in their title (a Ray process' first word is replaced by it) or
        their command.
        """
        return {p.pid for p in psutil.Process().children(recursive=True) if word in title(p)}

    def killed(
        self, word: str, count: int, whole: Callable[[], bool], number: int = signal.SIGKILL
    ):
        """Kills `count` processes. Whole again: as many as before run, none of them one of these,
        and `whole`.
        """
        before = self.pids(word)
        if not before:
            raise SystemExit(f"no process of {word}")
        victims = set(sorted(before)[:count])
        self.begin = time.monotonic()
        for pid in victims:
            os.kill(pid, number)
        return lambda: (
            not victims & (now := self.pids(word)) and len(now) >= len(before) and whole()
        )

    def says(self, what: str) -> bool:
        return self.run.said(what, self.begin)

    def geocode(self, path: str, query: str, key: str) -> None:
        """The HTTP geocoder's delay: 300 +- 200 ms, and with `tail` every third answer takes 30
        s.
        """
        chance = random.Random(f"{query}/{time.monotonic_ns()}")
        slow = self.tail and chance.random() < 1 / 3
        time.sleep(30.0 if slow else max(0.02, chance.gauss(0.3, 0.2)))


def workers() -> bool:
    return running("geo-embed", REPLICAS)


def judge() -> bool:
    return running("judge", 1)


GEO, JUDGE = "GeoEmbedWorker", "ConsistencyAgent"
KILLS = {
    "replica": lambda g: g.killed(GEO, 1, workers),
    "all-replicas": lambda g: g.killed(GEO, REPLICAS, workers),
    "judge": lambda g: g.killed(JUDGE, 1, judge),
    "engine": lambda g: g.killed("ray::RolloutEngine", 1, lambda: g.says("works again")),
    "learner": lambda g: g.killed("ray::LearnerRank", 1, lambda: g.says("resuming after step")),
    "redis": lambda g: g.killed("redis-server", 1, lambda: True),
    "controller": lambda g: g.killed("ray::ServeController", 1, lambda: workers() and judge()),
    "hung": lambda g: g.killed(GEO, 1, workers, signal.SIGSTOP),
}


def slow_geocoder(g: Ground):
    g.tail = True

    def over() -> bool:
        if time.monotonic() - g.begin > 30.0:
            g.tail = False
        return not g.tail

    return over


def with_worker(g: Ground) -> Node:
    """A node other than the head with a reward worker on it."""
    found = [node for node in g.cluster.nodes[1:] if any(GEO in title(p) for p in node.alive())]
    if not found:
        raise SystemExit("no reward node has a reward worker")
    return found[0]


def node(g: Ground):
    """A reward node dies while another has room."""
    victim = with_worker(g)
    g.begin = time.monotonic()
    victim.kill()
    g.run.until("the death to be noticed", lambda: not workers())
    return workers


def drain(g: Ground):
    """Ray is told that a reward node will go: its replicas move to a new node first, then it is
    stopped.
    """
    import ray

    g.cluster.add("reward-c", 0, "reward_node")
    going = with_worker(g)
    (node_id,) = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get(going.name)]
    command = [
        str(Path(sys.executable).with_name("ray")),
        "drain-node",
        "--address",
        g.cluster.address,
    ]
    command += [
        "--node-id",
        node_id,
        "--reason",
        "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message",
        "campaign",
    ]
    g.begin = time.monotonic()
    subprocess.run(
        [*command, "--deadline-remaining-seconds", "120"], check=True, stdout=subprocess.DEVNULL
    )
    g.afterwards.append(going.stop)
    return lambda: not any(GEO in title(p) for p in going.alive()) and workers()


def disk_full(g: Ground):
    """The file system of the run's directory is full for 15 s."""
    filler = g.run.folder.parent / "filler"
    with filler.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(bytes(1 << 20)):
                pass
    time.sleep(15)
    filler.unlink()
    return lambda: True


def partition(g: Ground):
    """Nothing passes between the reward node and the others for 20 s: longer than Ray waits, so it
    comes back anew.
    """
    with faults_table.blocked(SPACE, HOST_IP, NODE_IP):
        g.run.until("the partition to be noticed", lambda: not workers(), 60)
        time.sleep(max(0.0, 20 - (time.monotonic() - g.begin)))
    again = g.cluster.nodes[1]
    # a raylet that was declared dead ends itself when it hears of it; whoever runs nodes starts it
    # anew
    again.stop()
    g.cluster.add("reward-again", 0, "reward_node", NODE_IP, ["ip", "netns", "exec", SPACE])
    return workers


FAULTS = {
    **KILLS,
    "slow-geocoder": slow_geocoder,
    "node": node,
    "drain": drain,
    "partition": partition,
}
FAULTS |= {"disk-full": disk_full}
ALONE = ("undisturbed", "partition", "disk-full")  # each needs a run of its own
TWO_NODES = ("node", "drain")


def suffer(g: Ground, name: str) -> dict:
    """Injects one fault in the middle of a step; the row of the table, times counted from the
    fault's beginning.
    """
    run = g.run
    start = run.last()
    run.until("a step", lambda: run.last() > start)
    time.sleep(random.uniform(0.2, 1.0))  # somewhere in the step
    before, g.begin = run.last(), time.monotonic()
    run.until(f"recovery from {name}", FAULTS[name](g))
    whole_s = time.monotonic() - g.begin
    run.until(
        "a step after it",
        lambda: run.last() > before and any(when > g.begin for when, _ in run.printed()),
    )
    first = next(when for when, _ in run.printed() if when > g.begin)
    while g.afterwards:
        g.afterwards.pop()()
    at = run.last()
    run.until("a whole step after it", lambda: run.last() > at)
    again = [step for when, step in run.printed() if when > g.begin]
    return {
        "fault": name,
        "steps": [min(before + 1, *again), run.last()],
        "whole_s": whole_s,
        "resumed_s": first - g.begin,
        "redone": sum(step <= before for step in again),
        "said": [line for when, line in run.lines if when > g.begin and not is_step(line)],
    }


def tally(run: Run, row: dict, touched: set[int]) -> dict:
    """The row with samples and times of the steps that the fault may have touched. touched: by any
    fault.
    """
    steps, (first, last) = run.steps(), row["steps"]
    own = range(first, last + 1)
    samples = [s for s in run.samples() if s["step"] in own]
    distinct = {(s["step"], s["uid"], s["index"]) for s in samples}
    usual = sorted(steps[s]["step_seconds"] for s in steps if s not in touched and s > 1)
    return row | {
        "lost": len(own) * PROMPTS * GROUP - len(distinct),
        "twice": len(samples) - len(distinct),
        "unscorable": sum(s["total"] is None for s in samples),
        "longest_step_s": max(steps[s]["step_seconds"] for s in own),
        "usual_step_s": usual[len(usual) // 2] if usual else None,
    }


def keep(run: Run, names: list[str], rows: list[dict], into: Path) -> None:
    """Writes what has been measured so far."""
    touched = {s for row in rows for s in range(row["steps"][0], row["steps"][1] + 1)}
    metrics = {
        s: [r["reward_total_mean"], r["completion_tokens_mean"], r["loss"]]
        for s, r in run.steps().items()
    }
    piece = {"rows": [tally(run, row, touched) for row in rows], "names": names, "metrics": metrics}
    into.mkdir(parents=True, exist_ok=True)
    (into / f"{'-'.join(names)}.json").write_text(json.dumps(piece, indent=1))


def campaign(names: list[str], into: Path) -> None:
    """One run through all of `names`; keeps a row for each, and the run's metrics, in `into`."""
    import ray

    apart, alone = names == ["partition"], names == ["disk-full"]
    with contextlib.ExitStack() as ground_work:
        enter = ground_work.enter_context
        if apart:
            enter(faults_table.linked_space(SPACE, HOST_IP, NODE_IP))
        host = HOST_IP if apart else "127.0.0.1"
        folder = Path(enter(faults_table.run_folder(small=alone)))
        cluster = enter(local_cluster(8, ip=host, resource="reward_node" if alone else "head_node"))
        if apart:
            cluster.add("reward", 0, "reward_node", NODE_IP, ["ip", "netns", "exec", SPACE])
        elif not alone:
            cluster.add("reward", 0, "reward_node")
        if set(names) & set(TWO_NODES):
            cluster.add("reward-b", 0, "reward_node")
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        ground_work.callback(ray.shutdown)
        ground = Ground(cluster)
        server = enter(serving(places={}, trouble=ground.geocode, host=host))
        http = [
            "reward.geocoder.provider=[nominatim,gazetteer]",
            f"reward.geocoder.nominatim.url={server.url}",
        ]
        run = ground.run = Run(
            cluster, folder / "run", [*http, "reward.geocoder.nominatim.rate_per_s=100000"]
        )
        rows = []
        try:
            run.until("the first steps", lambda: run.last() >= 2, START_S)
            if names == ["undisturbed"]:
                run.until("the undisturbed steps", lambda: run.last() >= CALM_STEPS, START_S)
                keep(run, names, rows, into)
            for name in names if names != ["undisturbed"] else ():
                rows.append(suffer(ground, name))
                keep(run, names, rows, into)
                print(json.dumps(rows[-1]), flush=True)
        except SystemExit as problem:  # what was measured before it is kept
            print(f"FAILED: {problem}", file=sys.stderr)
        finally:
            run.stop()


def left_over(mark: str) -> list[str]:
    """Processes of this campaign that live on."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(f"{process.pid} {title(process)[:100]}")
    return found


def runs(names: list[str]) -> list[list[str]]:
    """The faults by the run that they happen in."""
    rest = [name for name in names if name not in (*ALONE, *TWO_NODES)]
    groups = [
        *([name] for name in ALONE if name in names),
        rest,
        [name for name in TWO_NODES if name in names],
    ]
    return [group for group in groups if group]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faults", nargs="*", help=", ".join([*FAULTS, "undisturbed"]))
    parser.add_argument("--into", type=Path, default=Path("runs/faults"))
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if unknown := set(arguments.faults) - {
        *FAULTS,
        "undisturbed",
    }:  # argparse's choices would refuse --table alone
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    os.environ.update(guarded())
    mark = os.environ[MARK] = uuid.uuid4().hex
    for names in runs(arguments.faults):
        campaign(names, arguments.into)
        for process in left_over(mark):
            print(f"FAILED: left over: {process}", file=sys.stderr)
    if arguments.table:
        faults_table.write(arguments.table, arguments.into)


if __name__ == "__main__":
    main()
