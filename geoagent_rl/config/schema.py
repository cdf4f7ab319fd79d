"""The whole configuration: every section under its name."""

from __future__ import annotations

from dataclasses import field

from pydantic.dataclasses import dataclass

from geoagent_rl.config.grpo import LearnerConfig, RolloutConfig
from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.config.sections import (
    CurriculumConfig,
    DataConfig,
    EvalConfig,
    PlacementConfig,
    PolicyConfig,
    RunConfig,
    ScenesConfig,
    SFTConfig,
)
from geoagent_rl.config.services import JudgeConfig
from geoagent_rl.config.values import RULES, Count, Natural, key


@dataclass(config=RULES)
class Config:
    """Everything a run needs. See configs/*.yaml for complete examples."""

    steps: Count = key(100, "Optimizer steps of GRPO.", "steps")
    max_staleness: Natural = key(
        0,
        "Samples may come from weights that are so many steps old. 0: exactly on-policy.",
        "steps",
    )
    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    sft: SFTConfig = field(default_factory=SFTConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
