"""A whole group, vision included: the learner's pass, and TRL's loss driven by hand beside it."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch

from geoagent_rl.grpo.batching import collate, own_rows
from tests.gpu.learner_load import Load
from tests.gpu.measuring import Mark, silent


def trl(load: Load) -> None:
    """Time of both, and the cosine of their gradients, which shows that both do the same."""
    pixels = load.normal(math.prod(load.size.grid), 1176)
    theirs, learn = trl_pass(load, pixels), load.learner()

    def ours() -> None:
        learn(load.wide, silent, load.policy.image_features(pixels, load.grids))

    found: dict[str, Any] = {}
    gradients = []
    for name, work in (("ours", ours), ("theirs", theirs)):
        with load.pefts_form(name == "theirs"):
            load.policy.zero_grad()
            work()
            trained = [p for p in load.policy.parameters() if p.requires_grad]
            gradients.append(torch.cat([p.grad.flatten().float() for p in trained]))  # type: ignore[union-attr]

            def timed(mark: Mark, work: Any = work) -> None:
                work()
                mark("group")

            found |= {f"{name}_{k}": v for k, v in load.measure(timed).items()}
    ratio = found["ours_group_ms"] / found["theirs_group_ms"]
    cosine = float(torch.cosine_similarity(*gradients, dim=0))
    case = "group, 8 padded rows there"
    load.results.record("trl", case, **found, ratio=ratio, cosine=cosine)


def trl_pass(load: Load, pixels: torch.Tensor) -> Any:
    """TRL's reference pass, loss and backward on the same group, one padded row per sample."""
    from accelerate import Accelerator
    from trl import GRPOTrainer
    from trl.trainer.utils import add_fused_lm_head

    policy, c, trainer = load.policy, load.config.learner, object.__new__(GRPOTrainer)
    batch = collate(own_rows(load.group), ["x"], load.special + 3, 0).to(load.device)
    add_fused_lm_head(
        policy.network, load.config.rollout.temperature, outputs=("log_probs", "entropy")
    )
    vars(trainer).update(
        model=policy.model,
        accelerator=Accelerator(cpu=not load.cuda),
        beta=c.kl_beta,
        loss_type="grpo",
        use_vllm=False,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
        importance_sampling_level="token",
        epsilon_low=c.clip_low,
        epsilon_high=c.clip_high,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        _metrics=defaultdict(lambda: defaultdict(list)),
    )
    pictures = {
        "pixel_values": pixels.repeat(8, 1),
        "image_grid_thw": load.grids.repeat(8, 1).to(load.device),
        "num_images": [1] * 8,
        "mm_token_type_ids": (batch.input_ids == load.special + 3).long(),
    }
    ids, seen, p = batch.input_ids, batch.attention_mask, load.size.prompt
    inputs = pictures | {
        "prompt_ids": ids[:, :p],
        "completion_ids": ids[:, p:],
        "prompt_mask": seen[:, :p],
        "completion_mask": seen[:, p:],
        "advantages": batch.advantages,
    }

    def theirs() -> None:
        arguments = policy.model, ids, seen, ids.shape[1] - p
        with torch.no_grad(), policy.model.disable_adapter():
            reference, *_ = trainer._get_per_token_logps_and_entropies(*arguments, **pictures)
        given = inputs | {"ref_per_token_logps": reference}
        trainer._compute_loss(policy.model, given).backward()

    return theirs
