"""How long a step takes, roughly: a roofline of each part alone, and which part the others wait
for. See docs/plan.md.

What share of a GPU's data sheet is reached: plan/measured.py.
"""

from __future__ import annotations

import math
from typing import Any

from geoagent_rl.config import Config
from geoagent_rl.geo.providers import rate_per_s, remote_names
from geoagent_rl.plan.gpus import GPU
from geoagent_rl.plan.memory import Lengths
from geoagent_rl.policy.architecture import Architecture

JUDGE_PROMPT_NEW, JUDGE_ANSWER = (
    120,
    12,
)  # tokens of a judge call that no prefix cache has; of its answer


def estimate(
    config: Config,
    policy: Architecture,
    judge: Architecture,
    lengths: Lengths,
    step: dict[str, float],
    gpu: GPU,
) -> dict[str, Any]:
    """Seconds of each part alone, of the step, and the critical part."""
    seconds = {
        "rollout": rollout_seconds(config, policy, lengths, gpu),
        "learner": learner_seconds(config, policy, step["learner_tokens"], gpu),
        "judge": judge_seconds(config, judge, step["judge_calls"], gpu),
        "geocoder": geocoder_seconds(config, step["geocoder_calls"]),
    }
    streaming = max(seconds["rollout"], seconds["judge"], seconds["geocoder"])
    # At staleness 0 the last groups are learnt when all are there; with staleness all parts
    # overlap.
    total = streaming + seconds["learner"] if config.max_staleness == 0 else max(seconds.values())
    return {
        "seconds": seconds,
        "step_seconds": total,
        "critical": max(seconds, key=lambda part: seconds[part]),
    }


def decode_seconds(
    a: Architecture, weights: float, cache: float, sequences: float, gpus: int, gpu: GPU
) -> float:
    """One token for each of `sequences`: read weights and cache once, or compute, whichever is
    slower.
    """
    reading = (weights + cache) / (gpus * gpu.gbytes_per_s * 1e9 * gpu.shares.bandwidth)
    computing = 2 * a.parameters * sequences / (gpus * gpu.tflops * 1e12 * gpu.shares.decode)
    return max(reading, computing)


def rollout_seconds(config: Config, policy: Architecture, lengths: Lengths, gpu: GPU) -> float:
    """Return the seconds in which the engines generate one step."""
    r, dtype = config.rollout, config.policy.dtype
    prompts = math.ceil(r.prompts_per_step / r.engines)  # of the busiest engine
    together = min(prompts * r.group_size, r.max_num_seqs)
    waves = math.ceil(prompts * r.group_size / together)
    cache = together * (lengths.prompt + lengths.completion / 2) * policy.kv_bytes(dtype)
    one = decode_seconds(
        policy, policy.weight_bytes(dtype), cache, together, r.tensor_parallel, gpu
    )
    prefill = (
        2
        * policy.parameters
        * prompts
        * lengths.prompt
        / (r.tensor_parallel * gpu.tflops * 1e12 * gpu.shares.prefill)
    )
    longest = min(1.5 * lengths.completion, r.max_tokens)  # the step waits for it
    return prefill + waves * longest * one * (
        gpu.shares.adapter_cost if r.swap == "adapter" else 1.0
    )


def learner_seconds(config: Config, policy: Architecture, tokens: float, gpu: GPU) -> float:
    """Forward 2 and backward 2 FLOPs per parameter and token (frozen weights have no gradient), 2
    more to compute activations again, 2 more for the KL reference."""
    flops = 4 + 2 * config.policy.gradient_checkpointing + 2 * (config.learner.kl_beta > 0)
    return (
        flops
        * policy.parameters
        * tokens
        / (config.learner.ranks * gpu.tflops * 1e12 * gpu.shares.learn)
    )


def judge_seconds(config: Config, judge: Architecture, calls: float, gpu: GPU) -> float:
    """Return the seconds in which the judges answer `calls` questions."""
    j = config.judge
    if not j.has_engine:
        return calls / (j.endpoint.rate_per_s * max(1, len(j.endpoint.api_key_env)))
    if j.gpus_per_replica == 0:
        return 0.0
    gpus, share = j.replicas * j.tensor_parallel, min(1.0, j.gpus_per_replica)
    prefill = (
        2
        * judge.parameters
        * calls
        * JUDGE_PROMPT_NEW
        / (gpus * gpu.tflops * 1e12 * gpu.shares.prefill * share)
    )
    batches = math.ceil(calls / j.replicas / j.max_num_seqs)
    cache = j.max_num_seqs * JUDGE_PROMPT_NEW * judge.kv_bytes("bfloat16")
    weights = judge.weight_bytes("bfloat16")
    one = decode_seconds(judge, weights, cache, min(calls, j.max_num_seqs), j.tensor_parallel, gpu)
    return prefill + batches * JUDGE_ANSWER * one / share


def geocoder_seconds(config: Config, calls: float) -> float:
    """Return the slowest provider's shared rate limit."""
    g = config.reward.geocoder
    rates = [rate_per_s(g, name) for name in remote_names(g)]
    return calls / min(rates) if rates else 0.0
