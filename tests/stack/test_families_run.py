"""Whole runs of the families that the demo does not have: cold start, GRPO and export, on real Ray,
vLLM and DeepSpeed. Rewards are a fake's: the services know nothing of families.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.remote_rollout import RemoteRollout
from cluster.jobs.grpo import reinforce
from cluster.jobs.stages import cold_start
from cluster.launch import Session, Stack, starting_engines
from cluster.placement import reserve
from geoagent_rl.config import Config, load
from geoagent_rl.data.sample import Sample
from geoagent_rl.policy.export import export
from geoagent_rl.policy.families import FAMILIES
from geoagent_rl.policy.model import load_policy
from geoagent_rl.policy.prompt import load_processor, probe_ids
from geoagent_rl.run.directory import RunDir
from geoagent_rl.types import PolicyVersion
from tests.support import tiny_families, tiny_random
from tests.support.driver_fakes import FakeScorer
from tests.support.paths import CONFIGS


class NoServices:
    async def cache_metrics(self) -> dict[str, float]:
        return {}


def settings(base: str, run: RunDir) -> Config:
    sizes = ["rollout.group_size=4", "rollout.prompts_per_step=2", "rollout.max_tokens=12"]
    sizes += ["policy.max_pixels=10000", "policy.lora_rank=8", "rollout.memory=0.1", "steps=2"]
    learning = ["sft.epochs=3", "sft.batch_size=4", "sft.lr=2e-2", "learner.lr=3e-3"]
    where = ["data.manifest=x", f"policy.model={base}", f"run.dir={run.path}"]
    return load(CONFIGS / "local.yaml", [*sizes, *learning, *where])


def photographs(folder: Path) -> list[Sample]:
    pictures = [tiny_random.picture(folder / f"{i}.png", i, (84, 56)) for i in range(4)]
    cot = "<think>A tower.</think><answer>Italy; Tuscany; Pisa</answer>"
    return [Sample(p, p, "Italy", "Tuscany", "Pisa", 43.7, 10.4, cot) for p in pictures]


def probe(checkpoint: Path) -> list[float]:
    """Plain transformers' log-probabilities of the probe."""
    ids = probe_ids(load_processor(str(checkpoint)).tokenizer)
    return load_policy(str(checkpoint)).text_logprobs(ids).tolist()


async def taken_by(engine: RemoteRollout, checkpoint: Path) -> None:
    """vLLM loads it and shows transformers' log-probabilities; InfraError where it does not."""
    await engine.swap(PolicyVersion(9, "checkpoint", str(checkpoint), tuple(probe(checkpoint))))


async def whole_run(config: Config, run: RunDir, base: str, samples: list[Sample]) -> None:
    """Do what the commands sft, train and export do, on a cluster that is there."""
    started = run.path / "policy-sft"
    s = Session(config, run.path.name, run.path, await reserve(config, run.path.name))
    try:
        await cold_start(s, run, base, samples, started)
        async with starting_engines(s, str(started)) as (engines, starting):
            await starting
            stack = Stack(str(started), engines, FakeScorer(), FakeScorer(), NoServices())
            await reinforce(s, stack, run, str(started), samples)
            export(run.path, run.path / "exported")
            for checkpoint in (started, run.path / "exported"):  # the other weights in between
                await taken_by(engines[0].engine, checkpoint)
    finally:
        s.place.release()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [k for k, f in FAMILIES.items() if not f.no_cpu_engine][1:])
async def test_cold_start_two_steps_and_export(kind, ray_local, tmp_path):
    base, run = tiny_families.build(kind, tmp_path / "base"), RunDir(tmp_path / f"run-{kind}")
    config = settings(base, run)
    await whole_run(config, run.begin(config), base, photographs(tmp_path))
    losses = [row["loss"] for row in run.rows("sft_metrics.jsonl")]
    assert len(losses) == 3 and losses[-1] < losses[0]
    steps, answers = run.rows("metrics.jsonl"), run.rows("rollouts.jsonl")
    assert [row["step"] for row in steps] == [1, 2] and len(answers) == 2 * 2 * 4
    assert all(row["grad_norm"] > 0 and not row["step_skipped"] for row in steps)
    assert all(row["sampler_gap"] < 1e-3 and row["staleness_max"] == 0 for row in steps)
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-6) and steps[1]["kl"] > 0
    found = [probe(run.path / name) for name in ("policy", "exported", "policy-sft")]
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert found[1] != pytest.approx(found[2], abs=1e-2)
