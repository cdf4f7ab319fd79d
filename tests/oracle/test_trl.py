"""TRL as an independent oracle (test-only dependency): advantages, log-probabilities, losses and their gradients.

TRL's own methods run on our random tiny Qwen2.5-VL with our tensors, left-padded as TRL does it. Deliberate
divergences are tested as such: partly failed samples, groups of float noise.
"""

import warnings

import pytest
import torch

trl = pytest.importorskip("trl")
warnings.filterwarnings("ignore", module="trl|transformers|torch")

import tiny_random  # noqa: E402
from datasets import Dataset  # noqa: E402
from PIL import Image  # noqa: E402
from trl.rewards import get_soft_overlong_punishment  # noqa: E402

from geoagent_rl.grpo.advantages import group_advantages  # noqa: E402
from geoagent_rl.grpo.batching import TrainSample, collate  # noqa: E402
from geoagent_rl.grpo.loss import importance_weights, normaliser, policy_losses, unnormalised_loss  # noqa: E402
from geoagent_rl.grpo.overlong import counted, soft_penalty  # noqa: E402
from geoagent_rl.policy.model import load_policy, load_processor  # noqa: E402
from geoagent_rl.policy.prompt import encode  # noqa: E402

pytestmark = pytest.mark.timeout(120)
SIZES = [(84, 84), (140, 56), (60, 90)]  # different grids, so prompts differ in length
MAX_TOKENS = 12


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    directory = tiny_random.build(tmp_path_factory.mktemp("tiny"))
    print(f"\nTRL {trl.__version__}")
    policy = load_policy(directory, lora=(8, 16))
    with torch.no_grad():  # B = 0 would hide half of the gradient
        for name, p in policy.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    return policy, load_processor(directory)


def trainer(policy, rewards, tmp_path, **settings):
    """TRL's trainer on our model; 4 rows, groups of 4, nothing reported or saved."""
    network, processor = policy
    config = trl.GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=MAX_TOKENS,
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        use_bias_correction_kl=False,  # the paper has the plain k3 term; TRL by default weighs it by the ratio
        **{"beta": 0.0, **settings},
    )
    return trl.GRPOTrainer(
        model=network.model,
        reward_funcs=rewards,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["where?"] * 4}),
        processing_class=processor,
    )


def sampled(oracle, completions, sampler=None):
    """What TRL makes of these completions: its generation is replaced, all that follows it is TRL's."""
    prompts = [[5, 6, 7]] * len(completions)
    oracle._generate = lambda _: (prompts, completions, None, [""] * len(completions), sampler, {}, None, None)
    return oracle._generate_and_score_completions([{"prompt": "where?"}] * len(completions))


TABLE = [
    [0.1, 0.9, 0.4, 2.0],
    [0.0, 0.0, 0.0, 3.5],
    [1.0, None, 2.0, 4.0],  # every part failed: TRL too leaves the row out
    [None, None, 1.0, 1.5],
    [None, None, None, 3.0],  # a group of one: no advantage, where others give the raw reward
    [1.0, 1.0, 1.0, 1.0],
]


def test_advantages(policy, tmp_path):
    rows = iter(TABLE)
    oracle = trainer(policy, lambda completions, **_: next(rows), tmp_path)
    for totals in TABLE:
        out = sampled(oracle, [[65, 66]] * 4)
        assert group_advantages(totals) == pytest.approx(out["advantages"].tolist(), abs=1e-5)


# What differs on purpose. Each test shows TRL's behaviour and ours.


def test_divergence_float_noise_makes_no_advantage_here(policy, tmp_path):
    noisy = [1.0, 1.0 + 3e-7, 1.0, 1.0]
    oracle = trainer(policy, lambda completions, **_: noisy, tmp_path)
    assert sampled(oracle, [[65, 66]] * 4)["advantages"].abs().max() > 1e-3
    assert group_advantages(noisy) == [0.0] * 4


def test_divergence_a_partly_failed_sample_is_left_out_here(policy, tmp_path):
    """TRL adds up the parts that are there, so an outage looks like a bad answer; here the total is None."""
    parts = [[1.0, 1.0, 1.0, 2.0], [1.0, 1.0, None, 1.0]]
    functions = [lambda completions, values=values, **_: values for values in parts]
    advantages = sampled(trainer(policy, functions, tmp_path), [[65, 66]] * 4)["advantages"].tolist()
    assert advantages[2] < -0.5
    ours = group_advantages([2.0, 2.0, None, 3.0])
    assert ours[2] == 0 and ours == pytest.approx([*group_advantages([2.0, 2.0, 3.0])[:2], 0.0, ours[3]])


def samples(processor, seed: int) -> tuple[list[TrainSample], dict]:
    """Four sequences over three pictures of different sizes, with random completions, advantages and old log-probs."""
    generator = torch.Generator().manual_seed(seed)
    pictures = {str(i): encode(processor, noise(i, size), "tiny", 10_000) for i, size in enumerate(SIZES)}
    out = []
    for i in range(4):
        n = int(torch.randint(1, MAX_TOKENS + 1, (1,), generator=generator))
        ids = torch.randint(0, 256, (n,), generator=generator).tolist()
        old = (-5 + torch.randn(n, generator=generator)).tolist()
        advantage = float(torch.randn((), generator=generator))
        image = str(i % len(SIZES))
        out.append(TrainSample(str(i), image, pictures[image].ids, tuple(ids), advantage, tuple(old)))
    return out, pictures


def noise(seed: int, size: tuple[int, int]) -> Image.Image:
    pixels = torch.randint(
        0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return Image.fromarray(pixels.numpy())


def trl_inputs(batch, rows, pictures, image_token: int, pad: int) -> dict:
    """The same sequences as TRL wants them: prompts padded on the left, completions on the right."""
    longest = max(len(s.prompt_ids) for s in rows)
    prompts = torch.tensor([[pad] * (longest - len(s.prompt_ids)) + list(s.prompt_ids) for s in rows])
    mask = torch.tensor([[0] * (longest - len(s.prompt_ids)) + [1] * len(s.prompt_ids) for s in rows])
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


def forward(policy, batch, pictures, temperature, reference=False):
    grids = torch.cat([p.image_grid_thw for p in pictures.values()])
    features = policy.image_features(torch.cat([p.pixel_values for p in pictures.values()]), grids)
    return policy(batch, features, policy.position_ids(batch, grids), temperature, None, reference)


def gradients(policy) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad()
    return found


CASES = [
    # loss, level of the ratio, temperature, beta, old log-probabilities given, clip_high, ratio cap
    ("grpo", "token", 0.7, 0.0, False, 0.2, None),
    ("grpo", "token", 1.0, 0.04, True, 0.2, None),
    ("dapo", "token", 0.7, 0.04, True, 0.28, 2.0),
    ("dr_grpo", "token", 1.3, 0.001, False, 0.2, None),
    ("bnpo", "token", 0.7, 0.04, True, 0.28, 2.0),
    ("grpo", "sequence", 0.7, 0.04, True, 0.2, None),
    ("grpo", "sequence", 0.7, 0.0, False, 0.2, None),
    ("dapo", "sequence", 1.0, 0.0, True, 0.28, 1.5),
    ("bnpo", "sequence", 1.0, 0.04, True, 0.2, None),
]


@pytest.mark.parametrize(("kind", "level", "temperature", "beta", "stale", "high", "cap"), CASES)
def test_log_probabilities_loss_and_gradients(policy, tmp_path, kind, level, temperature, beta, stale, high, cap):
    model, processor = policy
    settings = {"loss_type": kind, "temperature": temperature, "epsilon_high": high, "delta": cap}
    settings["importance_sampling_level"] = level
    oracle = trainer(policy, lambda completions, **_: [0.0] * len(completions), tmp_path, **settings)
    oracle.beta = beta  # set late: with a PEFT model TRL would make a second adapter for its reference
    oracle.current_gradient_accumulation_steps = 1
    config = model.network.config
    for seed in range(2):
        rows, pictures = samples(processor, seed)
        batch = collate(rows, list(pictures), config.image_token_id, processor.tokenizer.pad_token_id)
        inputs = trl_inputs(batch, rows, pictures, config.image_token_id, processor.tokenizer.pad_token_id)
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
            ratio=level,
            old_logprobs=batch.behaviour if stale else None,
            ref_logprobs=reference if beta else None,
            clip_low=0.2,
            clip_high=high,
            ratio_cap=cap or float("inf"),
            kl_beta=beta,
        )
        tokens = float(batch.mask.sum())
        share = unnormalised_loss(losses, batch.mask, kind, tokens)  # TRL's micro-batch is one group of ours
        ours = share / normaliser(kind, len(rows), tokens, MAX_TOKENS)
        ours.backward()
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-4, abs=1e-6)
        compare(gradients(model), their_gradients)
        check_logprobs(oracle, inputs, logprobs.detach(), batch.completion_mask)


def compare(ours, theirs):
    assert ours.keys() == theirs.keys() and len(ours) > 20
    largest = max(float(g.abs().max()) for g in theirs.values())
    assert largest > 0
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=name)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_importance_correction(policy, tmp_path, level):
    """TRL's own weights, from log-probabilities that it recomputes itself, and its loss and gradients with them."""
    model, processor = policy
    cap, temperature = 2.0, 0.7
    settings = {"temperature": temperature, "vllm_importance_sampling_mode": f"{level}_truncate"}
    settings |= {"vllm_importance_sampling_clip_max": cap, "loss_type": "grpo"}
    oracle = trainer(policy, lambda completions, **_: [0.0, 1.0, 2.0, 4.0], tmp_path, **settings)
    oracle.use_vllm = True
    oracle.current_gradient_accumulation_steps = 1
    rows = [TrainSample(s.uid, "", (5, 6, 7), s.completion_ids) for s in samples(processor, 3)[0]]
    batch = collate(rows, [""], model.network.config.image_token_id, processor.tokenizer.pad_token_id)
    mask = batch.completion_mask.float()
    logprobs, _ = model(batch, (), None, temperature)
    noise = torch.randn(mask.shape, generator=torch.Generator().manual_seed(0))
    sampler = logprobs.detach() - torch.tensor([[0.8], [-0.2], [0.3], [-0.5]]) - 0.4 * noise
    lists = [row[keep].tolist() for row, keep in zip(sampler, batch.completion_mask, strict=True)]
    theirs = sampled(oracle, [list(s.completion_ids) for s in rows], lists)
    weights = importance_weights(logprobs, sampler, mask, level, cap)
    expected = theirs["importance_sampling_ratio"]
    assert expected.max() == cap and expected.min() < 1  # the cap matters
    torch.testing.assert_close(weights * mask, expected * mask, rtol=1e-4, atol=1e-6)

    oracle._compute_loss(oracle.model, theirs).backward()
    their_gradients = gradients(model)
    asked = {"ref_logprobs": None, "clip_low": 0.2, "clip_high": 0.2, "ratio_cap": cap, "kl_beta": 0.0}
    losses, _ = policy_losses(logprobs, theirs["advantages"], mask, old_logprobs=None, weights=weights, **asked)
    (unnormalised_loss(losses, batch.mask, "grpo") / len(rows)).backward()
    compare(gradients(model), their_gradients)


@pytest.mark.parametrize("kind", ["grpo", "dapo", "dr_grpo", "bnpo"])
def test_masked_truncated_completions(policy, tmp_path, kind):
    """TRL decides by the last token, we by the finish reason; what leaves the loss and what divides it are the same."""
    model, processor = policy
    end = processor.tokenizer.eos_token_id
    completions = [[65, 66, end], [67] * MAX_TOKENS, [68, end], [69, 70, 71, end]]
    settings = {"loss_type": kind, "mask_truncated_completions": True, "temperature": 1.0}
    oracle = trainer(policy, lambda completions, **_: [0.0, 1.0, 2.0, 4.0], tmp_path, **settings)
    oracle.current_gradient_accumulation_steps = 1
    inputs = sampled(oracle, completions)
    theirs = oracle._compute_loss(oracle.model, inputs)
    theirs.backward()
    their_gradients = gradients(model)

    advantages = group_advantages([0.0, 1.0, 2.0, 4.0])
    rows = [
        TrainSample(str(i), "", (5, 6, 7), tuple(ids), a, truncated=ids[-1] != end)
        for i, (ids, a) in enumerate(zip(completions, advantages, strict=True))
    ]
    kept = counted(rows, "mask")
    batch = collate(kept, [""], model.network.config.image_token_id, processor.tokenizer.pad_token_id)
    logprobs, _ = model(batch, (), None)
    asked = {"ref_logprobs": None, "clip_low": 0.2, "clip_high": 0.2, "ratio_cap": 2.0, "kl_beta": 0.0}
    losses, _ = policy_losses(logprobs, batch.advantages, batch.mask, old_logprobs=None, **asked)
    tokens = float(batch.mask.sum())
    ours = unnormalised_loss(losses, batch.mask, kind, tokens) / normaliser(kind, len(rows), tokens, MAX_TOKENS)
    ours.backward()
    assert len(kept) == 3 and ours.item() == pytest.approx(theirs.item(), rel=1e-4, abs=1e-6)
    compare(gradients(model), their_gradients)


def test_soft_overlong_penalty():
    oracle = get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)
    lengths = range(0, 120, 3)
    assert [soft_penalty(n, 100, 0.2) for n in lengths] == pytest.approx(oracle([[1] * n for n in lengths]))


def check_logprobs(oracle, inputs, logprobs, mask):
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    pictures = {k: inputs[k] for k in ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")}
    with torch.no_grad():
        theirs, _, _ = oracle._get_per_token_logps_and_entropies(
            oracle.model, ids, attention, mask.shape[1], **pictures
        )
    torch.testing.assert_close(logprobs[mask], theirs[mask], rtol=0, atol=2e-5)
