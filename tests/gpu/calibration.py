"""What a run on a card says about the shares of its data sheet, and what `plan` says of the run."""

from __future__ import annotations

from typing import Any

from geoagent_rl.config import Config, load
from geoagent_rl.plan.gpus import GPUS
from geoagent_rl.plan.memory import GIB, Lengths, engine_memory, learner_memory
from geoagent_rl.plan.time import learner_seconds, rollout_seconds
from geoagent_rl.policy.sizes import Architecture
from tests.gpu.results import ROOT
from tests.gpu.shapes import SHAPES, shape_of

Row = dict[str, Any]
Run = list[Row]  # the rows of one script, the set-up first
CARDS = {"H100": "H100", "H200": "H200", "A100": "A100-80GB", "L40S": "L40S", "A40": "A40"}


def plan_name(card: str) -> str:
    """Return a card's name in plan/gpus.py; "" for one that it does not know."""
    return next((known for word, known in CARDS.items() if word in card), "")


def rows(run: Run, section: str) -> list[Row]:
    return [row for row in run if row["section"] == section and not row.get("failed")]


def case(run: Run, section: str, name: str) -> Row | None:
    return next((row for row in rows(run, section) if row["case"].startswith(name)), None)


def config_of(run: Run) -> Config:
    """Return the configuration of an engine cycle, as its script made it."""
    asked = run[0]["asked"]
    values = {
        "placement.gpu": plan_name(run[0]["case"]),
        "policy.model": SHAPES[asked["shape"]],
        "judge.model": "tiny",
        "rollout.group_size": asked["group"],
        "rollout.prompts_per_step": asked["prompts"],
        "rollout.max_tokens": asked["tokens"],
    }
    overrides = [f"{key}={value}" for key, value in values.items()]
    return load(ROOT / "configs" / "single-gpu.yaml", overrides + asked["set"])


def with_adapter(run: Run) -> list[Row]:
    """Return the cycle's rounds in which an adapter was served: all but the first."""
    return rows(run, "cycle")[1:]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def work_of(run: Run) -> tuple[Config, Architecture, Lengths, float]:
    """Return an engine cycle's configuration, shape, lengths, and the tokens it learns from."""
    asked = run[0]["asked"]
    found = case(run, "engine", "known")
    assert found is not None
    lengths = Lengths(found["prompt_tokens"], asked["tokens"])
    samples = asked["group"] * asked["prompts"]
    return config_of(run), shape_of(asked["shape"]), lengths, samples * lengths.sequence


def constants(run: Run) -> dict[str, float | str]:
    """Return the shares that an engine cycle shows: see plan/measured.py."""
    gpu = GPUS[plan_name(run[0]["case"])]
    config, shape, lengths, tokens = work_of(run)
    known, rounds = case(run, "engine", "known"), with_adapter(run)
    assert known is not None and rounds
    asked, sequences = run[0]["asked"], min(config.rollout.max_num_seqs, 64)
    plain = known["tokens"] / known["tokens_s"]
    adapter = mean([row["generate_s"] for row in rounds])
    cache = sequences * (lengths.prompt + lengths.completion / 2) * shape.kv_bytes("bfloat16")
    read = (shape.weight_bytes("bfloat16") + cache) * asked["tokens"]
    learn = mean([row["accumulate_s"] for row in rounds])
    ideal = learner_seconds(config, shape, tokens, gpu) * gpu.shares.learn
    return {
        "bandwidth": round(read / (plain * gpu.gbytes_per_s * 1e9), 3),
        "adapter_cost": round(adapter / plain, 2),
        "learn": round(ideal / learn, 3),
        "source": f"{run[0]['case']}, {run[0]['date'][:10]}, {asked['shape']}",
    }


def compared(run: Run) -> list[tuple[str, float, float, str]]:
    """Return (what, measured, planned, unit) of an engine cycle."""
    from geoagent_rl.plan.gpus import gpu

    config, shape, lengths, tokens = work_of(run)
    card, rounds = gpu(config.placement.gpu), with_adapter(run)
    start = case(run, "start", "engine")
    assert start is not None and rounds
    engine = engine_memory(config, shape)
    whole = sum(value for name, value in engine.items() if name != "cache_tokens")
    learner = learner_memory(config, shape, lengths)
    torch_only = sum(value for name, value in learner.items() if name != "context")
    learnt = mean([row["accumulate_s"] for row in rounds])
    generated = mean([row["generate_s"] for row in rounds])
    return [
        ("engine, all of it", start["used_GiB"] - run[0]["used_GiB"], whole / GIB, "GiB"),
        ("tokens in its cache", start["kv_tokens"], engine["cache_tokens"], ""),
        (
            "learner, peak of torch's allocations",
            max(row["learner_peak_GiB"] for row in rounds),
            torch_only / GIB,
            "GiB",
        ),
        (
            "generating a step, with the adapter",
            generated,
            rollout_seconds(config, shape, lengths, card),
            "s",
        ),
        ("learning a step", learnt, learner_seconds(config, shape, tokens, card), "s"),
    ]
