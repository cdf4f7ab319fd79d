"""GRPO steps without Ray and DeepSpeed, for benchmarks: with the project's policy code, or with
plain PEFT calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from geoagent_rl.config import Config
from geoagent_rl.data.images import open_image
from geoagent_rl.grpo.batching import Layout, MicroBatch, collate, micro_batches, own_rows
from geoagent_rl.grpo.loss import grpo_losses, unnormalised_loss
from geoagent_rl.grpo.samples import TrainSample, train_group
from geoagent_rl.policy.lora import use_fast_adapters
from geoagent_rl.policy.model import load_policy
from geoagent_rl.policy.prompt import EncodedPrompt, banned_ids, encode, load_processor
from geoagent_rl.policy.rows import attention_balance, visible
from geoagent_rl.types import Group
from tests.support import tiny_random


class BareLoop:
    """AdamW on the GRPO loss with the learner's micro-batches. plain: every sequence of both passes
    brings its own pixels to the Hugging Face model under PEFT, as in a loop that knows no more than
    their documentation."""

    def __init__(self, config: Config, model: str, plain: bool) -> None:
        self.config, self.plain = config, plain
        self.processor = load_processor(model)
        lora = (config.policy.lora_rank, config.policy.lora_alpha)
        self.policy = load_policy(model, lora=lora).train()
        if not plain:
            use_fast_adapters(self.policy.lora_layers)
        self.trainable = [p for p in self.policy.parameters() if p.requires_grad]
        self.adamw = torch.optim.AdamW(self.trainable, lr=config.learner.lr, weight_decay=0.0)
        self.banned = torch.tensor(banned_ids(self.processor))
        self.images: dict[str, EncodedPrompt] = {}

    def encoded(self, image: str) -> EncodedPrompt:
        if image not in self.images:
            self.images[image] = encode(
                self.processor, open_image(image), "tiny", self.config.policy.max_pixels
            )
        return self.images[image]

    def step(self, groups: Sequence[Group]) -> float:
        """One optimizer step on all groups; the gradient norm."""
        tokens, samples = self.processor.tokenizer, 0
        for group in groups:
            prompt, rows = self.encoded(group.prompt.image), train_group(group).samples()
            samples += len(rows)
            features = (
                ()
                if self.plain
                else self.policy.image_features(prompt.pixel_values, prompt.image_grid_thw)
            )
            network, budget = self.policy.network, self.config.learner.micro_batch_tokens
            balance = attention_balance(network.config.text_config)
            layout = Layout(budget, balance, share=not self.plain)
            for part in micro_batches(rows, layout):
                special = network.config.image_token_id, tokens.pad_token_id
                batch = collate(part, [group.prompt.image], *special)
                with torch.no_grad():
                    reference = self.logprobs(batch, prompt, features, reference=True)
                losses, _ = grpo_losses(
                    self.logprobs(batch, prompt, features), batch, reference, self.config
                )
                unnormalised_loss(losses, batch.mask, "grpo").backward()
        for p in self.trainable:
            p.grad.div_(samples)
        norm = torch.nn.utils.clip_grad_norm_(self.trainable, self.config.learner.max_grad_norm)
        self.adamw.step()
        self.adamw.zero_grad()
        return float(norm)

    def logprobs(
        self, batch: MicroBatch, prompt: EncodedPrompt, features, reference: bool = False
    ) -> torch.Tensor:
        temperature = self.config.rollout.temperature
        if not self.plain:
            positions = self.policy.position_ids(batch, prompt.image_grid_thw)
            mask = visible(batch, self.policy.network.dtype)
            sampling = temperature, self.banned
            return self.policy(batch, features, positions, *sampling, mask, reference)[0]
        if reference:
            with self.policy.model.disable_adapter():
                return self.plain_logprobs(batch, prompt, temperature)
        return self.plain_logprobs(batch, prompt, temperature)

    def plain_logprobs(
        self, batch: MicroBatch, prompt: EncodedPrompt, temperature: float
    ) -> torch.Tensor:
        size = len(batch.input_ids)
        logits = self.policy.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            mm_token_type_ids=(batch.input_ids == self.policy.network.config.image_token_id).long(),
            pixel_values=prompt.pixel_values.repeat(size, 1),
            image_grid_thw=prompt.image_grid_thw.repeat(size, 1),
        ).logits
        logits = logits.flatten(0, 1)[batch.places].index_fill(-1, self.banned, -1e4) / temperature
        targets = batch.targets[batch.completion_mask]
        found = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
        return torch.zeros(batch.targets.shape).masked_scatter(batch.completion_mask, found)


def one_image_samples(policy, processor, folder: Path, samples: int, text_tokens: int):
    """([TrainSample], EncodedPrompt): sequences of 1024 image tokens and text_tokens others, all on
    one picture.
    """
    picture = tiny_random.picture(folder / "large.png", 0, (896, 896))
    prompt = encode(processor, open_image(picture), "tiny", 896 * 896)
    assert prompt.ids.count(policy.network.config.image_token_id) == 1024
    length = text_tokens - (len(prompt.ids) - 1024)
    ids = torch.randint(
        10, 200, (samples, length), generator=torch.Generator().manual_seed(0)
    ).tolist()
    return [
        TrainSample(str(i), "x", prompt.ids, tuple(row), 1.0 - 2 * (i % 2))
        for i, row in enumerate(ids)
    ], prompt


def group_pass(
    policy,
    processor,
    samples: Sequence[TrainSample],
    prompt: EncodedPrompt,
    look_once: bool,
    share: bool,
):
    """Reference pass, loss pass and backward of one group; else each pass looks at the picture for
    each sample.
    """
    config, n = Config(), len(samples)
    image_token = policy.network.config.image_token_id
    rows = own_rows(samples)
    if share:
        balance = attention_balance(policy.network.config.text_config)
        (rows,) = micro_batches(samples, Layout(10**6, balance))
    batch = collate(rows, ["x"], image_token, processor.tokenizer.pad_token_id)
    positions = policy.position_ids(batch, prompt.image_grid_thw)
    features = (
        policy.image_features(prompt.pixel_values, prompt.image_grid_thw) if look_once else ()
    )

    def logprobs(reference: bool) -> torch.Tensor:
        mask = visible(batch, policy.network.dtype)
        if look_once:
            return policy(batch, features, positions, mask=mask, reference=reference)[0]
        shown = policy.image_features(
            prompt.pixel_values.repeat(n, 1), prompt.image_grid_thw.repeat(n, 1)
        )
        blocks = tuple(replace(block, image=i) for i, block in enumerate(batch.blocks))
        return policy(replace(batch, blocks=blocks), shown, positions, reference=reference)[0]

    with torch.no_grad():
        reference = logprobs(reference=True)
    losses, _ = grpo_losses(logprobs(reference=False), batch, reference, config)
    unnormalised_loss(losses, batch.mask, "grpo").backward()
    policy.zero_grad()
