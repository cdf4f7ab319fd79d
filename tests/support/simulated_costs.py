"""What the simulated cluster reckons with: configurations on H100s and how long rewards take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geoagent_rl import config as configuration
from geoagent_rl.plan.costs import Costs
from geoagent_rl.plan.gpus import gpu
from geoagent_rl.plan.memory import Lengths
from geoagent_rl.policy.sizes import architecture, judge_architecture
from tests.support.paths import CONFIGS

LENGTHS = Lengths(400.0, 600.0)  # tokens of a prompt and, on average, of a completion


@dataclass(frozen=True)
class Latency:
    """How long reward services take, assumed. judge_s: of a question, None: as the cost model says
    of the configuration's judges."""

    geocode_s: tuple[float, float] = (0.02, 0.0)  # mean and standard deviation
    geocode_at_once: int = 256
    judge_s: float | None = None
    judge_at_once: int = 768


# services at the other end of a network: geocoding 300 +- 200 ms, 1.2 s for a judge's answer
REMOTE = Latency((0.3, 0.2), judge_s=1.2)
FREE = Latency((0.0, 0.0), judge_s=0.0)


def pools_of(prompts: int, staleness: int, steps: int, ranks: int = 4) -> Costs:
    """The cost model of 4 engines and some ranks with GPUs of their own, and judges elsewhere."""
    words = "placement.colocate=false rollout.engines=4 rollout.tensor_parallel=1 "
    words += "rollout.gpus_per_engine=1 rollout.memory=0.7 rollout.swap=adapter "
    words += "learner.gpus_per_rank=1 judge.replicas=1 judge.gpus_per_replica=1"
    asked = {"rollout.prompts_per_step": prompts, "max_staleness": staleness, "steps": steps}
    asked["learner.ranks"] = ranks
    return costs_of(*words.split(), *(f"{key}={value}" for key, value in asked.items()))


def costs_of(*overrides: str, lengths: Lengths = LENGTHS, measured: Path | None = None) -> Costs:
    """The cost model of paper-8x80gb.yaml, with overrides, on H100s."""
    asked = ["data.manifest=x", "placement.gpu=H100", *overrides]
    config = configuration.load(CONFIGS / "paper-8x80gb.yaml", asked)
    policy = architecture(config.policy.architecture or config.policy.model, "policy.model")
    judge = judge_architecture(config.judge.model)
    return Costs(config, policy, judge, gpu(config.placement.gpu, measured), lengths)
