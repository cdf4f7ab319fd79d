"""Groups of random rollouts on a tiny random policy, and a configuration, for tests of the
learner.
"""

from __future__ import annotations

import functools

import torch

from geoagent_rl.config import Config
from geoagent_rl.data.images import open_image
from geoagent_rl.grpo.advantages import group_advantages
from geoagent_rl.policy.prompt import encode, load_processor
from geoagent_rl.types import Group, Outcome, Prompt, Rollout, ScoredRollout, Truth

Place = tuple[str, list[str]]  # checkpoint directory, three pictures


def config(**learner) -> Config:
    c = Config(steps=10)
    c.rollout.swap, c.rollout.max_tokens, c.policy.lora_rank, c.policy.lora_alpha = (
        "merged",
        24,
        8,
        16,
    )
    c.learner.lr, c.learner.kl_beta, c.learner.timeout_s = 3e-3, 0.05, 120.0
    for name, value in learner.items():
        setattr(c.learner, name, value)
    return c


@functools.cache
def prompt_ids(model: str, image: str) -> tuple[int, ...]:
    return encode(load_processor(model), open_image(image), "tiny", 200_000).ids


def group(place: Place, index: int, version: int, unscorable: int | None = None) -> Group:
    """Five random completions of picture `index`; the one numbered `unscorable` has no reward."""
    model, pictures = place
    generator = torch.Generator().manual_seed(index)
    ids, samples = prompt_ids(model, pictures[index]), []
    for i in range(5):
        n = int(torch.randint(3, 20, (1,), generator=generator))
        completion = tuple(torch.randint(0, 256, (n,), generator=generator).tolist())
        rollout = Rollout(str(index), i, ids, completion, (-5.0,) * n, "", "stop", version)
        total = None if i == unscorable else float(torch.rand((), generator=generator))
        parts = {"spatial": Outcome("infra", None)} if total is None else {}
        samples.append(ScoredRollout(rollout, parts, total))
    prompt = Prompt(str(index), pictures[index], Truth("", "", "", 0.0, 0.0))
    return Group(prompt, tuple(samples), tuple(group_advantages([s.total for s in samples])))


def run(learner, place: Place, steps: int, unscorable: int | None = None) -> list[dict]:
    """The metrics of some steps of three groups each; group 1 has the unscorable sample."""
    rows = []
    for _ in range(steps):
        for index in range(3):
            learner.accumulate(
                group(place, index, learner.version.number, unscorable if index == 1 else None)
            )
        rows.append(learner.step()[1])
    return rows


def gap(a, b) -> float:
    """Largest difference of two versions' probes."""
    return max(abs(x - y) for x, y in zip(a.probe_logprobs, b.probe_logprobs, strict=True))
