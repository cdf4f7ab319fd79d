"""The learner: takes scored groups (or demonstrations), makes one exact optimizer step of them,
publishes new weights.

`Learner` is one rank and a plain class; all ranks get the same calls with the same data in the same
order, and each learns its share. Every rank runs the same number of forward and backward passes, so
sharded parameters (ZeRO-3) cannot wait for each other in vain. May know DeepSpeed (through
deepspeed_engine) and the policy; nothing of rewards."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from actors.deepspeed_engine import ShardedModule, all_sum, start_distributed, stop_distributed
from geoagent_rl.config import Config
from geoagent_rl.data.images import open_image
from geoagent_rl.files import directory_at_once
from geoagent_rl.grpo import loss as objective
from geoagent_rl.grpo import overlong
from geoagent_rl.grpo.batching import TrainSample, collate, plan, train_samples
from geoagent_rl.grpo.schedule import Phase
from geoagent_rl.policy import model as policy_model
from geoagent_rl.policy.prompt import (
    EncodedPrompt,
    banned_ids,
    check_image_tokens,
    completion_ids,
    encode,
    probe_ids,
)
from geoagent_rl.policy.rows import attention_balance
from geoagent_rl.run.checkpoints import BackgroundWriter
from geoagent_rl.sft import Demonstration
from geoagent_rl.types import Group, InfraError, PolicyVersion, UserError

SUMS = (
    "loss",
    "kl",
    "entropy",
    "clipped",
    "sampler_gap",
    "importance",
    "tokens",
    "sequences",
    "groups",
    "not_finite",
)
# of learner.timeout_s: a collective call gives up first, so that who is missing can be told
COLLECTIVE_SHARE = 0.8
IMAGES_KEPT = 128  # encoded pictures; a group's G samples and later epochs share them


class Learner:
    """One rank of the learner. Not safe for concurrent calls."""

    def __init__(
        self,
        config: Config,
        model_dir: str,
        phase: Phase,
        weights_dir: str | None = None,
        rank: int = 0,
        world_size: int = 1,
        address: str = "",
    ) -> None:
        """model_dir: the base checkpoint, which is also the KL reference; a fresh adapter is put on
        it.

        weights_dir: where `step` publishes policy versions, on storage the engines see (shared
        memory on one node);
        None: nowhere. address: "host:port" of rank 0, with several ranks."""
        c = config.learner
        self.config, self.model_dir, self.phase, self.rank, self.world_size = (
            config,
            model_dir,
            phase,
            rank,
            world_size,
        )
        self.weights_dir = Path(weights_dir) if weights_dir else None
        limit = COLLECTIVE_SHARE * c.timeout_s
        start_distributed(rank, world_size, address, gpu=c.gpus_per_rank > 0, timeout_s=limit)
        self.processor = policy_model.load_processor(model_dir)
        lora = (config.policy.lora_rank, config.policy.lora_alpha)
        policy = policy_model.load_policy(
            model_dir,
            config.policy.dtype,
            lora,
            config.policy.gradient_checkpointing,
            seed=config.run.seed,
        ).train()
        bf16 = config.policy.dtype == "bfloat16"
        if c.zero_stage < 3 and not bf16:
            policy_model.fold_wide_adapters(policy)
        norms = (c.max_grad_norm, c.skip_grad_norm or math.inf)
        self.sharded = ShardedModule(
            policy, c.zero_stage, bf16, phase.betas, c.weight_decay, *norms
        )
        self.policy, self.device = policy, self.sharded.device
        self.balance = (
            attention_balance(policy.network.config.text_config) if c.share_prompts else 0
        )
        self.banned = torch.tensor(banned_ids(self.processor.tokenizer), device=self.device)
        self.probe = probe_ids(self.processor.tokenizer)
        self.images: dict[str, EncodedPrompt] = {}
        self.done = 0  # optimizer steps asked for, skipped ones included: the schedule's clock
        self.updates = 0  # steps that changed the weights: the policy's version
        self.writer = BackgroundWriter()
        self.clear()
        self.version = PolicyVersion(0, "merged", model_dir, self.probe_logprobs())

    def clear(self) -> None:
        self.sums = dict.fromkeys(SUMS, 0.0)
        self.seconds = 0.0

    # --- learning ---------------------------------------------------------------------------------

    def accumulate(self, *groups: Group) -> None:
        """Adds the gradient of groups of rollouts; unscorable samples are left out of loss and
        normaliser.
        """
        for scored in (s for group in groups for s in group.samples):
            version = scored.rollout.version
            if self.config.max_staleness == 0 and version != self.version.number:
                raise InfraError(
                    f"{scored.rollout.uid}: generated by version {version}, but the learner is at version "
                    f"{self.version.number} and max_staleness is 0; did an engine miss a swap?"
                )
        samples = [train_samples(group) for group in groups]
        self.learn([s for group in samples for s in group], sum(map(bool, samples)))

    def accumulate_sft(self, demonstrations: Sequence[Demonstration]) -> None:
        """Adds the gradient of demonstrations; the loss is on the answer's tokens, the end token
        included.
        """
        samples = []
        for d in demonstrations:
            ids = completion_ids(self.processor, d.text)
            samples.append(TrainSample(d.uid, d.image, self.encoded(d.image).ids, ids))
        self.learn(samples)

    def learn(self, samples: Sequence[TrainSample], groups: int = 1) -> None:
        """Forward and backward of this rank's share, in micro-batches of at most
        learner.micro_batch_tokens. groups: of how many with a scored sample the samples are."""
        start = time.monotonic()
        limit = self.policy.network.config.text_config.max_position_embeddings
        for s in samples:
            if s.length > limit:
                raise UserError(
                    f"{s.uid}: prompt ({len(s.prompt_ids)} tokens) and answer ({len(s.completion_ids)}) are more than "
                    f"the {limit} tokens that the policy can take; lower policy.max_pixels or shorten the answer"
                )
        counted = overlong.counted(samples, self.config.learner.overlong)
        tokens = sum(len(s.completion_ids) for s in counted)
        if self.rank == 0:  # `step` adds up the ranks' sums
            self.sums["sequences"] += len(samples)
            self.sums["groups"] += groups
        budget = self.config.learner.micro_batch_tokens
        batches = plan(counted, self.world_size, budget, self.balance)[self.rank]
        if batches:
            images = list(dict.fromkeys(s.image for batch in batches for s in batch))
            grids, features = self.look(images)
            for batch in batches:
                self.learn_batch(batch, images, grids, features, tokens)
        self.seconds += time.monotonic() - start

    def look(self, images: Sequence[str]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Grids [n, 3] and frozen vision features of n images: computed once for all samples and
        passes of a call.
        """
        encoded = [self.encoded(image) for image in images]
        grids = torch.cat([e.image_grid_thw for e in encoded]).to(self.device)
        pixels = torch.cat([e.pixel_values for e in encoded]).to(self.device)
        return grids, self.policy.image_features(pixels, grids)

    def learn_batch(
        self,
        samples: Sequence[TrainSample],
        images: Sequence[str],
        grids: Tensor,
        features: tuple[Tensor, ...],
        tokens: int,
    ) -> None:
        """One micro-batch of a call of `learn`, which has `tokens` completion tokens in all
        micro-batches and ranks.
        """
        network = self.policy.network
        merge = network.config.vision_config.spatial_merge_size
        for s in samples:
            check_image_tokens(
                s.uid,
                s.prompt_ids,
                network.config.image_token_id,
                grids[images.index(s.image)],
                merge,
            )
        pad = self.processor.tokenizer.pad_token_id
        batch = collate(samples, images, network.config.image_token_id, pad, self.balance).to(
            self.device
        )
        positions = self.policy.position_ids(batch, grids)
        sft = self.phase.kind == "sft"
        temperature, banned = (1.0, None) if sft else (self.config.rollout.temperature, self.banned)
        reference = None
        if not sft and self.config.learner.kl_beta > 0:
            with torch.no_grad():
                reference, _ = self.policy(
                    batch, features, positions, temperature, banned, reference=True
                )
        logprobs, entropy = self.sharded.engine(batch, features, positions, temperature, banned)
        losses, found = (
            (-logprobs, {})
            if sft
            else objective.grpo_losses(logprobs, batch, reference, self.config)
        )
        mask = batch.mask
        total = objective.unnormalised_loss(
            losses, mask, "dapo" if sft else self.config.learner.loss, tokens
        )
        self.sharded.backward(total)
        self.count(mask, total, {**found, "entropy": entropy})

    def count(self, mask: Tensor, total: Tensor, found: dict[str, Tensor]) -> None:
        sums = {name: float((values.detach() * mask).sum()) for name, values in found.items()}
        sums |= {"loss": float(total.detach()), "tokens": float(mask.sum())}
        sums["not_finite"] = float(not math.isfinite(sums["loss"]))
        for name, value in sums.items():
            self.sums[name] += value

    def step(self) -> tuple[PolicyVersion, dict[str, float]]:
        """One optimizer step from everything accumulated since the last; returns the version to
        serve, and metrics.

        The gradient is that of the whole batch's loss, whatever its split. When a loss or the
        gradient norm is not finite, the norm is above learner.skip_grad_norm, or no token counts
        (as when no sample could be scored), weights and moments stay as they are, the version does
        not change, `step_skipped` is 1 and `steps_skipped` one more. The learning-rate schedule
        counts every step."""
        start = time.monotonic()
        c = self.config.learner
        total = dict(
            zip(SUMS, all_sum([self.sums[name] for name in SUMS], self.device), strict=True)
        )
        kind = "dapo" if self.phase.kind == "sft" else c.loss
        counts = (
            total["sequences"],
            total["tokens"],
            self.config.rollout.max_tokens,
            total["groups"],
        )
        normaliser = objective.normaliser(kind, *counts)
        lr = self.phase.rate(self.done)
        applied, norm = False, 0.0
        if total["tokens"]:  # otherwise no rank has gradients, which ZeRO's step takes for granted
            applied, norm = self.sharded.step(lr, normaliser, discard=total["not_finite"] > 0)
        self.done += 1
        tokens = max(total["tokens"], 1.0)
        metrics = {"loss": total["loss"] / normaliser, "entropy": total["entropy"] / tokens}
        if self.phase.kind == "grpo":
            metrics |= {"kl": total["kl"] / tokens, "clip_fraction": total["clipped"] / tokens}
            metrics["sampler_gap"] = total["sampler_gap"] / tokens
            if c.importance != "none":
                metrics["importance_weight"] = total["importance"] / tokens
        metrics["grad_norm"] = norm
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        learned = time.monotonic()
        metrics |= {"lr": lr, "train_tokens": total["tokens"], "step_skipped": float(not applied)}
        metrics["learn_seconds"] = self.seconds + learned - start
        self.clear()
        metrics["steps_skipped"] = float(self.done - self.updates - applied)
        if applied:
            self.updates += 1
            self.version = self.publish()
        if self.config.placement.colocate:
            torch.cuda.empty_cache()  # the engine, which wakes up now, needs what torch would keep
        metrics["publish_seconds"] = time.monotonic() - learned
        return self.version, metrics

    # --- weights and state ------------------------------------------------------------------------

    def probe_logprobs(self) -> tuple[float, ...]:
        """log p of the probe's tokens (policy/prompt.py) under the current weights."""
        return tuple(self.policy.text_logprobs(self.probe).tolist())

    def publish(self) -> PolicyVersion:
        """Writes the current weights under weights_dir for the engines; keeps the newest
        max_staleness + 2 versions.
        """
        kind = self.config.rollout.swap
        if self.weights_dir is None:
            return PolicyVersion(self.updates, kind, "", self.probe_logprobs())
        path = self.weights_dir / f"v{self.updates:06d}"
        if kind == "merged":
            self.save_merged(str(path))
        else:  # only rank 0 writes; the others take part in gathering
            with directory_at_once(path) if self.rank == 0 else nullcontext(path) as out:
                policy_model.save_adapter(
                    self.policy, str(out), self.sharded.gather, self.rank == 0
                )
        if self.rank == 0:
            for old in outdated(
                sorted(self.weights_dir.glob("v??????")), path, self.config.max_staleness + 2
            ):
                shutil.rmtree(old)
        return PolicyVersion(self.updates, kind, str(path), self.probe_logprobs())

    def save_merged(self, out_dir: str) -> None:
        """Base + adapter as one Hugging Face checkpoint: the base of the next phase, or the
        product.
        """
        policy_model.save_merged(
            self.policy, self.model_dir, out_dir, self.sharded.gather, self.rank == 0
        )

    def save(self, directory: str, notes: Any = None, step: int | None = None) -> list[str]:
        """Copies everything that is needed to go on as if nothing had happened, and lets a thread
        write it: learning goes on meanwhile, and the directory appears at once or not at all
        (checkpoints.py). Returns `save_problems`.

        adapter/ (PEFT), optimizer.safetensors (AdamW by parameter name, whole), rng.safetensors,
        and state.json: the counters, the base checkpoint that the adapter belongs to (for
        `export`), and `notes`, a mapping that the learner itself does not need. Raises InfraError
        when the learner is not at `step`."""
        if step is not None and step != self.done:
            raise InfraError(f"the learner is at step {self.done}, not {step}")
        adapter = policy_model.adapter_state(self.policy, self.sharded.gather)
        optimizer = dict(self.sharded.state())
        if self.rank:
            return []
        random = {"torch": torch.get_rng_state()}
        state = {
            "kind": self.phase.kind,
            "done": self.done,
            "updates": self.updates,
            **(notes or {}),
        }
        base = (
            str(Path(self.model_dir).resolve()) if Path(self.model_dir).is_dir() else self.model_dir
        )
        state |= {"base": base, "dtype": self.config.policy.dtype}

        def write(out: Path) -> None:
            policy_model.write_adapter(self.policy, adapter, out / "adapter")
            save_file(optimizer, out / "optimizer.safetensors")
            save_file(random, out / "rng.safetensors")

        self.writer.begin(Path(directory), write, state)
        return self.save_problems()

    def save_problems(self, wait: bool = False) -> list[str]:
        """What went wrong in the writing of checkpoints since the last call, one line each; `wait`:
        until all is written."""
        if wait:
            self.writer.wait()
        return self.writer.take_problems()

    def load(self, directory: str) -> PolicyVersion:
        """Continues from `save`d state, with any number of ranks; returns the version that the
        engines must take.
        """
        state = json.loads(Path(directory, "state.json").read_text())
        if self.sharded.stage:
            self.empty_step()  # first: a step writes the master weights into the policy
        policy_model.load_adapter(self.policy, f"{directory}/adapter", self.sharded.gather)
        self.sharded.set_state(load_file(f"{directory}/optimizer.safetensors"), state["updates"])
        torch.set_rng_state(load_file(f"{directory}/rng.safetensors")["torch"])
        self.done, self.updates = state["done"], state["updates"]
        self.clear()
        self.version = self.publish()
        return self.version

    def empty_step(self) -> None:
        """A step of gradient and rate 0 on the probe text: nothing changes, but ZeRO makes room for
        its state.
        """
        sample = TrainSample("probe", "", self.probe[:1], self.probe[1:])
        config, tokenizer = self.policy.network.config, self.processor.tokenizer
        batch = collate([sample], [""], config.image_token_id, tokenizer.pad_token_id).to(
            self.device
        )
        logprobs, _ = self.sharded.engine(batch, (), None)
        self.sharded.backward(0.0 * logprobs.sum())
        self.sharded.step(lr=0.0, normaliser=1.0, discard=False)

    def encoded(self, image: str) -> EncodedPrompt:
        """Pixels and prompt ids of an image file; the most recently used IMAGES_KEPT stay in
        memory.
        """
        prompt = self.images.pop(image, None)
        if prompt is None:
            picture = open_image(image, self.config.data.max_image_megapixels)
            policy = self.config.policy
            prompt = encode(self.processor, picture, policy.system_prompt, policy.max_pixels)
        self.images[image] = prompt
        while len(self.images) > IMAGES_KEPT:
            self.images.pop(next(iter(self.images)))
        return prompt

    def close(self) -> None:
        """Ends the writing of a checkpoint, leaves the process group."""
        self.writer.wait()
        stop_distributed()


def outdated(versions: Sequence[Path], newest: Path, keep: int) -> list[Path]:
    """Published versions, in order, that can go: all but `keep` up to `newest`, and later ones,
    which are of a learner that died after it had come further than the checkpoint this one began
    with."""
    until = [version for version in versions if version <= newest]
    return until[:-keep] + [version for version in versions if version > newest]
