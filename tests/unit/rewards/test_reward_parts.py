"""A built-in reward is one file, one entry of PARTS and its weight; no other list has its name."""

import dataclasses

from geoagent_rl.config.reward import Weights
from geoagent_rl.rewards.parts import PARTS


def test_every_built_in_part_has_a_weight_and_the_other_way_round():
    assert list(PARTS) == [field.name for field in dataclasses.fields(Weights)]
