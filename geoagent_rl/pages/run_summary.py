"""The report's first lines: what the run was, and its outcome in a few figures."""

from __future__ import annotations

import math
from pathlib import Path

from geoagent_rl.pages.charts import number
from geoagent_rl.pages.page import render
from geoagent_rl.pages.recorded import ENDS, Recorded, change_of, points_of, setting
from geoagent_rl.pages.run_evaluation import splits

FACTS = {
    "model": "policy.model", "judge": "judge.model", "judge at an endpoint": "judge.endpoint.model",
    "encoder": "reward.encoder.model", "geocoder": "reward.geocoder.provider", "group size": "rollout.group_size",
    "prompts per step": "rollout.prompts_per_step", "temperature": "rollout.temperature", "learning rate": "learner.lr",
    "loss": "learner.loss", "KL weight": "learner.kl_beta", "LoRA rank": "policy.lora_rank",
    "max staleness": "max_staleness", "seed": "run.seed",
}  # fmt: skip


def header(run: Recorded) -> str:
    """Return the name of the run and its settings that matter most."""
    config, metrics = run.config, run.metrics
    facts = (
        [("steps", f"{number(metrics[-1]['step'])} of {setting(config, 'steps') or '?'}")]
        if metrics
        else []
    )
    only_there = setting(config, "judge.endpoint.url") and not setting(
        config, "judge.cascade.enabled"
    )
    facts += [
        (label, str(setting(config, key)))
        for label, key in FACTS.items()
        if setting(config, key) not in (None, "") and not (label == "judge" and only_there)
    ]
    manifest = setting(config, "data.manifest")
    source = Path(str(manifest or ""))
    facts += (
        [("training data", source.parent.name if source.stem == "manifest" else source.name)]
        if manifest
        else []
    )
    return render("run_summary.html", name=run.path.resolve().name, facts=facts)


def tiles(run: Recorded) -> str:
    """Return the outcome in large figures."""
    metrics, evaluation = run.metrics, run.evaluation
    found = []
    change = change_of(points_of(metrics, "reward_total_mean"))
    if change and len(metrics) >= 2 * ENDS:
        ratio = f" (×\u00a0{change[1] / change[0]:.2f})" if change[0] > 0 else ""
        label = f"mean reward, first {ENDS} → last {ENDS} GRPO steps{ratio}"
        found.append((f"{change[0]:.2f} → {change[1]:.2f}", label))
    for key, label, show in (
        ("geoscore", "GeoScore", number),
        ("format_valid", "valid format", "{:.1%}".format),
    ):
        for split in splits(evaluation)[:1]:
            before, after = (evaluation.get(s, {}).get(split, {}).get(key) for s in ("sft", "grpo"))
            if before is not None and after is not None:
                found.append(
                    (
                        f"{show(before)} → {show(after)}",
                        f"{label}, after SFT → after GRPO ({split})",
                    )
                )
    seconds = [y for _, y in points_of(metrics, "step_seconds")]
    if seconds:
        exposed = math.fsum(y for _, y in points_of(metrics, "reward_exposed_seconds"))
        found.append(
            (
                f"{math.fsum(seconds) / 60:.1f} min",
                f"GRPO; {exposed:.1f} s of it waiting for rewards",
            )
        )
    return render("tiles.html", tiles=found)
