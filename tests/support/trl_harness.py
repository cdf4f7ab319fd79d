"""TRL's trainer on our tiny random Qwen2.5-VL, for tests that compare with it: its inputs, its
methods, gradients.
"""

from __future__ import annotations

import warnings

import torch
import trl
from datasets import Dataset
from PIL import Image

from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.policy.model import load_policy
from geoagent_rl.policy.prompt import encode, load_processor
from geoagent_rl.policy.rows import visible

warnings.filterwarnings("ignore", module="trl|transformers|torch")
SIZES = [(84, 84), (140, 56), (60, 90)]  # different grids, so prompts differ in length
MAX_TOKENS = 12


def trained_policy(directory: str):
    """(policy with an adapter that does something, processor) of a checkpoint."""
    policy = load_policy(directory, lora=(8, 16))
    with torch.no_grad():  # B = 0 would hide half of the gradient
        for name, p in policy.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    return policy, load_processor(directory)


def trainer(policy, rewards, tmp_path, **settings):
    """TRL's trainer on our model; groups of 4, nothing reported or saved."""
    network, processor = policy
    config = trl.GRPOConfig(
        output_dir=str(tmp_path),
        num_generations=4,
        max_completion_length=MAX_TOKENS,
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        # The paper has the plain k3 term; TRL by default weighs it by the ratio.
        **{
            "beta": 0.0,
            "use_bias_correction_kl": False,
            "per_device_train_batch_size": 4,
            **settings,
        },
    )
    return trl.GRPOTrainer(
        model=network.model,
        reward_funcs=rewards,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["where?"] * 8}),
        processing_class=processor.own,
    )


def sampled(oracle, completions, sampler=None):
    """What TRL makes of these completions: its generation is replaced, all that follows it is
    TRL's.
    """
    prompts = [[5, 6, 7]] * len(completions)
    oracle._generate = lambda _: (
        prompts,
        completions,
        None,
        [""] * len(completions),
        sampler,
        {},
        None,
        None,
    )
    return oracle._generate_and_score_completions([{"prompt": "where?"}] * len(completions))


def samples(processor, seed: int) -> tuple[list[TrainSample], dict]:
    """Four sequences over three pictures of different sizes, with random completions, advantages
    and old log-probs.
    """
    generator = torch.Generator().manual_seed(seed)
    pictures = {
        str(i): encode(processor, noise(i, size), "tiny", 10_000) for i, size in enumerate(SIZES)
    }
    out = []
    for i in range(4):
        n = int(torch.randint(1, MAX_TOKENS + 1, (1,), generator=generator))
        ids = torch.randint(0, 256, (n,), generator=generator).tolist()
        old = (-5 + torch.randn(n, generator=generator)).tolist()
        advantage = float(torch.randn((), generator=generator))
        image = str(i % len(SIZES))
        out.append(
            TrainSample(str(i), image, pictures[image].ids, tuple(ids), advantage, tuple(old))
        )
    return out, pictures


def noise(seed: int, size: tuple[int, int]) -> Image.Image:
    pixels = torch.randint(
        0,
        256,
        (size[1], size[0], 3),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(seed),
    )
    return Image.fromarray(pixels.numpy())


def trl_inputs(batch, rows, pictures, image_token: int, pad: int) -> dict:
    """The same sequences as TRL wants them: prompts padded on the left, completions on the
    right.
    """
    longest = max(len(s.prompt_ids) for s in rows)
    prompts = torch.tensor(
        [[pad] * (longest - len(s.prompt_ids)) + list(s.prompt_ids) for s in rows]
    )
    mask = torch.tensor(
        [[0] * (longest - len(s.prompt_ids)) + [1] * len(s.prompt_ids) for s in rows]
    )
    completion_mask = batch.completion_mask.long()
    types = torch.cat([(prompts == image_token).long(), torch.zeros_like(completion_mask)], dim=1)
    return {
        "prompt_ids": prompts,
        "prompt_mask": mask,
        "completion_ids": torch.where(batch.completion_mask, batch.targets, pad),
        "completion_mask": completion_mask,
        "mm_token_type_ids": types,
        "advantages": batch.advantages,
        "num_items_in_batch": completion_mask.sum(),
        "pixel_values": torch.cat([pictures[s.image].pixel_values for s in rows]),
        "image_grid_thw": torch.cat([pictures[s.image].image_grid_thw for s in rows]),
        "num_images": [1] * len(rows),
    }


def forward(policy, batch, pictures, temperature, reference=False, banned=None):
    grids = torch.cat([p.image_grid_thw for p in pictures.values()])
    features = policy.image_features(torch.cat([p.pixel_values for p in pictures.values()]), grids)
    mask = visible(batch, policy.network.dtype)
    positions = policy.position_ids(batch, grids)
    return policy(batch, features, positions, temperature, banned, mask, reference)


def gradients(policy) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad()
    return found


def compare(ours, theirs):
    assert ours.keys() == theirs.keys() and len(ours) > 20
    largest = max(float(g.abs().max()) for g in theirs.values())
    assert largest > 0
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=name)


def their_logprobs(oracle, inputs) -> torch.Tensor:
    """TRL's own log-probabilities of the completions, [B, T]."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    pictures = {
        k: inputs[k] for k in ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")
    }
    longest = inputs["completion_ids"].shape[1]
    with torch.no_grad():
        return oracle._get_per_token_logps_and_entropies(
            oracle.model, ids, attention, longest, **pictures
        )[0]
