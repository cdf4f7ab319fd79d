"""What `plan` says of the runs on a card, row by row: measured beside planned."""

from __future__ import annotations

from dataclasses import dataclass

from geoagent_rl.config import Config, load
from geoagent_rl.plan.costs import Costs
from geoagent_rl.plan.gpus import gpu
from geoagent_rl.plan.measured import (
    Row,
    Run,
    case,
    is_packed,
    mean,
    plan_name,
    rows,
    shape_of,
    with_adapter,
)
from geoagent_rl.plan.memory import (
    CONTEXT,
    GIB,
    Lengths,
    engine_memory,
    learner_activations,
)
from geoagent_rl.policy.sizes import PUBLISHED
from tests.gpu.results import ROOT
from tests.gpu.shapes import SHAPES

PROMPT = 400  # tokens of a prompt of learner_bench
FIRST_SLEEP = "the first sleep pins main memory, which stays"


@dataclass(frozen=True)
class Compared:
    """One number of a run. unusual: why `plan` does not mean this case; "" where it does."""

    what: str
    measured: float
    planned: float
    unit: str
    unusual: str = ""


def policy_of(run: Run) -> str:
    """What a run's policy was: a checkpoint's name, a family or a published shape."""
    asked = run[0]["asked"]
    return str(asked.get("model") or asked.get("family") or asked["shape"])


def is_planned(run: Run) -> bool:
    """Whether `plan` knows the card and the shape."""
    return bool(plan_name(run[0]["case"])) and policy_of(run) in ("3B", "7B")


def costs_of(run: Run, *more: str) -> Costs:
    """The cost model of a run's card and shape, with the values of its script."""
    asked = run[0]["asked"]
    values = {
        "placement.gpu": plan_name(run[0]["case"]),
        "policy.model": SHAPES[asked["shape"]],
        "judge.model": "tiny",
        "learner.micro_batch_tokens": 16384,
    }
    if "group" in asked:
        values |= {
            "rollout.group_size": asked["group"],
            "rollout.prompts_per_step": asked["prompts"],
            "rollout.max_tokens": asked["tokens"],
        }
    words = [f"{key}={value}" for key, value in values.items()] + asked.get("set", [])
    config: Config = load(ROOT / "configs" / "single-gpu.yaml", [*words, *more])
    known = case(run, "engine", "known")
    prompt = known["prompt_tokens"] if known else PROMPT
    lengths = Lengths(prompt, asked.get("tokens", 600))
    return Costs(config, shape_of(run), PUBLISHED["Qwen3-4B"], gpu(config.placement.gpu), lengths)


def engine_compared(run: Run) -> list[Compared]:
    """An engine cycle: memory, decoding, adapters, sleep, wake, publishing and swap."""
    if not is_planned(run):
        return []
    costs, asked = costs_of(run), run[0]["asked"]
    found, start = [], case(run, "start", "engine")
    if start is not None:
        engine = engine_memory(costs.config, costs.policy)
        whole = sum(value for name, value in engine.items() if name != "cache_tokens") / GIB
        resident = used_before(run, start)
        found += [
            Compared("engine, all of it", start["used_GiB"] - resident, whole, "GiB"),
            Compared("tokens in its cache", start["kv_tokens"], engine["cache_tokens"], ""),
        ]
    sequences, tokens = asked["prompts"] * asked["group"], asked["tokens"]
    bare = Costs(
        load(ROOT / "configs" / "single-gpu.yaml", ["rollout.swap=merged"]),
        costs.policy, costs.judge, costs.gpu, costs.lengths,
    )  # fmt: skip
    plain, adapted = (c.decode([tokens] * sequences) for c in (bare, costs))
    prompts = asked["prompts"] * costs.engine_prompt()
    for name, planned in (("new pictures", plain + prompts), ("known pictures", plain)):
        if row := case(run, "engine", name):
            seconds = row["tokens"] / row["tokens_s"]
            found.append(Compared(f"generating a step, {name}", seconds, planned, "s"))
    if slept := case(run, "engine", "slept"):
        found += [
            Compared("first sleep", slept["sleep_s"], costs.sleep(), "s", FIRST_SLEEP),
            Compared("wake", slept["wake_s"], costs.wake(), "s"),
            Compared("asleep", slept["sleep_GiB"] - run[0]["used_GiB"], CONTEXT / GIB, "GiB"),
        ]
    if start is not None and start["eager"] and (rounds := rows(run, "cycle")):
        eager = "no CUDA graphs, and what is compiled at the first requests"
        found += [
            Compared("generating, round 1", rounds[0]["generate_s"], adapted, "s", eager),
            Compared("sleep, round 1", rounds[0]["sleep_s"], costs.sleep(), "s", FIRST_SLEEP),
        ]
    return found + (cycle_compared(run, costs, adapted) if with_adapter(run) else [])


def cycle_compared(run: Run, costs: Costs, adapted: float) -> list[Compared]:
    """The rounds in which an adapter was served, on average."""
    rounds, asked = with_adapter(run), run[0]["asked"]

    def average(name: str) -> float:
        return mean([row[name] for row in rounds])

    published = mean([row["metrics"]["publish_seconds"] for row in rounds])
    old = "the learner of that commit: masked rows, PEFT's adapters, pictures again"
    learnt = asked["prompts"] * (costs.lengths.prompt + asked["group"] * asked["tokens"])
    completion = asked["prompts"] * asked["group"] * asked["tokens"]
    learning = costs.learn(learnt, completion) + costs.host(asked["prompts"])
    return [
        Compared("generating a step, with the adapter", average("generate_s"), adapted, "s"),
        Compared("sleep", average("sleep_s"), costs.sleep(), "s"),
        Compared("publishing", published, costs.publish(), "s"),
        Compared("optimizer", average("step_s") - published, costs.optimizer(), "s"),
        Compared("wake and swap", average("swap_s"), costs.wake() + costs.swap(), "s"),
        Compared("learning from a step", average("accumulate_s"), learning, "s", old),
    ]


def used_before(run: Run, start: Row) -> float:
    """GiB that were in use as the engine started."""
    return float(run[max(0, run.index(start) - 1)]["used_GiB"])


def learner_compared(run: Run) -> list[Compared]:
    """A learner bench, which holds no optimizer's state: peak memory and time of each case."""
    if not is_planned(run):
        return []
    found: list[Compared] = []
    for row in (row for row in rows(run, "micro") if "mfu" in row):
        recompute = "no recompute" not in row["case"]
        costs = costs_of(run, f"policy.gradient_checkpointing={str(recompute).lower()}")
        lora = 4 * costs.policy.lora_parameters(costs.config.policy.lora_rank)
        batches, tokens = len(row["rows"]), sum(row["padded"])
        widest = max(row["padded"])
        held = costs.policy.weight_bytes("bfloat16") + 2 * lora
        memory = held + learner_activations(costs.policy, widest, "bfloat16", recompute)
        seconds = costs.learn(tokens, row["completion_tokens"]) + costs.host(batches)
        unusual = "" if is_packed(row) else "not the learner's form on a GPU"
        found += [
            Compared(f"{row['case']}: peak", row["peak_GiB"], memory / GIB, "GiB", unusual),
            Compared(f"{row['case']}: time", row["total_ms"] / 1e3, seconds, "s", unusual),
        ]
    if vision := case(run, "vision", "8 of"):
        costs = costs_of(run, "policy.max_pixels=199920")  # 30 x 34 patches
        found.append(
            Compared("vision tower, 8 pictures", vision["tower_ms"] / 1e3, costs.look(8), "s")
        )
    return found
