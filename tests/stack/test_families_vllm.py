"""vLLM's CPU build and each family of policies: its log-probabilities are the learner's, before and
after a swap of weights. (Qwen2.5-VL: test_rollout.py and test_export_vllm.py.)"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from actors.publishing import published
from actors.rollout import RolloutEngine
from geoagent_rl.config import Config
from geoagent_rl.data.images import open_image
from geoagent_rl.grpo.batching import collate, own_rows
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.policy.families import FAMILIES
from geoagent_rl.policy.model import Policy, everything_here, load_policy
from geoagent_rl.policy.prompt import banned_ids, encode, end_id, load_processor, probe_ids
from geoagent_rl.types import PolicyVersion, Prompt, Sampling, Truth, UserError
from tests.support import tiny_families, tiny_random

PIXELS = 10_000
UNSHARDED = SimpleNamespace(gather=everything_here)


def settings() -> Config:
    c = Config()
    c.policy.max_pixels, c.rollout.swap, c.rollout.max_tokens = PIXELS, "adapter", 24
    c.rollout.max_model_len, c.rollout.memory, c.rollout.timeout_s = 512, 0.1, 120
    c.policy.lora_rank, c.rollout.temperature = 8, 0.7
    return c


def our_logprobs(policy: Policy, processor, rollout, image: str) -> torch.Tensor:
    """The learner's log-probabilities of a rollout at temperature 0.7."""
    prompt = encode(processor, open_image(image), "tiny", PIXELS)
    assert prompt.ids == rollout.prompt_ids
    sample = TrainSample(rollout.uid, image, rollout.prompt_ids, rollout.completion_ids)
    rows, pad = own_rows([sample]), processor.tokenizer.pad_token_id
    batch = collate(rows, [image], policy.network.config.image_token_id, pad)
    features = policy.image_features(prompt.pixel_values, prompt.image_grid_thw)
    positions = policy.position_ids(batch, prompt.image_grid_thw)
    banned = torch.tensor(banned_ids(processor))
    mask = policy.mask(batch, positions)
    return policy(batch, features, positions, 0.7, banned, mask)[0][0].detach()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", [k for k, f in FAMILIES.items() if not f.no_cpu_engine][1:])
async def test_the_engines_logprobs_are_the_learners_before_and_after_swaps(kind, tmp_path):
    """Of the base, of an adapter beside it, of the same merged into it."""
    base = tiny_families.build(kind, tmp_path / "base")
    policy, processor = load_policy(base, lora=(8, 16)), load_processor(base)
    asked = tiny_random.picture(tmp_path / "a.png", 1, (140, 60))
    engine = RolloutEngine(settings(), base)
    try:
        await engine.start()
        await compare(engine, policy, processor, asked)
        for name, p in policy.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(p.data, 0, 0.1)
        probe = tuple(policy.text_logprobs(probe_ids(processor.tokenizer)).tolist())
        files, digest = published(policy, UNSHARDED, engine.config, write=True)
        await engine.swap(PolicyVersion(1, "adapter", "", probe, digest, files))
        await compare(engine, policy, processor, asked)
        engine.config.rollout.swap = "merged"  # the other way, in the same engine
        await engine.swap(PolicyVersion(0, "checkpoint", base))
        await engine.weights.begin(engine.engine)
        await engine.swap(PolicyVersion(2, "adapter", "", probe, digest, files))
        await compare(engine, policy, processor, asked)
    finally:
        await engine.stop()


async def compare(engine: RolloutEngine, policy: Policy, processor, picture: str) -> None:
    """Four completions by the engine, replayed by the learner's code."""
    prompt = Prompt("a", picture, Truth("", "", "", 0.0, 0.0))
    async for rollout in engine.generate(prompt, Sampling(4, 0)):
        ours = our_logprobs(policy, processor, rollout, picture)
        torch.testing.assert_close(torch.tensor(rollout.logprobs), ours, rtol=0, atol=2e-3)
        assert not set(rollout.completion_ids) & set(banned_ids(processor))
        assert end_id(processor) not in rollout.completion_ids[:-1]


async def test_a_family_that_the_cpu_engine_computes_otherwise_is_refused(tmp_path):
    base = tiny_families.build("gemma3", tmp_path)
    with pytest.raises(UserError, match="Gemma 3 cannot generate on CPUs"):
        await RolloutEngine(settings(), base).start()
