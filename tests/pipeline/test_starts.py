"""Lock, then checks, then writes: a start that is refused leaves every file as it was.

The real commands up to where Ray would be started, which no refused start reaches."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import cluster.jobs.evaluate
import cluster.jobs.train
from cluster.jobs.evaluate import run_eval_job
from cluster.jobs.train import run_sft_job, run_train_job
from geoagent_rl.config import load
from geoagent_rl.run import checkpoints
from geoagent_rl.run.directory import MARK, RunDir
from geoagent_rl.run.origin import origin_of, weights_digest
from geoagent_rl.types import UserError

HOLD = """
import sys
from geoagent_rl.run.directory import RunDir
with RunDir(sys.argv[1]).exclusive():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    def reached(work):
        work.close()
        raise AssertionError("a refused start reached Ray")

    for module in (cluster.jobs.train, cluster.jobs.evaluate):
        monkeypatch.setattr(module, "run_until_done", reached)


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = ["image,lat,lon"]
    for i in range(4):
        Image.new("RGB", (32, 24), (60 * i, 90, 30)).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{i},{i}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    return folder


def config_of(photos, run, *overrides):
    words = [f"data.manifest={photos}", f"run.dir={run}", f"policy.model={photos.parent / 'model'}"]
    return load(None, [*words, *overrides])


def files_below(folder: Path) -> dict[str, bytes]:
    """All but the lock, which holds nothing."""
    found = {p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def refused(match, job, *words):
    with pytest.raises(UserError, match=match) as caught:
        job(*words)
    assert "\n" not in str(caught.value)


def begun(config, step=2, seed=0, taken=None) -> RunDir:
    """A run with records and a checkpoint of `step`."""
    run = RunDir(config.run.dir).begin(config)
    run.append("metrics.jsonl", ({"step": i} for i in range(1, step + 1)))
    samples = cluster.jobs.train.dataset(config, run, config.data.manifest, "train")
    origin = origin_of([x.prompt() for x in samples], seed)
    notes = {"prompts": taken or step, "origin": origin}
    checkpoints.write_whole(run.checkpoint(step), lambda out: None, notes)
    return run


JOBS = {
    "train": lambda config: run_train_job(config, False),
    "sft": run_sft_job,
    "eval": lambda config: run_eval_job(config, "", judge=False),
}
BAD = {
    "no manifest": (["data.manifest=/nope"], "no manifest /nope"),
    "no model": (["policy.model=/nope"], "no checkpoint /nope"),
    "scenes, no model": (["data.manifest=scenes", "policy.model=/nope"], "no checkpoint"),
    "no held-out manifest": (["data.eval_manifest=/nope"], "no manifest /nope"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("job", ["train", "sft", "eval"])
def test_a_start_that_fails_leaves_nothing(photos, tmp_path, case, job):
    words, match = BAD[case]
    if case == "no held-out manifest" and job == "sft":
        pytest.skip("SFT looks at no held-out photographs")
    words = [f"data.eval_manifest={photos}", *words] if job == "eval" else words
    if case == "no manifest" and job == "eval":
        words = ["data.eval_manifest=/nope"]
    config = config_of(photos, tmp_path / "new" / "run", *words)
    refused(match, JOBS[job], config)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("key", ["policy.model", "data.manifest", "judge.model"])
def test_a_run_never_writes_where_it_reads(photos, tmp_path, key):
    """GRPO from RUN/policy into RUN is how weights once were merged onto themselves."""
    run = tmp_path / "sft"
    for name in ("policy", "photos"):
        (run / name).mkdir(parents=True)
    (run / "policy" / "config.json").write_text("{}")
    value = run / ("photos" if key == "data.manifest" else "policy")
    before = files_below(tmp_path)
    config = config_of(photos, run, f"{key}={value}")
    refused(f"{key}: .* lies in the run's own directory", run_train_job, config, False)
    assert files_below(tmp_path) == before


def test_a_run_of_another_kind_is_not_written_over(photos, tmp_path):
    config = config_of(photos, tmp_path / "run", f"data.eval_manifest={photos}")
    run = RunDir(config.run.dir).begin(config)
    run.append("sft_metrics.jsonl", [{"step": 1}])
    (run.path / "policy").mkdir()
    (run.path / "policy" / "model.safetensors").write_bytes(b"weights")
    before = files_below(tmp_path)
    for job in JOBS.values():
        refused("already holds a run", job, config)
    refused("another kind of run", run_train_job, config, True)
    assert files_below(tmp_path) == before


def test_a_configuration_of_the_users_is_never_replaced(photos, tmp_path):
    folder = tmp_path / "exp1"
    folder.mkdir()
    (folder / "config.yaml").write_text("# mine\nsteps: 3\n")
    before = files_below(tmp_path)
    refused("is not of a run", run_train_job, config_of(photos, folder), False)
    refused("nothing to resume", run_train_job, config_of(photos, folder), True)
    assert files_below(tmp_path) == before


def test_a_second_process_changes_nothing(photos, tmp_path):
    run = begun(config_of(photos, tmp_path / "run"))
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout.readline() == "held\n"
        before = files_below(tmp_path)
        config = config_of(photos, run.path, "learner.lr=9")
        for resume in (True, False):
            refused("another process", run_train_job, config, resume)
        assert files_below(tmp_path) == before
    finally:
        other.kill()
        other.communicate()


def test_a_resume_that_is_refused_changes_nothing(photos, tmp_path):
    run = begun(config_of(photos, tmp_path / "run"))
    before = files_below(tmp_path)
    for word, match in (("data.manifest=/nope", "no manifest"), ("policy.model=/nope", "no check")):
        config = config_of(photos, run.path, word, "learner.lr=9")
        refused(match, run_train_job, config, True)
    assert files_below(tmp_path) == before


def test_other_photographs_are_refused_unless_told(photos, tmp_path, capsys):
    run = begun(config_of(photos, tmp_path / "run"))
    config = config_of(photos, run.path)
    (photos / "2.png").unlink()
    before = files_below(tmp_path)
    refused("shown again and others never", run_train_job, config, True)
    assert files_below(tmp_path) == before
    with pytest.raises(AssertionError, match="reached Ray"):
        run_train_job(config, True, accept=True)


@pytest.mark.parametrize("kept", ["digest", "directory"])
def test_other_base_weights_are_refused_before_anything_changes(photos, tmp_path, kept):
    """A version that kept no digests named the directory; a later one may make another "tiny"."""
    base, weights = photos.parent / "model", photos.parent / "model" / "model.safetensors"
    weights.write_bytes(b"these")
    config = config_of(photos, tmp_path / "run")
    run = begun(config)
    newest = checkpoints.newest_state(run.path / "checkpoints")
    digest = {"origin": newest["origin"] | {"base": weights_digest(base)}}
    checkpoints.write_whole(
        run.checkpoint(3),
        lambda out: None,
        newest | (digest if kept == "digest" else {"base": str(base)}),
    )
    with pytest.raises(AssertionError, match="reached Ray"):
        run_train_job(config, True)
    if kept == "directory":
        (tmp_path / "other").mkdir()
        base.rename(tmp_path / "gone")
        (tmp_path / "other" / "config.json").write_text("{}")
        config = config_of(photos, run.path, f"policy.model={tmp_path / 'other'}")
    else:
        weights.write_bytes(b"those")
    before = files_below(tmp_path)
    refused("adapter belongs to others", run_train_job, config, True)
    assert files_below(tmp_path) == before
    with pytest.raises(AssertionError, match="reached Ray"):
        run_train_job(config, True, accept=True)


def test_another_seed_shuffles_anew_and_is_refused(photos, tmp_path):
    run = begun(config_of(photos, tmp_path / "run"))
    refused("run.seed", run_train_job, config_of(photos, run.path, "run.seed=7"), True)


def test_overrides_are_named_and_kept_once_all_checks_have_passed(photos, tmp_path, capsys):
    run = begun(config_of(photos, tmp_path / "run"))
    with pytest.raises(AssertionError, match="reached Ray"):
        run_train_job(config_of(photos, run.path, "learner.lr=0.5"), True)
    assert "learner.lr: 1e-05 -> 0.5" in capsys.readouterr().err
    text = (run.path / "config.yaml").read_text()
    assert text.startswith(MARK) and re.search(r"lr: 0\.5", text)


def test_a_run_at_its_end_has_nothing_left(photos, tmp_path, capsys):
    config = config_of(photos, tmp_path / "run", "steps=2")
    run = begun(config)
    (run.path / "policy").mkdir()
    run.finish(2)
    before = files_below(tmp_path)
    run_train_job(config, True)
    assert "nothing is left" in capsys.readouterr().err
    assert files_below(tmp_path) == before
    with pytest.raises(AssertionError, match="reached Ray"):  # more steps are something
        run_train_job(config_of(photos, run.path, "steps=3"), True)
