"""A training phase as its optimizer sees it: its length and the learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from geoagent_rl.config import Config
from geoagent_rl.config.values import Decay


@dataclass(frozen=True, slots=True)
class Phase:
    """Step II or III as the optimizer sees it: linear warm-up, then linear or cosine decay.

    warmup: number of steps, or below 1 a share of all steps. lr_end: the last step's rate as a
    share of `lr` (1.0: constant after the warm-up)."""

    kind: str  # "sft" or "grpo"
    steps: int
    lr: float
    warmup: float
    lr_end: float
    betas: tuple[float, float]
    decay: Decay = "linear"

    def rate(self, step: int) -> float:
        """Return the learning rate of `step`, counted from 0; the first step already learns."""
        rising = round(self.warmup * self.steps) if self.warmup < 1 else round(self.warmup)
        if step < rising:
            return self.lr * (step + 1) / rising
        progress = min(1.0, (step - rising) / max(1, self.steps - 1 - rising))
        if self.decay == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.lr * (1 + (self.lr_end - 1) * progress)


def grpo_phase(config: Config) -> Phase:
    """Return the phase of Step III."""
    c = config.learner
    return Phase("grpo", config.steps, c.lr, c.warmup_steps, c.lr_end, c.betas, c.lr_decay)


def sft_phase(config: Config, steps: int) -> Phase:
    """Return the phase of Step II. steps: see sft.sft_steps."""
    c = config.sft
    return Phase("sft", steps, c.lr, c.warmup_steps, c.lr_end, c.betas, c.lr_decay)
