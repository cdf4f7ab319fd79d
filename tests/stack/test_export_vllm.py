"""An exported checkpoint in vLLM: the tokens and log-probabilities of base + adapter in the
learner's own code.
"""

from __future__ import annotations

import json

import pytest
import torch

from actors.rollout import RolloutEngine
from geoagent_rl.config import Config
from geoagent_rl.data.images import open_image
from geoagent_rl.grpo.batching import collate, own_rows
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.policy.export import export
from geoagent_rl.policy.generate import generate
from geoagent_rl.policy.model import Policy, adapter_state, load_network, load_policy, save_adapter
from geoagent_rl.policy.prompt import banned_ids, encode, load_processor
from geoagent_rl.types import Prompt, Sampling, Truth
from tests.support import tiny_random


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(policy with an adapter that matters, exported directory, prompts)."""
    folder = tmp_path_factory.mktemp("export")
    base = tiny_random.build(folder / "base", hidden=64)
    policy = load_policy(base, lora=(4, 12))
    with torch.no_grad():
        for name, p in policy.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.2, generator=torch.Generator().manual_seed(len(name)))
    save_adapter(policy, adapter_state(policy), folder / "checkpoint" / "adapter")
    (folder / "checkpoint" / "state.json").write_text(
        json.dumps({"base": base, "dtype": "float32"})
    )
    export(folder / "checkpoint", folder / "out")
    nowhere = Truth("", "", "", 0.0, 0.0)
    pictures = [
        tiny_random.picture(folder / f"{i}.png", i, size)
        for i, size in enumerate([(84, 84), (60, 90)])
    ]
    return (
        policy,
        str(folder / "out"),
        [Prompt(str(i), picture, nowhere) for i, picture in enumerate(pictures)],
    )


def our_logprobs(policy: Policy, processor, rollout, image: str) -> torch.Tensor:
    """The learner's log-probabilities of a rollout at temperature 0.7."""
    prompt = encode(processor, open_image(image), "tiny", 84 * 84)
    sample = TrainSample(rollout.uid, image, rollout.prompt_ids, rollout.completion_ids)
    config = policy.network.config
    rows, pad = own_rows([sample]), processor.tokenizer.pad_token_id
    batch = collate(rows, [image], config.image_token_id, pad)
    features = policy.image_features(prompt.pixel_values, prompt.image_grid_thw)
    positions = policy.position_ids(batch, prompt.image_grid_thw)
    banned = torch.tensor(banned_ids(processor))
    return policy(batch, features, positions, 0.7, banned)[0][0].detach()


@pytest.mark.timeout(240)
async def test_vllm_and_transformers_answer_alike_from_an_exported_checkpoint(place):
    policy, exported, prompts = place
    processor = load_processor(exported)
    c = Config()
    c.policy.max_pixels, c.rollout.swap, c.rollout.max_tokens = 84 * 84, "merged", 24
    c.rollout.max_model_len, c.rollout.memory, c.rollout.timeout_s = 512, 0.1, 120
    engine = RolloutEngine(c, exported)
    try:
        await engine.start()
        for prompt in prompts:
            (greedy,) = [r async for r in engine.generate(prompt, Sampling(1, 0, temperature=0))]
            picture, asked = open_image(prompt.image), {"max_tokens": 24, "max_pixels": 84 * 84}
            plain = generate(Policy(load_network(exported)), processor, picture, "tiny", **asked)
            assert greedy.text == plain == generate(policy, processor, picture, "tiny", **asked)
            policy.train()
            async for rollout in engine.generate(prompt, Sampling(4, 1)):
                ours = our_logprobs(policy, processor, rollout, prompt.image)
                torch.testing.assert_close(torch.tensor(rollout.logprobs), ours, rtol=0, atol=1e-3)
            with policy.adapter_off():
                assert (
                    our_logprobs(policy, processor, rollout, prompt.image) - ours
                ).abs().max() > 0.01
    finally:
        await engine.stop()
