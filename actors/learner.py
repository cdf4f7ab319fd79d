"""The learner: takes scored groups (or demonstrations), makes one exact optimizer step of them,
publishes new weights.

`Learner` is one rank and a plain class; all ranks get the same calls with the same data in the same
order, and each learns its share. Where every backward pass reduces (ZeRO 2 and 3), every rank makes
the same number of passes, so that none waits in vain; below that ranks meet only at the step. May
know DeepSpeed (through deepspeed_engine) and the policy; nothing of rewards."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from actors.deepspeed_engine import ShardedModule, all_sum, start_distributed, stop_distributed
from actors.passes import SUMS, Call, Passes
from actors.pictures import Fetch, Pictures
from actors.publishing import Files, load_state, published, save_state
from geoagent_rl.config import Config
from geoagent_rl.config.grpo import truncates
from geoagent_rl.grpo import loss as objective
from geoagent_rl.grpo import overlong
from geoagent_rl.grpo.balance import assign
from geoagent_rl.grpo.batching import Layout, filler, micro_batches, own_rows
from geoagent_rl.grpo.samples import TrainGroup, TrainSample, token_ids, train_group
from geoagent_rl.grpo.schedule import Phase
from geoagent_rl.plan.memory import recomputes
from geoagent_rl.policy import model as policy_model
from geoagent_rl.policy.attention import BLOCK, flex_works, use_flex
from geoagent_rl.policy.families import check_learner
from geoagent_rl.policy.logits import use_float32_logits
from geoagent_rl.policy.lora import use_fast_adapters
from geoagent_rl.policy.prompt import banned_ids, completion_ids, load_processor, probe_ids
from geoagent_rl.policy.rows import attention_balance, head_size
from geoagent_rl.policy.sizes import known_architecture
from geoagent_rl.run.checkpoints import BackgroundWriter
from geoagent_rl.sft import Demonstration
from geoagent_rl.types import Group, InfraError, PolicyVersion, UserError

# of learner.timeout_s: a collective call gives up first, so that who is missing can be told
COLLECTIVE_SHARE = 0.8
IN_STEP = 2  # ZeRO stages from here on reduce in every backward pass
GPU_MULTIPLE = 8  # tokens of a row's length: what matrix kernels like


class Learner:
    """One rank of the learner. Not safe for concurrent calls."""

    def __init__(
        self,
        config: Config,
        model_dir: str,
        phase: Phase,
        store: Callable[[Files], Any] | None = None,
        rank: int = 0,
        world_size: int = 1,
        address: str = "",
        fetch: Fetch = lambda sent: sent,
    ) -> None:
        """model_dir: the base checkpoint, which is also the KL reference; a fresh adapter is put on
        it.

        store: puts the files of a published adapter where engines can fetch them and returns what
        stands for them; None: nothing is published. address: "host:port" of rank 0, with several
        ranks. fetch: see Pictures."""
        c = config.learner
        self.config, self.model_dir, self.phase = config, model_dir, phase
        self.rank, self.world_size = rank, world_size
        self.store = store
        limit = COLLECTIVE_SHARE * c.timeout_s
        start_distributed(rank, world_size, address, gpu=c.gpus_per_rank > 0, timeout_s=limit)
        self.processor = load_processor(model_dir)
        check_learner(self.processor.family, config)
        self.policy = policy_model.load_policy(
            model_dir,
            config.policy.dtype,
            (config.policy.lora_rank, config.policy.lora_alpha),
            recomputes(config, known_architecture(model_dir)),
            seed=config.run.seed,
            lora_dropout=config.policy.lora_dropout,
        ).train()
        if c.zero_stage < 3:
            use_fast_adapters(self.policy.lora_layers)
            if config.policy.dtype == "bfloat16":
                use_float32_logits(self.policy.network.lm_head)
        norms = (c.max_grad_norm, c.skip_grad_norm or math.inf)
        self.sharded = ShardedModule(self.policy, c.zero_stage, phase.betas, c.weight_decay, *norms)
        tokenizer = self.processor.tokenizer
        layout = learner_layout(config, self.policy, self.sharded.device)
        self.passes = Passes(
            config,
            phase.kind,
            self.policy,
            self.sharded,
            layout,
            banned_ids(self.processor),
            tokenizer.pad_token_id,
        )
        self.pictures = Pictures(config, self.processor, self.policy, fetch)
        self.probe = probe_ids(tokenizer)
        self.done = 0  # optimizer steps asked for, skipped ones included: the schedule's clock
        self.updates = 0  # steps that changed the weights: the policy's version
        self.writer = BackgroundWriter()
        self.clear()
        self.version = PolicyVersion(0, "checkpoint", model_dir, self.probe_logprobs())

    def clear(self) -> None:
        """Begin a new step. Its dropout is drawn anew, so that a resumed learner draws the same."""
        self.passes.clear()
        if self.config.policy.lora_dropout:
            own = (self.config.run.seed, self.phase.kind, self.done, self.rank)
            torch.manual_seed(zlib.crc32(repr(own).encode()))
        self.seconds = 0.0
        self.groups = 0  # taken since the last step
        self.loads = [0.0] * self.world_size  # of all ranks since the last step, see balance.cost

    # --- learning ---------------------------------------------------------------------------------

    def accumulate(self, *groups: Group) -> None:
        """Add the gradient of groups of rollouts; unscorable samples are left out of loss and
        normaliser.
        """
        self.accumulate_groups([train_group(group) for group in groups])

    def accumulate_groups(self, groups: Sequence[TrainGroup]) -> None:
        """Do what `accumulate` does for groups that are arrays already."""
        if self.config.max_staleness == 0:
            for group in groups:
                for version in group.versions[group.versions != self.version.number]:
                    raise InfraError(
                        f"{group.uid}: generated by version {version}, but the learner is at version "
                        f"{self.version.number} and max_staleness is 0; did an engine miss a swap?"
                    )
        self.groups += len(groups)
        self.pictures.sent = {g.image: g.picture for g in groups if g.picture is not None}
        samples = [s for group in groups for s in group.samples()]
        last = self.groups >= self.config.rollout.prompts_per_step
        self.learn(samples, sum(len(group.ends) > 0 for group in groups), last)

    def accumulate_sft(self, demonstrations: Sequence[Demonstration]) -> None:
        """Add the gradient of demonstrations; the loss is on the answer's tokens, the end token
        included.
        """
        samples = []
        for d in demonstrations:
            prompt = token_ids(self.pictures.encoded(d.image).ids)
            answer = token_ids(completion_ids(self.processor, d.text, d.uid))
            samples.append(TrainSample(d.uid, d.image, prompt, answer))
        self.learn(samples)

    def learn(self, samples: Sequence[TrainSample], groups: int = 1, last: bool = True) -> None:
        """Run forward and backward of this rank's share, in micro-batches of at most
        learner.micro_batch_tokens.

        groups: of how many with a scored sample the samples are; last: no further call is expected
        before the step."""
        start = time.monotonic()
        check_lengths(samples, self.policy.network.config.text_config.max_position_embeddings)
        counted = overlong.counted(samples, self.config.learner.overlong)
        if self.rank == 0:  # `step` adds up the ranks' sums
            self.passes.add(sequences=len(samples), groups=groups)
        layout = self.passes.layout
        shares, self.loads = assign(counted, self.loads, layout.balance, layout.share, cut=last)
        batches = micro_batches(shares[self.rank], layout)
        if self.config.learner.zero_stage >= IN_STEP and counted:
            most = max(len(micro_batches(share, layout)) for share in shares)
            batches += [filler(counted)] * (most - len(batches))
        if batches:
            shown = (s.image for rows in batches for row in rows for block in row for s in block)
            images = list(dict.fromkeys(shown))
            grids, features = self.pictures.look(images, self.sharded.device)
            tokens = sum(len(s.completion_ids) for s in counted)
            for rows in batches:
                self.passes.learn(rows, Call(images, grids, features, tokens))
        self.seconds += time.monotonic() - start

    def step(self) -> tuple[PolicyVersion, dict[str, float]]:
        """Make one optimizer step from everything accumulated since the last; returns the version
        to serve, and metrics.

        The gradient is that of the whole batch's loss, whatever its split. When a loss or the
        gradient norm is not finite, the norm is above learner.skip_grad_norm, or no token counts
        (as when no sample could be scored), weights and moments stay as they are, the version does
        not change, `step_skipped` is 1 and `steps_skipped` one more. The learning-rate schedule
        counts every step."""
        start = time.monotonic()
        c = self.config.learner
        total = dict(zip(SUMS, all_sum(self.passes.sums), strict=True))
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
            if not truncates(self.config.rollout):
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
        """Return log p of the probe's tokens (policy/prompt.py) under the current weights."""
        return tuple(self.policy.text_logprobs(self.probe).tolist())

    def publish(self) -> PolicyVersion:
        """Return the current weights as a version that engines can take."""
        version = PolicyVersion(self.updates, "adapter", probe_logprobs=self.probe_logprobs())
        if self.store is None:
            return version
        files, digest = published(self.policy, self.sharded, self.config, self.rank == 0)
        return replace(version, digest=digest, files=self.store(files) if files else None)

    def save_merged(self, out_dir: str) -> str:
        """Write base + adapter as one Hugging Face checkpoint: the base of the next phase, or the
        product. Return its digest on rank 0.
        """
        return policy_model.save_merged(
            self.policy, self.model_dir, out_dir, self.sharded.gather, self.rank == 0
        )

    def save(self, directory: str, notes: Any = None, step: int | None = None) -> list[str]:
        """Copy everything that is needed to go on as if nothing had happened, and let a thread
        write it: learning goes on meanwhile, and the directory appears at once or not at all
        (checkpoints.py). Returns `save_problems`.

        adapter/ (PEFT), optimizer.safetensors (AdamW by parameter name, whole), rng.safetensors,
        and state.json: the counters, the base checkpoint that the adapter belongs to (for
        `export`), and `notes`, a mapping that the learner itself does not need. Raises InfraError
        when the learner is not at `step`."""
        if step is not None and step != self.done:
            raise InfraError(f"the learner is at step {self.done}, not {step}")
        base = Path(self.model_dir)
        state = {
            "kind": self.phase.kind,
            "done": self.done,
            "updates": self.updates,
            **(notes or {}),
            "base": str(base.resolve()) if base.is_dir() else self.model_dir,
            "dtype": self.config.policy.dtype,
        }
        first = self.rank == 0
        save_state(self.policy, self.sharded, self.writer, Path(directory), state, first)
        return self.save_problems() if first else []

    def save_problems(self, wait: bool = False) -> list[str]:
        """Return what went wrong in the writing of checkpoints since the last call, one line each;
        `wait`: until all is written."""
        if wait:
            self.writer.wait()
        return self.writer.take_problems()

    def load(self, directory: str) -> PolicyVersion:
        """Continue from `save`d state, with any number of ranks; return the version that the
        engines must take."""
        if self.sharded.stage:
            self.empty_step()  # first: a step writes the master weights into the policy
        state = load_state(self.policy, self.sharded, Path(directory))
        self.done, self.updates = state["done"], state["updates"]
        self.clear()
        self.version = self.publish()
        return self.version

    def empty_step(self) -> None:
        """Make a step of gradient and rate 0 on the probe text: nothing changes, but ZeRO makes
        room for its state."""
        ids = token_ids(self.probe)
        sample = TrainSample("probe", "", ids[:1], ids[1:])
        inputs = self.passes.inputs(own_rows([sample]), [""], None)
        logprobs, _ = self.sharded.engine(inputs.batch, (), inputs.positions, mask=inputs.mask)
        self.sharded.backward(0.0 * logprobs.sum())
        self.sharded.step(lr=0.0, normaliser=1.0, discard=False)

    def close(self) -> None:
        """End the writing of a checkpoint, leave the process group."""
        self.writer.wait()
        stop_distributed()


def learner_layout(config: Config, policy: policy_model.Policy, device: torch.device) -> Layout:
    """Return one packed row per micro-batch where flex attention works, which is then switched on,
    else rows of least padding under a mask."""
    c, text = config.learner, policy.network.config.text_config
    heads, kv_heads = text.num_attention_heads, text.num_key_value_heads
    packed = c.share_prompts and flex_works(device, heads, kv_heads, head_size(text))
    if packed:
        use_flex(policy.network)
    multiple = BLOCK if packed else GPU_MULTIPLE if device.type == "cuda" else 1
    budget = c.micro_batch_tokens
    return Layout(budget, attention_balance(text), c.share_prompts, packed, multiple)


def check_lengths(samples: Sequence[TrainSample], limit: int) -> None:
    """Raise UserError for a sample of more than `limit` tokens."""
    for s in samples:
        if s.length > limit:
            raise UserError(
                f"{s.uid}: prompt ({len(s.prompt_ids)} tokens) and answer ({len(s.completion_ids)}) are more than "
                f"the {limit} tokens that the policy can take; lower policy.max_pixels or shorten the answer"
            )
