"""`geoagent-rl plan`: its constants against what they stand for, its arithmetic, its verdicts, and
that it is quick.
"""

import json
import statistics
import subprocess
import sys

import pytest

from geoagent_rl.config import load
from geoagent_rl.plan.estimate import PROMPT_CHARS, SCENES_COT_CHARS, make_plan
from geoagent_rl.plan.memory import GIB
from geoagent_rl.plan.text import show
from geoagent_rl.policy.prompt import QUESTION, SYSTEM_PROMPTS
from geoagent_rl.tiny.scene_text import cot
from geoagent_rl.tiny.scenes import ANNOTATORS, scene_at
from geoagent_rl.types import UserError
from tests.support.paths import CONFIGS


def planned(name, *overrides, **options):
    return make_plan(load(CONFIGS / f"{name}.yaml", overrides), **options)


def row(plan, role):
    return next(row for row in plan["roles"] if row["role"] == role)


def test_constants_are_what_they_stand_for():
    for name, text in SYSTEM_PROMPTS.items():
        assert PROMPT_CHARS[name] == pytest.approx(len(text) + len(QUESTION), rel=0.2)
    texts = [
        cot(scene, ANNOTATORS, rng) for scene, rng in (scene_at("train", 0, i) for i in range(60))
    ]
    assert SCENES_COT_CHARS == pytest.approx(statistics.fmean(map(len, texts)), rel=0.2)


def test_every_configuration_can_be_planned_and_fits():
    for file in CONFIGS.glob("*.yaml"):
        plan = planned(file.stem)
        assert all(row.get("fits") is not False for row in plan["roles"]), file
        assert show(plan)
    paper = planned("paper")
    assert paper["step"]["completions"] == 64 and paper["epoch"]["steps"] == 2500
    assert paper["epoch"]["completions"] == 160_000


def test_what_does_not_fit_is_said():
    plan = planned("paper", "policy.architecture=Qwen2.5-VL-72B")
    assert (
        row(plan, "learner rank")["fits"] is False and row(plan, "rollout engine")["fits"] is False
    )
    assert any("learner rank" in text for text in plan["warnings"]) and "warning: " in show(plan)
    sharded = planned(
        "paper", "policy.architecture=Qwen2.5-VL-72B", "learner.zero_stage=3", "placement.gpu=H100"
    )
    assert row(sharded, "learner rank")["memory"]["weights"] == pytest.approx(
        73.41e9 * 2 / 4, rel=0.01
    )


def test_engines_without_work_are_said():
    idle = planned("paper", "rollout.engines=20", "max_staleness=1")["warnings"]
    assert any(
        "4 of 20 rollout engines have nothing to do: at most 16 prompts" in text for text in idle
    )
    assert not planned("paper", "rollout.engines=16", "max_staleness=1")["warnings"]


def test_tensor_parallel_and_zero_divide_what_they_should():
    shared = ("policy.architecture=Qwen2.5-VL-32B", "placement.gpu=H200", "learner.zero_stage=1")
    one = planned("paper", *shared)
    two = planned(
        "paper", *shared,
        "rollout.tensor_parallel=2", "rollout.gpus_per_engine=2", "learner.ranks=8",
    )  # fmt: skip
    a, b = row(one, "rollout engine")["memory"], row(two, "rollout engine")["memory"]
    assert b["weights"] == a["weights"] / 2 and b["cache_tokens"] > 2 * a["cache_tokens"]
    assert (
        row(two, "learner rank")["memory"]["optimizer"]
        == row(one, "learner rank")["memory"]["optimizer"] / 2
    )


def test_a_geocoders_limit_shows_as_the_critical_resource_with_its_price():
    trial = [f"reward.geocoder.opencage.{s}" for s in ("rate_per_s=1", "daily_budget=2500")]
    price = "reward.geocoder.opencage.usd_per_1000=0.5"
    opencage = ["reward.geocoder.provider=opencage", price, *trial]
    plan = planned("paper", *opencage, cache_hits=0.0)
    assert plan["time"]["critical"] == "geocoder" and plan["time"]["seconds"]["geocoder"] == 64
    assert plan["geocoding"]["opencage_usd"] == pytest.approx(160_000 * 0.5 / 1000)
    assert plan["geocoding"]["days_by_budget"] == pytest.approx(64)
    assert any("GPUs wait" in text for text in plan["warnings"])
    quicker = planned("paper", *opencage, "reward.geocoder.opencage.rate_per_s=15", cache_hits=0.8)
    assert quicker["time"]["critical"] == "rollout"


def test_staleness_overlaps_the_parts():
    exact, stale = planned("paper"), planned("paper", "max_staleness=1")
    assert (
        stale["time"]["step_seconds"]
        == max(stale["time"]["seconds"].values())
        < exact["time"]["step_seconds"]
    )


def test_a_manifest_tells_lengths_and_epoch(tmp_path):
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(
        "".join(json.dumps({"uid": str(i), "cot": "x" * 420}) + "\n" for i in range(40))
    )
    plan = planned("paper", f"sft.manifest={manifest}", f"data.manifest={manifest}")
    assert plan["lengths"]["completion_tokens"] == 100 and plan["epoch"]["prompts"] == 40
    assert planned("paper", completion_tokens=321)["lengths"]["completion_tokens"] == 321


def test_mistakes_are_one_line():
    with pytest.raises(UserError, match="placement.gpu"):
        planned("paper", "placement.gpu=TPU")
    with pytest.raises(UserError, match="policy.model=x"):
        planned("paper", "policy.model=x", "policy.architecture=''")


def test_the_command_needs_neither_ray_nor_torch():
    code = (
        "import sys; from cluster.cli.main import main; sys.argv = ['x', 'plan', '--config', sys.argv[1], '--json']\n"
        "try: main()\n"
        "finally: print([m for m in ('ray', 'torch', 'vllm', 'transformers') if m in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, str(CONFIGS / "paper.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CONFIGS.parent, timeout=25)
    assert done.stderr.splitlines()[-1] == "[]"
    assert row(json.loads(done.stdout), "rollout engine")["total"] < 48 * GIB


@pytest.mark.parametrize("name", ["paper-8x80gb", "paper-4x80gb"])
def test_the_other_layout_that_is_named_fits_and_takes_what_is_said(name):
    plan = planned(name, nodes="")
    other = plan["other_layout"]
    tried = planned(name, *other["values"], nodes=f"1x{name[6]}")
    assert tried["time"]["step_seconds"] == pytest.approx(other["step_seconds"])
    assert tried["gpus"]["fits"] and all(row["fits"] for row in tried["roles"] if row["gpus"])
    assert plan["time"]["step_seconds"] < other["step_seconds"]
    assert tried["other_layout"]["step_seconds"] < tried["time"]["step_seconds"]
    assert "quicker: colocated" in show(plan) and "quicker: colocated" in show(tried)


def test_a_layout_that_does_not_fit_is_not_proposed():
    assert planned("paper")["other_layout"] is None  # engine, rank and judge on 44.5 GiB
    assert planned("paper", "max_staleness=1")["other_layout"] is None


def test_a_judge_on_cpus_takes_no_gpu_in_either_layout_and_its_time_is_said_to_be_unknown():
    plan = planned("paper-8x80gb", "judge.gpus_per_replica=0", nodes="")
    assert "judge.gpus_per_replica=0" in plan["other_layout"]["values"]
    assert any("judges on CPUs" in warning for warning in plan["warnings"])
    assert not any("judges on CPUs" in warning for warning in planned("paper-8x80gb")["warnings"])


def test_the_terms_add_up_to_the_step():
    time = planned("paper-8x80gb")["time"]
    assert sum(time["terms"].values()) == pytest.approx(time["step_seconds"])
    assert min(time["terms"].values()) >= 0 and time["terms"]["decode"] > 0
