"""A run of the tiny world whose judge was the world's own rule: it concludes what the text argues.

Its answers are texts of erring annotators; nothing was generated, and no engine ran.
"""

from __future__ import annotations

import asyncio

import numpy as np

from geoagent_rl.answers.parse import parse
from geoagent_rl.config import load
from geoagent_rl.rewards.consistency import reasoning_text
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.rewards.services import Services, Verdict
from geoagent_rl.run.directory import RunDir
from geoagent_rl.tiny.judge_examples import HABITS
from geoagent_rl.tiny.scene_text import UNKNOWN, read_scene, write
from geoagent_rl.tiny.scene_world import places, sample_scene
from geoagent_rl.types import Group, Prompt, Rollout, Truth

WORDS = ("reward.weights.spatial=0", "reward.weights.semantic=0", "reward.required=[consistency]")
STEP = 50  # photographs


class Rule:
    """The judge, and the gazetteer's part: two names are one place where they are one text. strict:
    an argument that names a rival settles nothing.
    """

    def __init__(self, strict):
        self.strict = strict
        self.argued = {}  # by reasoning

    def texts(self, scene, n, rng):
        for _ in range(n):
            stages = read_scene(scene, HABITS, rng)
            text = "".join(write(stages, rng))
            for stage, read in zip(stages, parse(text).stages, strict=True):
                text_read = reasoning_text(read)
                open_ = self.strict and stage.rival in text_read
                self.argued[text_read] = UNKNOWN if open_ else stage.argued
            yield text

    async def judge(self, items):
        return [Verdict(self.argued[item.reasoning], 0.1, "rule") for item in items]

    async def same_place(self, pairs):
        return [False for _ in pairs]


def record(folder, photographs, answers=4, seed=1, words=(), strict=False):
    """Write a run directory with so many photographs and answers to each; return it."""
    config = load(None, ["data.manifest=scenes", f"run.dir={folder}", *WORDS, *words])
    run, rule, rng = RunDir(folder).begin(config), Rule(strict), np.random.default_rng([seed, 5])
    scorer, pool = Scorer(Services(None, rule, rule), config.reward), places()

    async def group(number):
        scene = sample_scene(rng, pool)
        prompt = Prompt(f"photo{number}", "/none.jpg", Truth(*scene.place.levels, 0.0, 0.0))
        rollouts = [
            Rollout(prompt.uid, i, (1,), (2,), (-0.1,), text, "stop", 0)
            for i, text in enumerate(rule.texts(scene, answers, rng))
        ]
        samples = [await scorer.score(prompt, rollout) for rollout in rollouts]
        return Group(prompt, tuple(samples), (0.0,) * answers)

    for step, start in enumerate(range(0, photographs, STEP), 1):
        numbers = range(start, min(start + STEP, photographs))
        run.record_step({"step": step}, [asyncio.run(group(i)) for i in numbers])
    return folder
