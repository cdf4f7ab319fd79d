"""How much memory each part of a run takes, in bytes. Formulas, and what is exact about them:
docs/plan.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from geoagent_rl.config import Config
from geoagent_rl.plan.gpus import gpu
from geoagent_rl.plan.resources import judges_share_gpus
from geoagent_rl.policy.architecture import BYTES, Architecture

GIB = 2**30
CONTEXT = int(1.2 * GIB)  # CUDA context, NCCL buffers, captured graphs of one process: an estimate
PREFILL_TOKENS = 8192  # vLLM's default of tokens in one forward pass on GPUs
LOGITS_CHUNK = (
    128 * 2**20
)  # bytes of float32 logits held at a time, see geoagent_rl/grpo/logprobs.py
LOGITS_COPIES = 4
MOST_SEQUENCES = 256  # that an engine generates at once, unless more are asked for
ROOM = 0.9  # of a rank's GPU: measured peaks are up to 5 % above what is planned (docs/gpu.md)


@dataclass(frozen=True)
class Lengths:
    """Tokens of a mean prompt and a mean completion."""

    prompt: float
    completion: float

    @property
    def sequence(self) -> float:
        """Return tokens of prompt and completion."""
        return self.prompt + self.completion


def engine_memory(config: Config, policy: Architecture) -> dict[str, float]:
    """Return the bytes on one GPU of a rollout engine, by use. The cache gets what rollout.memory
    leaves; `cache_tokens` are the engine's."""
    r, dtype = config.rollout, config.policy.dtype
    shards = r.tensor_parallel
    lora = 0
    if r.swap == "adapter":
        lora = (
            (config.max_staleness + 1)
            * policy.lora_parameters(config.policy.lora_rank)
            * BYTES[dtype]
        )
    found = {
        "weights": policy.weight_bytes(dtype) / shards,
        "lora": lora / shards,
        "activations": vllm_activations(policy, dtype, r.max_num_seqs or MOST_SEQUENCES) / shards,
        "vision": vision_activations(policy, config.policy.max_pixels, dtype),
    }
    return with_cache(found, config, r.gpus_per_engine, r.memory, policy.kv_bytes(dtype) / shards)


def sequences(config: Config, policy: Architecture | None) -> int:
    """Return how many completions an engine generates at once: rollout.max_num_seqs or, at 0, as
    many of full length as the cache holds, each group with one prompt of the longest kind.

    At least a group, at most MOST_SEQUENCES. policy: None where its sizes are not known.
    """
    r = config.rollout
    if r.max_num_seqs or policy is None:
        return r.max_num_seqs or MOST_SEQUENCES
    prompt = r.max_model_len - r.max_tokens
    held = engine_memory(config, policy)["cache_tokens"] / (r.max_tokens + prompt / r.group_size)
    return max(r.group_size, min(int(held), MOST_SEQUENCES))


def judge_memory(config: Config, judge: Architecture) -> dict[str, float]:
    """Return the bytes on one GPU of a judge replica, by use."""
    j = config.judge
    found = {
        "weights": judge.weight_bytes("bfloat16") / j.tensor_parallel,
        "activations": vllm_activations(judge, "bfloat16", j.max_num_seqs) / j.tensor_parallel,
    }
    return with_cache(
        found, config, j.gpus_per_replica, j.memory, judge.kv_bytes("bfloat16") / j.tensor_parallel
    )


def with_cache(
    found: dict[str, float], config: Config, gpus: float, memory: float, per_token: float
) -> dict[str, float]:
    """Add the key-value cache: on GPUs what is left of `memory` (a share), on CPUs `memory` itself
    (GiB).
    """
    if gpus > 0:
        found["context"] = CONTEXT
        cache = memory * gpu(config.placement.gpu).memory_gib * GIB - sum(found.values())
    else:
        cache = memory * GIB
    return found | {"kv_cache": cache, "cache_tokens": math.floor(max(0.0, cache) / per_token)}


def vllm_activations(a: Architecture, dtype: str, sequences: int) -> float:
    """Return the widest point of a forward pass of PREFILL_TOKENS, and the logits of `sequences`
    tokens in float32.
    """
    return PREFILL_TOKENS * (2 * a.mlp + 4 * a.hidden) * BYTES[dtype] + 2 * sequences * a.vocab * 4


def vision_activations(a: Architecture, max_pixels: int, dtype: str, images: int = 1) -> float:
    """Return the bytes of the frozen tower, without gradients: one block's working set and the
    pixels."""
    if a.vision is None:
        return 0.0
    v = a.vision
    patches = images * v.pixels(max_pixels) / v.patch**2
    return (
        patches * (8 * v.hidden + 2 * v.mlp) * BYTES[dtype]
        + patches * 3 * v.temporal * v.patch**2 * 4
    )


def learner_room(config: Config) -> float:
    """Return the bytes of its GPU that a rank may take. Where engines share it they sleep by then,
    and keep their context."""
    whole = gpu(config.placement.gpu).memory_gib * GIB
    if not config.placement.colocate:
        return whole * min(1.0, config.learner.gpus_per_rank)
    judge = config.judge.memory if judges_share_gpus(config) else 0.0
    return whole * (1 - judge) - CONTEXT


def recomputes(config: Config, policy: Architecture | None) -> bool:
    """Return whether activations are computed again: policy.gradient_checkpointing or, at "auto",
    where the fullest micro-batch would need more than ROOM of a rank's GPU. policy: None where its
    sizes are not known: again, then."""
    asked, r = config.policy.gradient_checkpointing, config.rollout
    if asked != "auto":
        return asked
    if config.learner.gpus_per_rank == 0:
        return False
    if policy is None:
        return True
    fullest = Lengths(r.max_model_len - r.max_tokens, r.max_tokens)
    needed = learner_memory(config, policy, fullest, recompute=False)
    return sum(needed.values()) > ROOM * learner_room(config)


def learner_memory(
    config: Config, policy: Architecture, lengths: Lengths, recompute: bool | None = None
) -> dict[str, float]:
    """Return the bytes on one rank, by use. The adapter and all that belongs to it is float32.
    recompute: None: as `recomputes` says.

    ZeRO-1 shares the optimizer's state among the ranks and keeps a copy of what trains, ZeRO-2
    shares gradients too, ZeRO-3 the weights."""
    c, dtype = config.learner, config.policy.dtype
    lora = 4 * policy.lora_parameters(config.policy.lora_rank)
    sharers = [c.ranks if c.zero_stage >= stage else 1 for stage in range(4)]  # from a stage on
    tokens = micro_batch_tokens(config, lengths)
    if recompute is None:
        recompute = recomputes(config, policy)
    found = {
        "weights": policy.weight_bytes(dtype) / sharers[3],
        "lora": lora / sharers[3],
        "gradients": lora / sharers[2],
        "optimizer": (3 if c.zero_stage else 2) * lora / sharers[1],
        "reduce": lora if c.ranks > 1 or c.zero_stage else 0.0,  # gradients side by side
        "activations": learner_activations(policy, tokens, dtype, recompute),
        "vision": vision_activations(policy, config.policy.max_pixels, dtype),
    }
    return found | ({"context": CONTEXT} if c.gpus_per_rank > 0 else {})


def micro_batch_tokens(config: Config, lengths: Lengths) -> float:
    """Return the tokens of a group behind one copy of its prompt (co-located: as many as there is
    room for), at most learner.micro_batch_tokens, at least one sequence of full length.
    """
    budget, size = config.learner.micro_batch_tokens, config.rollout.group_size
    group = lengths.prompt + size * lengths.completion
    longest = lengths.prompt + config.rollout.max_tokens
    return max(budget if config.placement.colocate else min(group, budget), longest)


def learner_activations(a: Architecture, tokens: float, dtype: str, checkpointing: bool) -> float:
    """Return what backward needs of `tokens`: with checkpointing each layer's input and one layer's
    insides.
    """
    layer = (
        tokens
        * (10 * a.hidden + 3 * a.mlp + 2 * (a.heads + a.kv_heads) * a.head_dim)
        * BYTES[dtype]
    )
    kept = (
        a.layers * tokens * a.hidden * BYTES[dtype] + layer if checkpointing else a.layers * layer
    )
    return kept + min(LOGITS_CHUNK, tokens * a.vocab * 4) * LOGITS_COPIES
