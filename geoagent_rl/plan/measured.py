"""The constants that runs on real cards show: from the rows of a file such as docs/gpu.jsonl.

A file holds runs of the scripts in tests/gpu, one after the other; each begins with its set-up.
assets/gpu_measured.json has what docs/gpu.jsonl says, which `plan` reckons with unless it is given
another file (`plan --measured FILE`). What a file does not tell stays the estimate of rates.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from geoagent_rl.plan.rates import Rates
from geoagent_rl.policy.architecture import Architecture
from geoagent_rl.policy.sizes import PUBLISHED
from geoagent_rl.types import UserError

FILE = Path(__file__).parents[1] / "assets" / "gpu_measured.json"
CARDS = {"H100": "H100", "H200": "H200", "A100": "A100-80GB", "L40S": "L40S", "A40": "A40"}
SHAPES = {"3B": "Qwen2.5-VL-3B", "7B": "Qwen2.5-VL-7B", "tiny": "tiny-policy"}
RANK = 64  # of the adapters that the scripts use
Row = dict[str, Any]
Run = list[Row]  # the rows of one script, the set-up first
Sheet = tuple[float, float]  # GB/s and bf16 TFLOP/s


def plan_name(card: str) -> str:
    """Return a card's name in plan/gpus.py; "" for one that it does not know."""
    return next((known for word, known in CARDS.items() if word in card), "")


def read(file: Path) -> list[Run]:
    """Return the runs in a file. UserError for what is not such a file."""
    runs: list[Run] = []
    try:
        for line in file.read_text().splitlines():
            row = json.loads(line)
            if row["section"] == "set-up":
                runs.append([])
            runs[-1].append(row)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{file}: not a file of GPU measurements as tests/gpu writes them ({error})"
        ) from None
    return runs


def rows(run: Run, section: str) -> list[Row]:
    """Return the rows of a section that did not fail."""
    return [row for row in run if row["section"] == section and not row.get("failed")]


def case(run: Run, section: str, name: str) -> Row | None:
    """Return the first row of a section whose case begins so."""
    return next((row for row in rows(run, section) if row["case"].startswith(name)), None)


def shape_of(run: Run) -> Architecture:
    """Return the shape of the policy that a run measured."""
    return PUBLISHED[SHAPES[run[0]["asked"]["shape"]]]


def with_adapter(run: Run) -> list[Row]:
    """Return the cycle's whole rounds in which an adapter was served: all but the first."""
    return [row for row in rows(run, "cycle")[1:] if "swap_s" in row]


def is_packed(row: Row) -> bool:
    """Return whether a micro-batch was one packed row, in the adapters' fast form."""
    return row.get("rows") == [1] and "PEFT" not in row["case"] and "mfu" in row


def learner_flops(a: Architecture, tokens: float, completion: float, passes: int) -> float:
    """Return the operations of `passes` passes (3: reference, forward, backward; 4: activations
    again) over `tokens`, `completion` of which have logits. The base is frozen: only the adapter
    has gradients of weights."""
    linear, adapter = 2.0 * tokens * a.linear_parameters, 2.0 * tokens * a.lora_parameters(RANK)
    head = 2.0 * completion * a.hidden * a.vocab
    return passes * linear + passes * adapter + 3 * head


def engine_rates(run: Run, sheet: Sheet, read_share: float) -> dict[str, float]:
    """Return what an engine cycle shows: decoding, adapters, pictures, sleep, wake and swap."""
    a, asked, slept = shape_of(run), run[0]["asked"], case(run, "engine", "slept")
    known, new, rounds = (
        case(run, "engine", "known"),
        case(run, "engine", "new"),
        with_adapter(run),
    )
    if known is None or new is None or slept is None or not rounds:
        return {}
    sequences, tokens = asked["prompts"] * asked["group"], asked["tokens"]
    one = known["tokens"] / known["tokens_s"] / tokens
    cached = sequences * (known["prompt_tokens"] + tokens / 2) * a.kv_bytes("bfloat16")
    reading = (a.weight_bytes("bfloat16") + cached) / (sheet[0] * 1e9 * read_share)
    adapter = mean([row["generate_s"] for row in rounds]) / tokens
    prefill = 2.0 * a.parameters * asked["prompts"] * known["prompt_tokens"] / (sheet[1] * 1e12)
    first = new["tokens"] / new["tokens_s"] - one * tokens - prefill / Rates().prefill
    weights, lora = a.weight_bytes("bfloat16") / 1e9, 4 * a.lora_parameters(RANK) / 1e9
    return {
        "iteration_s": one - reading,
        "adapter_s": (adapter - one) / a.layers,
        "picture_s": max(0.0, first) / asked["prompts"],
        "sleep_gb_s": weights / mean([row["sleep_s"] for row in rows(run, "cycle")]),
        "wake_gb_s": weights / slept["wake_s"],
        "load_gb_s": lora / (mean([row["swap_s"] for row in rounds]) - slept["wake_s"]),
        "publish_gb_s": lora / mean([r["metrics"]["publish_seconds"] for r in rounds]),
        "optimizer_s": mean([r["step_s"] - r["metrics"]["publish_seconds"] for r in rounds]),
    }


def learner_rates(run: Run, sheet: Sheet) -> dict[str, float]:
    """Return what a learner bench shows: a rate, and the seconds of a pass beside it.

    Least squares over its packed micro-batches of relative errors of `work / rate + passes
    pass_s`."""
    a, points = shape_of(run), []
    for row in filter(is_packed, rows(run, "micro")):
        passes = 3 if "no recompute" in row["case"] else 4
        work = learner_flops(a, sum(row["padded"]), row["completion_tokens"], passes)
        seconds = row["total_ms"] / 1e3
        points.append((work / seconds, passes / seconds))
    found: dict[str, float] = {}
    if len(points) > 1:
        ww, wp, pp, w, p = (
            sum(x * x for x, _ in points),
            sum(x * y for x, y in points),
            sum(y * y for _, y in points),
            sum(x for x, _ in points),
            sum(y for _, y in points),
        )
        inverse = (w * pp - p * wp) / (ww * pp - wp * wp)
        found = {"learn": 1 / inverse / (sheet[1] * 1e12), "pass_s": (p - inverse * wp) / pp}
    ceiling, packed = case(run, "ceilings", ""), case(run, "micro", "d group, packed")
    if ceiling and packed:
        reached = packed["mfu_of"]["reference"] * ceiling["TFLOP_s"]
        found["prefill"] = reached / sheet[1]
    if ceiling:
        found["read"] = ceiling["copy_TB_s"] * 1e3 / sheet[0]
    if vision := case(run, "vision", "8 of"):
        grid = vision["case"].split("(")[1].split(")")[0].split(",")
        patches = int(grid[0]) * int(grid[1]) * int(grid[2])
        found["patch_s"] = vision["tower_ms"] / 1e3 / 8 / patches
    return found


def measured_rates(runs: Sequence[Run], sheets: dict[str, Sheet]) -> dict[str, dict[str, Any]]:
    """Return the constants of each card of `sheets` that the runs tell of: the newest ones."""
    found: dict[str, dict[str, Any]] = {}
    ordered = sorted(runs, key=lambda run: (run[0]["script"] == "engine_cycle", run[0]["date"]))
    for run in ordered:  # engine cycles last: they need the share of bandwidth
        name, first = plan_name(run[0]["case"]), run[0]
        if name not in sheets:
            continue
        so_far = found.get(name, {})
        if first["script"] == "engine_cycle":
            values = engine_rates(run, sheets[name], so_far.get("read", Rates().read))
        else:
            values = learner_rates(run, sheets[name])
        if values:
            rounded = {key: float(f"{value:.3g}") for key, value in values.items()}
            source = f"{first['case']}, {first['date'][:10]}"
            found[name] = so_far | rounded | {"source": source}
    return found


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


@cache
def packaged() -> dict[str, dict[str, Any]]:
    """Return the measured constants that come with the package, by card."""
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text())
    return found


def rates(gpu: str, measured: dict[str, dict[str, Any]]) -> Rates:
    """Return the constants of a GPU of plan/gpus.py: measured ones, else the estimates."""
    return replace(Rates(), **measured.get(gpu, {}))
