"""The fault campaign's table, and the places its runs need: a network namespace, a small file
system.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

WHAT = {
    "replica": (
        "SIGKILL of a reward replica",
        "its calls fail and are asked again elsewhere; Serve starts another",
    ),
    "all-replicas": (
        "SIGKILL of all reward replicas",
        "calls wait and are asked again; Serve starts others",
    ),
    "judge": ("SIGKILL of the judge", "verdicts wait for the new judge"),
    "engine": (
        "SIGKILL of a rollout engine",
        "a new one takes the newest weights and does the prompts again",
    ),
    "learner": (
        "SIGKILL of the learner",
        "a new one loads the newest checkpoint; the steps since are done again",
    ),
    "redis": ("SIGKILL of Redis", "cache misses, then the same cache at the same address"),
    "controller": (
        "SIGKILL of Serve's controller",
        "Ray starts it again; calls wait until it knows its replicas",
    ),
    "hung": (
        "SIGSTOP of a reward replica",
        "calls time out and are asked again; Serve replaces it",
    ),
    "slow-geocoder": (
        "every third geocode takes 30 s, for 30 s",
        "requests time out and are asked again",
    ),
    "node": ("a reward node dies (SIGKILL of all of it)", "its replicas start on another node"),
    "drain": ("a reward node is drained, then stopped", "its replicas move before it goes"),
    "partition": (
        "a reward node is cut off for 20 s, then heals",
        "Ray gives it up; replicas return with a new one",
    ),
    "disk-full": (
        "the run's disk is full for 15 s",
        "records wait in memory; a checkpoint is skipped with a warning",
    ),
}


HEAD = """# What happens when parts die

Made by `python -m tests.benchmarks.faults --table docs/faults.md`; see there for how each row is run.
Real processes on one machine with 2 busy cores and a tiny policy: times are mostly process starts.

| fault | what happens | part whole again | first step after | longest step (usual) | lost | twice | unscorable | \
steps redone | metrics as undisturbed |
|---|---|---|---|---|---|---|---|---|---|
"""
NOTES = "\n## What the table shows"  # from here on the page is written by hand and stays


def write(page: Path, folder: Path) -> None:
    """Puts the table of everything in `folder` on the page, above its notes."""
    old = page.read_text() if page.exists() else ""
    notes = old[old.index(NOTES) :] if NOTES in old else ""
    page.write_text(table(folder) + notes)


def table(folder: Path) -> str:
    """Markdown. Metrics are compared step by step with the undisturbed run's, from step 1 to the
    fault's last.
    """
    pieces = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    calm = next((piece["metrics"] for piece in pieces if piece["names"] == ["undisturbed"]), {})
    rows = {row["fault"]: (row, piece["metrics"]) for piece in pieces for row in piece["rows"]}
    lines = []
    for fault, (what, then) in WHAT.items():
        if fault in rows:
            row, metrics = rows[fault]
            usual = f"{row['usual_step_s']:.1f} s" if row["usual_step_s"] else "-"
            times = " | ".join(
                f"{row[name]:.1f} s" for name in ("whole_s", "resumed_s", "longest_step_s")
            )
            counts = " | ".join(
                str(row[name]) for name in ("lost", "twice", "unscorable", "redone")
            )
            same = compared(metrics, calm, *row["steps"])
            lines.append(f"| {what} | {then} | {times} ({usual}) | {counts} | {same} |")
    return HEAD + "\n".join(lines) + "\n"


def compared(
    metrics: dict[str, list[float]], calm: dict[str, list[float]], first: int, last: int
) -> str:
    """Of reward, completion length and loss, up to a fault's last step."""
    both = [step for step in map(str, range(1, last + 1)) if step in calm and step in metrics]
    if str(last) not in both:
        return f"not compared: the undisturbed run has {len(calm)} steps"
    differing = [int(step) for step in both if metrics[step] != calm[step]]
    if not differing:
        return f"equal up to step {last}"
    return f"different from step {min(differing)} on" + (
        ", before this fault" if min(differing) < first else ""
    )


@contextlib.contextmanager
def linked_space(space: str, host_ip: str, node_ip: str) -> Iterator[None]:
    """A network namespace with one link (ga-host) to this machine. Needs root."""
    setup = [
        f"ip netns add {space}",
        f"ip link add ga-host type veth peer name ga-node netns {space}",
        f"ip addr add {host_ip}/24 dev ga-host",
        "ip link set ga-host up",
        f"ip netns exec {space} ip addr add {node_ip}/24 dev ga-node",
        f"ip netns exec {space} ip link set ga-node up",
        f"ip netns exec {space} ip link set lo up",
    ]
    try:
        for command in setup:
            subprocess.run(command.split(), check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "del", space], check=False)


@contextlib.contextmanager
def run_folder(small: bool) -> Iterator[str]:
    """A temporary folder; `small`: on a file system of 600 MiB of its own (needs root)."""
    with tempfile.TemporaryDirectory(prefix="ga-run-") as folder:
        if small:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=600m", "ga-small", folder], check=True
            )
        try:
            yield folder
        finally:
            if small:
                subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def blocked(space: str, host_ip: str, node_ip: str) -> Iterator[None]:
    """While in it, nothing passes between the namespace and this machine; each still reaches
    itself.
    """
    ways = [
        ["ip", "route", "X", "blackhole", node_ip],
        ["ip", "-n", space, "route", "X", "blackhole", host_ip],
    ]
    for way in ways:
        subprocess.run([word.replace("X", "add") for word in way], check=True)
    try:
        yield
    finally:
        for way in ways:
            subprocess.run([word.replace("X", "del") for word in way], check=True)
