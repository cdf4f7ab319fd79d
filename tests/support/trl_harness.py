"""TRL's trainer on our tiny random policies, for tests that compare with it: its inputs, its
methods, gradients.
"""

from __future__ import annotations

import warnings

import pytest
import torch
import trl
from datasets import Dataset
from PIL import Image

from geoagent_rl.grpo.batching import Layout, collate, micro_batches, own_rows
from geoagent_rl.grpo.loss import normaliser, policy_losses, unnormalised_loss
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.policy.model import load_policy
from geoagent_rl.policy.prompt import encode, load_processor

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


def trl_inputs(
    batch, rows, pictures, image_token: int, pad: int, model_type: str = "qwen2_5_vl"
) -> dict:
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
    shown = [pictures[s.image] for s in rows]
    views = [len(p.pixel_values) for p in shown]
    return {
        "prompt_ids": prompts,
        "prompt_mask": mask,
        "completion_ids": torch.where(batch.completion_mask, batch.targets, pad),
        "completion_mask": completion_mask,
        "advantages": batch.advantages,
        "num_items_in_batch": completion_mask.sum(),
        "pixel_values": torch.cat([p.pixel_values for p in shown]),
        "num_images": [1] * len(rows),
        **{
            "internvl": {"num_tiles": views},
            "gemma3": {"token_type_ids": types},
        }.get(
            model_type,
            {
                "mm_token_type_ids": types,
                "image_grid_thw": torch.cat([p.image_grid_thw for p in shown]),
            },
        ),
    }


def forward(policy, batch, pictures, temperature, reference=False, banned=None):
    grids = torch.cat([p.image_grid_thw for p in pictures.values()])
    features = policy.image_features(torch.cat([p.pixel_values for p in pictures.values()]), grids)
    positions = policy.position_ids(batch, grids)
    mask = policy.mask(batch, positions)
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
    told = ("pixel_values", "image_grid_thw", "num_images", "num_tiles")
    told += ("token_type_ids", "mm_token_type_ids")
    pictures = {k: inputs[k] for k in told if k in inputs}
    longest = inputs["completion_ids"].shape[1]
    with torch.no_grad():
        return oracle._get_per_token_logps_and_entropies(
            oracle.model, ids, attention, longest, **pictures
        )[0]


def same_loss_and_gradients(policy, tmp_path, settings: dict, beta: float, stale: bool) -> None:
    """Compares log-probabilities, loss and gradients of four sequences with TRL's, once in rows of
    their own and, where the family can, packed into one row.

    settings: of TRL's loss. stale: ratios are against old log-probabilities."""
    model, processor = policy
    oracle = trainer(
        policy, lambda completions, **_: [0.0] * len(completions), tmp_path, **settings
    )
    oracle.beta = (
        beta  # set late: with a PEFT model TRL would make a second adapter for its reference
    )
    oracle.current_gradient_accumulation_steps = 1
    rows, pictures = samples(processor, 0)
    same_step(oracle, model, processor, own_rows(rows), pictures, beta, stale)
    if model.family.shares_prompts:  # three prompts, two of the completions behind one of them
        rows, pictures = samples(processor, 1)
        (laid,) = micro_batches(rows, Layout(10**6, 1, packed=True))
        same_step(oracle, model, processor, laid, pictures, beta, stale)


def same_step(oracle, model, processor, laid, pictures, beta: float, stale: bool) -> None:
    """The comparison for one micro-batch, laid out in rows."""
    kind, temperature = oracle.args.loss_type, oracle.args.temperature
    rows = [s for row in laid for block in row for s in block]
    config, pad = model.network.config, processor.tokenizer.pad_token_id
    batch = collate(laid, list(pictures), config.image_token_id, pad)
    assert (len(batch.input_ids), len(batch.blocks)) in ((4, 4), (1, 3))
    inputs = trl_inputs(batch, rows, pictures, config.image_token_id, pad, config.model_type)
    with torch.no_grad():
        reference = forward(model, batch, pictures, temperature, reference=True)[0]
    inputs["ref_per_token_logps"] = reference
    if stale:
        inputs["old_per_token_logps"] = batch.behaviour
    theirs = oracle._compute_loss(oracle.model, inputs)
    theirs.backward()
    their_gradients = gradients(model)

    logprobs, _ = forward(model, batch, pictures, temperature)
    losses, _ = policy_losses(
        logprobs,
        batch.advantages,
        batch.completion_mask.float(),
        ratio=oracle.args.importance_sampling_level,
        old_logprobs=batch.behaviour if stale else None,
        ref_logprobs=reference if beta else None,
        clip_low=0.2,
        clip_high=oracle.args.epsilon_high,
        ratio_cap=oracle.args.delta or float("inf"),
        kl_beta=beta,
    )
    tokens = float(batch.mask.sum())
    share = unnormalised_loss(losses, batch.mask, kind, tokens)  # TRL's micro-batch is our group
    ours = share / normaliser(kind, len(rows), tokens, MAX_TOKENS)
    ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4, abs=1e-6)
    compare(gradients(model), their_gradients)
    mask = batch.completion_mask
    found, expected = logprobs.detach()[mask], their_logprobs(oracle, inputs)[mask]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
