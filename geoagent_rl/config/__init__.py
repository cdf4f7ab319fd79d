"""The one configuration: typed sections, filled from a YAML file and dotted overrides.

    values, sections, grpo, reward, services   the keys: type, range, default, meaning, unit
    schema              the whole
    describe            its JSON schema, and each key's
    reading, load       a file and overrides, merged and checked
    packaged            configs/ of the package
    rules, addresses    values that contradict each other; addresses and secrets
    messages            what is said of a wrong key or value
    reference           docs/configuration.md

To add a key, add its line to its section and run
`python -m geoagent_rl.config.reference docs/configuration.md`.
"""

from geoagent_rl.config.describe import flat, json_schema, known_keys
from geoagent_rl.config.grpo import LearnerConfig, RolloutConfig
from geoagent_rl.config.load import load, to_yaml
from geoagent_rl.config.reading import overridden
from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.config.schema import Config
from geoagent_rl.config.sections import (
    DataConfig,
    EvalConfig,
    PlacementConfig,
    PolicyConfig,
    RunConfig,
    ScenesConfig,
    SFTConfig,
)
from geoagent_rl.config.services import JudgeConfig

__all__ = [
    "Config",
    "DataConfig",
    "EvalConfig",
    "JudgeConfig",
    "LearnerConfig",
    "PlacementConfig",
    "PolicyConfig",
    "RewardConfig",
    "RolloutConfig",
    "RunConfig",
    "SFTConfig",
    "ScenesConfig",
    "flat",
    "json_schema",
    "known_keys",
    "load",
    "overridden",
    "to_yaml",
]
