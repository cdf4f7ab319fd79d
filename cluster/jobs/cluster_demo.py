"""`make cluster-demo`: a run on a Ray cluster of several nodes, all on this machine, that is scaled
and hurt meanwhile.

Starts a head node without GPUs and a node for reward workers, submits a short training with `ray
job submit`, changes the number of reward workers while it trains, kills their node, adds another,
and prints what happened when. Leaves no process behind. May know Ray."""

from __future__ import annotations

import json
import logging
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ray

from cluster.local_nodes import LocalCluster, Node, local_cluster
from cluster.scale import replicas, scale
from cluster.submit import AGENT_WAIT_S, TOO_EARLY, submission
from geoagent_rl.run.directory import RunDir, run_id_of
from geoagent_rl.types import InfraError

STEPS, PROMPTS, GROUP = 40, 4, 4  # so many that training outlasts the story
LAST_WORDS = 400  # characters of its log, in the error where the job fails
# for a step: the first one waits for the tiny policy, which is trained where it is not cached
WAIT_S = 900.0
OVERRIDES = [
    f"steps={STEPS}",
    f"rollout.prompts_per_step={PROMPTS}",
    f"rollout.group_size={GROUP}",
    "scenes.train=48",
    "reward.geocoder.nodes=reward_node",
    # reward nodes have no CPUs, so that nothing else is placed on them
    "reward.geocoder.cpus_per_replica=0",
]


class Story:
    """The timeline, told as it happens."""

    def __init__(self) -> None:
        self.begin = time.monotonic()

    def tell(self, what: str) -> None:
        """Print what happens, with the seconds since the start."""
        print(f"{time.monotonic() - self.begin:7.1f} s  {what}", flush=True)

    def until(
        self, true: Callable[[], bool], what: str, ended: Callable[[], str] = lambda: ""
    ) -> float:
        """Wait until it is so; return the seconds. InfraError after WAIT_S, or when `ended` says
        why it cannot become so any more."""
        begin = time.monotonic()
        while not true():
            if (why := ended()) or time.monotonic() - begin > WAIT_S:
                raise InfraError(
                    f"the cluster demo waited in vain for {what}: {why or f'{WAIT_S:g} s are over'}"
                )
            time.sleep(0.2)
        return time.monotonic() - begin


def submit(cluster: LocalCluster, run: RunDir) -> str:
    """Hand the job to the cluster with `ray job submit`; return its id."""
    root = Path(__file__).parents[2]
    words = [f"run.dir={run.path}", *OVERRIDES]
    job = submission("train", Path("configs/local.yaml"), words, root, {})
    job_id = f"cluster-demo-{secrets.token_hex(8)}"
    command = [
        str(Path(sys.executable).with_name("ray")),
        "job",
        "submit",
        "--no-wait",
        "--address",
        cluster.dashboard,
    ]
    command += [
        "--submission-id",
        job_id,
        "--runtime-env-json",
        json.dumps(job["runtime_env"]),
        "--",
    ]
    deadline = time.monotonic() + AGENT_WAIT_S
    while True:
        done = subprocess.run(
            [*command, *job["entrypoint"].split()], capture_output=True, text=True, timeout=180
        )
        if done.returncode == 0:
            return job_id
        said = " ".join((done.stdout + done.stderr).split())
        if TOO_EARLY not in said or time.monotonic() > deadline:
            raise InfraError(f"ray job submit failed: {said[-300:]}")


def run_cluster_demo(run_dir: Path) -> None:
    """Tell the whole story; raises InfraError when a part of it does not come true. run_dir must be
    new, and this process' environment that of the nodes (local_nodes.guarded), before Ray is
    imported.
    """
    run, story = RunDir(run_dir), Story()
    with local_cluster(8, dashboard=True) as cluster:
        story.tell("head node: 8 CPUs declared, no GPU")
        first = cluster.add("reward-1", 0, "reward_node")
        story.tell("node reward-1: for reward workers")
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            job = submit(cluster, run)
            story.tell(f"ray job submit: {job}")
            ended = ending(cluster, job)
            train_through(story, cluster, run, first, ended)
            story.until(
                lambda: ended() == "SUCCEEDED",
                "the job's end",
                lambda: ended().replace("SUCCEEDED", ""),
            )
            story.tell("the job has ended: SUCCEEDED")
        finally:
            ray.shutdown()
    story.tell("the nodes are stopped")
    print(summary(run), flush=True)


def ending(cluster: LocalCluster, job: str) -> Callable[[], str]:
    """Return the job's final status, "" while it runs; with its last words where it did not
    succeed.
    """
    from ray.job_submission import JobSubmissionClient

    jobs = JobSubmissionClient(cluster.dashboard)

    def status() -> str:
        now = jobs.get_job_status(job)
        if not now.is_terminal():
            return ""
        if now.value == "SUCCEEDED":
            return now.value
        words = (
            f"{now.value}: {jobs.get_job_info(job).message} {jobs.get_job_logs(job)[-LAST_WORDS:]}"
        )
        return " ".join(words.split())

    return status


def train_through(
    story: Story, cluster: LocalCluster, run: RunDir, first: Node, ended: Callable[[], str]
) -> None:
    """Scale up and down, kill the reward node, add another; between them training must go on."""

    def train(steps: int) -> None:
        """Wait through so many further steps."""
        wanted = len(run.rows("metrics.jsonl")) + steps
        story.until(lambda: len(run.rows("metrics.jsonl")) >= wanted, f"step {wanted}", ended)
        row = run.rows("metrics.jsonl")[-1]
        story.tell(
            f"step {row['step']}/{STEPS}: {row['step_seconds']:.1f} s, reward {row['reward_total_mean']:.3f}"
        )

    train(2)
    run_id = run_id_of(run.path)  # once the job has begun: its directory has its number now

    def whole() -> bool:
        return replicas(run_id, "geocoder") == {"RUNNING": 2}

    story.tell(f"geocoder workers 1 -> 8: {scale(run_id, {'geocoder': 8})['geocoder']:.1f} s")
    train(2)
    story.tell(f"geocoder workers 8 -> 2: {scale(run_id, {'geocoder': 2})['geocoder']:.1f} s")
    train(2)
    first.kill()
    story.tell("node reward-1 is killed, with both workers")
    story.tell(
        f"noticed after {story.until(lambda: not whole(), 'the death to be noticed', ended):.1f} s"
    )
    cluster.add("reward-2", 0, "reward_node")
    story.tell("node reward-2 is added")
    story.tell(
        f"2 workers on the new node: {story.until(whole, 'workers on the new node', ended):.1f} s"
    )
    train(2)


def summary(run: RunDir) -> str:
    """Return one paragraph on what the run has recorded."""
    steps, samples = run.rows("metrics.jsonl"), run.rows("rollouts.jsonl")
    unscorable = sum(sample["total"] is None for sample in samples)
    expected = STEPS * PROMPTS * GROUP
    waited = sum(step["reward_exposed_seconds"] for step in steps)
    return (
        f"{len(steps)} of {STEPS} steps, {len(samples)} of {expected} samples, {unscorable} of them unscorable; the "
        f"learner waited {waited:.1f} s for rewards; report: {run.path}/report.html"
    )
