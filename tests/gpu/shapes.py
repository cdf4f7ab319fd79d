"""The published shapes that the GPU scripts take, by the name on the command line."""

from __future__ import annotations

from geoagent_rl.policy.architecture import Architecture
from geoagent_rl.policy.sizes import PUBLISHED

SHAPES = {"3B": "Qwen2.5-VL-3B", "7B": "Qwen2.5-VL-7B", "tiny": "tiny-policy"}


def shape_of(name: str) -> Architecture:
    return PUBLISHED[SHAPES[name]]
