"""What `geoagent-rl submit` refuses before anything is uploaded, and what a job is told."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import storage, submit
from geoagent_rl.config import load
from geoagent_rl.network import listen
from geoagent_rl.types import UserError


@pytest.fixture
def project(tmp_path):
    """A folder with a configuration and, beside the code, what does not belong in an upload."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "c.yaml").write_text("data: {manifest: scenes}\nsteps: 3\n")
    for folder in ("data/photos", "runs/a", ".venv/lib", ".git", "package/data"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "blob").write_bytes(b"x" * 3_000_000)
    return tmp_path


def submission(project, *overrides, command="train", config="configs/c.yaml", **variables):
    return submit.submission(command, Path(config), overrides, project, variables)


def refusal(*args, **kwargs):
    with pytest.raises(UserError) as caught:
        submission(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_job_runs_the_same_command_there_and_is_given_time_to_stop(project):
    made = submission(project, "steps=4", "run.dir=runs/my run", HF_HUB_OFFLINE="1")
    words = ["geoagent-rl", "train", "--config", "configs/c.yaml", "steps=4", "run.dir=runs/my run"]
    assert shlex.split(made["entrypoint"]) == words
    env = made["runtime_env"]["env_vars"]
    assert env == {"RAY_JOB_STOP_WAIT_TIME_S": "180", "HF_HUB_OFFLINE": "1"}
    assert made["metadata"]["run_dir"] == "runs/my run"
    assert submission(project, command="eval run")["entrypoint"].startswith(
        "geoagent-rl eval run --config"
    )


def test_a_run_that_stopped_goes_on_as_a_job(project):
    made = submission(project, "run.dir=/data/runs/mine", command="train --resume")
    assert shlex.split(made["entrypoint"])[:3] == ["geoagent-rl", "train", "--resume"]


def test_mistakes_are_found_before_the_upload(project):
    assert "steps" in refusal(project, "stepps=4")
    assert "no configuration file" in refusal(project, config="configs/none.yaml")
    assert "--working-dir" in refusal(project, config="../c.yaml")
    assert "choose one of train" in refusal(project, command="rm")
    assert "REDIS_PASSWORD" in refusal(project, "reward.cache.url=redis://:hunter2@host/0")


def test_only_what_ray_would_pack_is_measured(project, monkeypatch):
    monkeypatch.setattr(submit, "UPLOAD_LIMIT", 4_000_000)
    submission(project)  # package/data alone: data, runs, .venv and .git at the top stay here
    (project / "package" / "model").mkdir()
    (project / "package" / "model" / "weights").write_bytes(b"x" * 2_000_000)
    said = refusal(project)
    assert "5 MiB" in said and "the limit is 4" in said
    assert said.index("package/data 3 MiB") < said.index("package/model 2 MiB")
    (project / ".gitignore").write_text("model/\n")
    submission(project)


def test_files_of_secrets_are_not_uploaded(project):
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    hidden = (
        ".env",
        "a/.env.local",
        "id_rsa",
        "a/id_ed25519",
        "secrets/redis",
        "a/tls.key",
        "c.pem",
    )
    for name in (*hidden, "package/secrets.py", "package/environment.yaml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("value")
    excludes = submission(project)["runtime_env"]["excludes"]
    packed = []
    _dir_travel(project, [_get_excludes(project, excludes)], packed.append, include_gitignore=True)
    names = {path.relative_to(project).as_posix() for path in packed}
    assert {"package/secrets.py", "package/environment.yaml"} <= names
    assert not names & set(hidden)


@pytest.mark.parametrize("name", ["OPENCAGE_API_KEY", "HF_TOKEN", "REDIS_PASSWORD"])
def test_values_of_secrets_are_never_forwarded(name):
    for asked in (name, f"{name}=value"):
        with pytest.raises(UserError, match=f"{name}_FILE") as caught:
            submit.forwarded([asked], {name: "value"})
        assert "=value" not in str(caught.value)
    assert submit.forwarded([f"{name}_FILE=/etc/x"], {}) == {f"{name}_FILE": "/etc/x"}


def test_values_that_are_secrets_are_never_forwarded_under_any_name():
    with pytest.raises(UserError, match="--env STORE: its value looks like a key") as caught:
        submit.forwarded(["STORE"], {"STORE": "rediss://:hunter2@host:6380/0"})
    assert "hunter2" not in str(caught.value)


def test_other_variables_are_forwarded_by_name_or_value():
    assert submit.forwarded(["A", "B=2=3"], {"A": "1"}) == {"A": "1", "B": "2=3"}
    with pytest.raises(UserError, match="C=VALUE"):
        submit.forwarded(["C"], {})


def test_a_job_names_the_secrets_that_it_will_look_for(project):
    remote = [
        "reward.geocoder.provider=[opencage,gazetteer]",
        "reward.cache.url=rediss://host:6380/0",
    ]
    keys = ["reward.geocoder.opencage.api_key_env=[KEY_A,KEY_B]"]
    assert (
        submission(project, *remote, *keys)["metadata"]["secrets"] == "KEY_A KEY_B REDIS_PASSWORD"
    )
    assert submission(project)["metadata"]["secrets"] == ""


def test_no_address_is_one_line(monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="--address http://HEAD:8265"):
        submit.client("")


def test_a_closed_port_is_one_short_line():
    with pytest.raises(UserError, match="nothing listens there") as caught:
        submit.client("http://127.0.0.1:9")
    assert len(str(caught.value).split()) < 25


def test_a_server_that_wants_a_token_is_one_short_line(monkeypatch, tmp_path):
    def asked(_address):
        from ray.exceptions import AuthenticationError

        raise AuthenticationError("many words. " * 50)

    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", asked)
    with listen("127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match="RAY_AUTH_TOKEN") as caught:
            submit.client(address)
    assert len(str(caught.value).split()) < 40


def test_paths_are_on_the_storage(tmp_path, monkeypatch):
    monkeypatch.setenv(storage.VARIABLE, str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "runs" / "sft" / "policy").mkdir(parents=True)
    words = [
        "data.manifest=data",
        "policy.model=runs/sft/policy",
        "run.dir=runs/x",
        "judge.model=org/hub-name",
    ]
    config = storage.on_storage(load(None, words))
    assert config.data.manifest == str(tmp_path / "data")
    assert config.policy.model == str(tmp_path / "runs/sft/policy")
    assert config.run.dir == str(tmp_path / "runs/x")
    assert config.judge.model == "org/hub-name" and config.data.eval_manifest == ""
    (tmp_path / "scenes").mkdir()
    assert storage.on_storage(load(None, ["data.manifest=scenes"])).data.manifest == "scenes"
    assert storage.on_storage(load(None, ["data.manifest=scenes"])).run.dir.startswith(
        str(tmp_path / "runs")
    )


def test_a_job_without_storage_needs_an_absolute_run_directory(monkeypatch, tmp_path):
    monkeypatch.delenv(storage.VARIABLE, raising=False)
    monkeypatch.setenv(storage.IN_A_JOB, "{}")
    with pytest.raises(UserError, match="run.dir"):
        storage.on_storage(load(None, ["data.manifest=scenes", "run.dir=runs/x"]))
    assert storage.on_storage(
        load(None, ["data.manifest=scenes", f"run.dir={tmp_path}"])
    ).run.dir == str(tmp_path)


def test_a_clusters_token_is_used_and_not_the_one_of_a_local_ray():
    code = (
        "import os, json, cluster\n"
        "own = dict(os.environ); cluster.use_cluster_token()\n"
        "print(json.dumps([own.get('RAY_AUTH_TOKEN'), os.environ.get('RAY_AUTH_TOKEN'), os.environ['RAY_AUTH_MODE']]))"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    for given in ({}, {"RAY_AUTH_TOKEN": "theirs"}, {"RAY_AUTH_MODE": "disabled"}):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=bare | given)
        own, after, mode = json.loads(done.stdout)
        if not given:
            assert len(own) == 64 and after is None and mode == "token"
        elif "RAY_AUTH_TOKEN" in given:
            assert (own, after, mode) == ("theirs", "theirs", "token")
        else:
            assert (own, after, mode) == (None, None, "disabled")


def test_a_cluster_that_has_just_come_up_is_asked_again(monkeypatch):
    monkeypatch.setattr(submit.time, "sleep", lambda seconds: None)
    answers = iter(
        [
            RuntimeError("No available agent to submit job"),
            "job-1",
            RuntimeError("no such environment"),
        ]
    )

    class Jobs:
        def submit_job(self, entrypoint):
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    assert submit.hand_in(Jobs(), entrypoint="x") == "job-1"
    with pytest.raises(RuntimeError, match="no such environment"):
        submit.hand_in(Jobs(), entrypoint="x")
