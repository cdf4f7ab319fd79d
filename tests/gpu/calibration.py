"""What a run on a card says about the shares of its data sheet, and what `plan` says of the run."""

from __future__ import annotations

from typing import Any

from geoagent_rl.config import Config, load
from geoagent_rl.plan.gpus import GPUS, gpu
from geoagent_rl.plan.memory import GIB, Lengths, engine_memory, learner_activations
from geoagent_rl.plan.time import learner_seconds, rollout_seconds
from geoagent_rl.policy.architecture import Architecture
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


def work_of(run: Run) -> tuple[Config, Architecture, Lengths]:
    """Return an engine cycle's configuration, shape and lengths."""
    asked, found = run[0]["asked"], case(run, "engine", "known")
    assert found is not None
    lengths = Lengths(found["prompt_tokens"], asked["tokens"])
    return config_of(run), shape_of(asked["shape"]), lengths


def engine_constants(run: Run) -> dict[str, float | str]:
    """Return what an engine cycle shows of its card's shares: see plan/measured.py."""
    sheet = GPUS[plan_name(run[0]["case"])]
    config, shape, lengths = work_of(run)
    known, rounds = case(run, "engine", "known"), with_adapter(run)
    assert known is not None and rounds
    asked, sequences = run[0]["asked"], min(config.rollout.max_num_seqs, 64)
    plain = known["tokens"] / known["tokens_s"]
    adapter = mean([row["generate_s"] for row in rounds])
    cache = sequences * (lengths.prompt + lengths.completion / 2) * shape.kv_bytes("bfloat16")
    read = (shape.weight_bytes("bfloat16") + cache) * asked["tokens"]
    return {
        "bandwidth": round(read / (plain * sheet.gbytes_per_s * 1e9), 3),
        "adapter_cost": round(adapter / plain, 2),
    }


def packed(run: Run) -> list[Row]:
    """Return a learner bench's packed groups: with recomputation first."""
    found = [case(run, "micro", name) for name in ("d group, packed", "e as d, no recompute")]
    return [row for row in found if row is not None]


def learner_config(run: Run, row: Row) -> Config:
    """Return the configuration that `plan` reckons with for a case of a learner bench."""
    values = {
        "placement.gpu": plan_name(run[0]["case"]),
        "policy.model": SHAPES[run[0]["asked"]["shape"]],
        "policy.gradient_checkpointing": str("no recompute" not in row["case"]).lower(),
    }
    overrides = [f"{key}={value}" for key, value in values.items()]
    return load(ROOT / "configs" / "single-gpu.yaml", overrides)


def learner_constants(run: Run) -> dict[str, float | str]:
    """Return what a learner bench shows: the rate that a packed group reaches."""
    row = packed(run)[0]
    sheet = GPUS[plan_name(run[0]["case"])]
    config, shape = learner_config(run, row), shape_of(run[0]["asked"]["shape"])
    ideal = learner_seconds(config, shape, row["tokens"], sheet) * sheet.shares.learn
    return {"learn": round(1e3 * ideal / row["total_ms"], 3)}


def engine_compared(run: Run) -> list[tuple[str, float, float, str]]:
    """Return (what, measured, planned, unit) of an engine cycle."""
    config, shape, lengths = work_of(run)
    card, rounds = gpu(config.placement.gpu), with_adapter(run)
    start = case(run, "start", "engine")
    assert start is not None and rounds
    engine = engine_memory(config, shape)
    whole = sum(value for name, value in engine.items() if name != "cache_tokens")
    generated = mean([row["generate_s"] for row in rounds])
    planned = rollout_seconds(config, shape, lengths, card)
    return [
        ("engine, all of it", start["used_GiB"] - run[0]["used_GiB"], whole / GIB, "GiB"),
        ("tokens in its cache", start["kv_tokens"], engine["cache_tokens"], ""),
        ("generating a step, with the adapter", generated, planned, "s"),
    ]


def learner_compared(run: Run) -> list[tuple[str, float, float, str]]:
    """Return (what, measured, planned, unit) of a learner bench. It holds no optimizer's state."""
    shape, found = shape_of(run[0]["asked"]["shape"]), []
    for row in packed(run):
        config = learner_config(run, row)
        recompute = config.policy.gradient_checkpointing
        lora = 4 * shape.lora_parameters(config.policy.lora_rank)
        activations = learner_activations(shape, row["tokens"], "bfloat16", recompute)
        memory = shape.weight_bytes("bfloat16") + 2 * lora + activations
        seconds = learner_seconds(config, shape, row["tokens"], gpu(config.placement.gpu))
        found += [
            (f"{row['case']}: peak", row["peak_GiB"], memory / GIB, "GiB"),
            (f"{row['case']}: time", row["total_ms"] / 1e3, seconds, "s"),
        ]
    return found
