"""The metric table: every metric's name, unit and meaning.

metrics.jsonl, TensorBoard, `ray.util.metrics`, W&B, the report, the monitor, the Grafana dashboard
and docs/metrics.md use these names. Metrics of one part of the reward are described once, with
{part} for its name, and exist for every part that a run scores, built-in or the user's own
(reward.custom). What the samples of a batch say is computed in batch.py, times in spans.py."""

from __future__ import annotations

import re
from collections.abc import Iterable

CACHED = ("geocode", "similarity", "judge")  # what reward services cache
SERVICES = ("geo_embed", "judge")  # deployments that have replicas
QUANTILES = {"q10": 0.1, "q50": 0.5, "q90": 0.9}
LATENCY_QUANTILES = {"q50": 0.5, "q95": 0.95}
PART = "{part}"
KEY = "{key}"  # of a number below reward (spatial_tau_km), or a domain; underscores for other signs
# What a part of the reward cannot be called: these names of metrics are taken.
TAKEN = ("total", "rollout", "scoring")

# name -> (unit, meaning), by section
PROGRESS: dict[str, tuple[str, str]] = {
    "step": ("count", "optimizer step, from 1"),
    "prompts": (
        "count",
        "prompts that the run has taken so far, dropped ones included (grpo/sampling.py)",
    ),
    "version": ("count", "policy version that generated this batch (the oldest in it)"),
    "curriculum_epoch": ("count", "mean epoch of the step's photographs, from 1 (curriculum)"),
    "curriculum_stage": ("count", "mean stage of the step's photographs, from 1, the easiest"),
    "domain_share_{key}": ("share", "photographs of the step of the domain {key} (curriculum.mix)"),
    "staleness_mean": (
        "versions",
        "mean number of updates between the version that generated a sample and its use",
    ),
    "staleness_max": ("versions", "the same, of the stalest sample"),
}
REWARDS: dict[str, tuple[str, str]] = {
    "reward_total_mean": ("reward", "mean weighted total over scored samples"),
    "reward_total_std": ("reward", "standard deviation of the total over scored samples"),
    **{
        f"reward_total_{q}": ("reward", f"{at} quantile of the total over scored samples")
        for q, at in QUANTILES.items()
    },
    "reward_{part}_mean": (
        "score",
        "mean {part} score over samples in which it is known, before weighting",
    ),
    "reward_{part}_std": ("score", "standard deviation of the {part} score"),
    **{
        f"reward_{PART}_{q}": ("score", f"{at} quantile of the {PART} score")
        for q, at in QUANTILES.items()
    },
    "scheduled_{key}": (
        "",
        "reward.{key} for answers of this batch's version, where reward.schedules changes it",
    ),
    "validation_reward": (
        "reward",
        "mean total reward on held-out pictures after the step (run.validate_every)",
    ),
    "advantage_abs_mean": ("advantage", "mean absolute advantage"),
    "advantage_std": ("advantage", "standard deviation of the advantages over all samples"),
    "zero_variance_share": ("share", "groups whose advantages are all 0"),
}
SAMPLES: dict[str, tuple[str, str]] = {
    "unscorable_share": ("share", "samples left out because a required reward part failed"),
    "unscorable_share_{part}": (
        "share",
        "samples whose {part} part failed for want of a machine or service",
    ),
    "data_failure_share": (
        "share",
        "samples with at least one reward part scored as a failure of the answer itself",
    ),
    "data_failure_share_{part}": (
        "share",
        "samples whose {part} part is a failure of the answer itself",
    ),
    "lost_groups": ("count", "prompts left out because no engine completed them"),
    "bad_image_share": ("share", "prompts left out because their picture could not be decoded"),
    "truncated_share": ("share", "completions cut off at rollout.max_tokens"),
    "completion_tokens_mean": ("tokens", "mean completion length"),
    "completion_tokens_q90": ("tokens", "0.9 quantile of the completion length"),
    "completion_tokens_max": ("tokens", "longest completion"),
    "prompt_tokens_mean": ("tokens", "mean prompt length, image tokens included"),
}
LEARNING: dict[str, tuple[str, str]] = {
    "loss": ("loss", "policy loss of the step"),
    "kl": ("nats", "mean k3 estimate of KL(policy || reference) per token"),
    "entropy": ("nats", "mean token entropy at the sampling temperature"),
    "clip_fraction": ("share", "tokens whose ratio was clipped"),
    "importance_weight": (
        "ratio",
        "mean truncated importance weight per token (learner.importance)",
    ),
    "grad_norm": ("norm", "gradient norm before clipping"),
    "lr": ("1", "learning rate of the step"),
    "sampler_gap": (
        "nats",
        "mean difference of learner and engine log-probabilities; in float32 far above 1e-3: a "
        "mismatch; in bfloat16 0.003 to 0.15 is rounding (docs/gpu.md)",
    ),
    "train_tokens": ("tokens", "completion tokens in the loss"),
    "step_skipped": (
        "0/1",
        "1: no update: a loss or gradient not finite or beyond bounds, or no sample scored",
    ),
    "steps_skipped": ("count", "steps without an update so far"),
}
TIMES: dict[str, tuple[str, str]] = {
    "tokens_per_s": ("tokens/s", "completion tokens over the step's wall time"),
    "step_seconds": ("s", "wall time of the step"),
    "rollout_busy_seconds": (
        "s",
        "time in which at least one completion, of this step or a later one, was being generated",
    ),
    "reward_busy_seconds": (
        "s",
        "time in which at least one sample, of this step or a later one, was being scored",
    ),
    "learn_busy_seconds": ("s", "time in which the learner was accumulating or stepping"),
    "learn_seconds": ("s", "the learner's own account of its work, publishing left out"),
    "publish_seconds": ("s", "writing the new policy version and its probe"),
    "swap_seconds": ("s", "time from a new policy version to all engines having it"),
    "reward_exposed_seconds": (
        "s",
        "learner idle while the group whose turn it was lay generated and unscored",
    ),
    "rollout_wait_seconds": (
        "s",
        "learner idle while the group whose turn it was was being generated",
    ),
    "bound_seconds": (
        "s",
        "T* = max(rollout, reward, learn busy), rollout + learn where they share GPUs: the step "
        "cannot be shorter with these parts",
    ),
    "efficiency": ("share", "T* / wall time of the step"),
    "save_seconds": (
        "s",
        "time that the checkpoint after the step before held the run up; writing goes on beside it",
    ),
    "validation_seconds": ("s", "time that the validation after the step took"),
}
LATENCIES: dict[str, tuple[str, str]] = {
    **{
        f"latency_{what}_{q}": ("s", f"{at} quantile, over samples, of {meaning}")
        for what, meaning in {
            "rollout": "the time from a prompt's submission to a finished completion",
            "scoring": "the time from a finished completion to its total reward",
            PART: f"the time that the {PART} part took, retries included",
        }.items()
        for q, at in LATENCY_QUANTILES.items()
    },
    "rollout_queue_mean": (
        "samples",
        "completions being generated or waiting for it, averaged over the step",
    ),
    "scoring_queue_mean": (
        "samples",
        "samples being scored or waiting for it, averaged over the step",
    ),
    "scoring_queue_max": ("samples", "most samples being scored or waiting for it at one time"),
}
CACHES: dict[str, tuple[str, str]] = {
    "cache_hit_share": ("share", "reward service items answered from the cache"),
    **{f"cache_hit_share_{k}": ("share", f"{k} items answered from the cache") for k in CACHED},
}
JUDGE: dict[str, tuple[str, str]] = {
    "judge_raised_share": (
        "share",
        "verdicts of the step for which a cascade asked the large judge (judge.cascade)",
    ),
    "judge_agreement": (
        "share",
        "questions that both judges of a cascade were given by sampling and answer alike",
    ),
}
MACHINES: dict[str, tuple[str, str]] = {
    "unsaved_checkpoints": (
        "count",
        "checkpoints that the disk did not take, since the run was started or resumed",
    ),
    **{f"replicas_{s}": ("count", f"running replicas of the {s} service") for s in SERVICES},
    "nodes": ("count", "nodes of the cluster that are alive"),
    "node_cpu_share": ("share", "processor time used on the driver's node, over all its cores"),
    "node_memory_gib": ("GiB", "memory used on the driver's node"),
    "driver_memory_gib": ("GiB", "resident memory of the driver process"),
    "gpu_share": ("share", "mean utilisation of the driver's node's GPUs (nvidia-smi)"),
    "gpu_memory_gib": ("GiB", "memory used on the driver's node's GPUs, summed"),
}
SECTIONS = {
    "Progress": PROGRESS, "Rewards": REWARDS, "Samples": SAMPLES, "Learning": LEARNING, "Times": TIMES,
    "Latencies and queues": LATENCIES, "Caches": CACHES, "Judge": JUDGE, "Machines": MACHINES,
}  # fmt: skip
TABLE = {name: about for section in SECTIONS.values() for name, about in section.items()}
OF_A_PART = {
    name: re.compile(re.escape(name).replace(re.escape(open_), r"(\w+)"))
    for name in TABLE
    for open_ in (PART, KEY)
    if open_ in name
}


def metrics(parts: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return {name: (unit, meaning)} of every metric of a run that scores these parts."""
    parts = list(parts)
    return {name: describe(name) for row in TABLE for name in names_of(row, parts)}


def names_of(row: str, parts: Iterable[str]) -> list[str]:
    """Return the names of a row's metrics: one, or one for each part of the reward; none of
    scheduled numbers and domains, which only some runs have.
    """
    if KEY in row:
        return []
    return [row.replace(PART, part) for part in parts] if PART in row else [row]


def is_metric(name: str) -> bool:
    """Return whether the table has a metric of this name, of whatever part of the reward."""
    return name in TABLE or bool(row_of(name)[0])


def describe(name: str) -> tuple[str, str]:
    """Return (unit, meaning) of a metric. Raises KeyError where the table has none such."""
    row, part = (name, "") if name in TABLE else row_of(name)
    unit, meaning = TABLE[row]
    return unit, meaning.replace(PART, part).replace(KEY, part)


def parts_measured(names: Iterable[str]) -> list[str]:
    """Return the parts of the reward whose mean is among the names of metrics, in their order."""
    found = (row_of(name) for name in names if name not in TABLE)
    return list(dict.fromkeys(part for row, part in found if row == "reward_{part}_mean"))


def row_of(name: str) -> tuple[str, str]:
    """Return (row of the table, part or key) of a metric of one; ("", "") for another name."""
    for row, form in OF_A_PART.items():
        if found := form.fullmatch(name):
            return row, found[1]
    return "", ""
