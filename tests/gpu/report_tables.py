"""The tables of docs/gpu.md: Markdown from rows of results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from geoagent_rl.plan.measured import Row, Run, case, rows, with_adapter
from tests.gpu.calibration import Compared, engine_compared, learner_compared, policy_of

NOT_RUN = "*Not run yet.*"


def table(head: Sequence[str], body: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(map(shown, line))} |" for line in lines)


def shown(value: Any) -> str:
    """A number to three digits, a distribution as "mean (most)"."""
    if isinstance(value, dict):
        return f"{value['mean']:.3g} ({value['max']:.2g})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | int):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def runs_table(runs: list[Run]) -> str:
    """Every run: script, card, when, versions; and what of it failed."""
    body = []
    for run in runs:
        first = run[0]
        versions = ", ".join(f"{k} {v}" for k, v in first["versions"].items())
        failed = [f"{row['section']}: {row['error']}" for row in run if row.get("failed")]
        notes = "; ".join([*([first["note"]] if "note" in first else []), *failed])
        body.append(
            [
                first["script"],
                first["case"],
                first["date"][:16].replace("T", " "),
                first["commit"],
                policy_of(run),
                f"CUDA {first['cuda']}, {versions}" if first["cuda"] else versions,
                notes,
            ]
        )
    head = ("script", "card", "when (UTC)", "commit", "policy", "versions", "notes; what failed")
    return table(head, body)


def title(run: Run) -> str:
    """Card, policy, form of the swap where it was set, and day."""
    asked, first = run[0]["asked"], run[0]
    more = ", ".join(word for word in asked.get("set", []) if word.startswith("rollout.swap"))
    named = ", ".join(filter(None, (first["case"], policy_of(run), more, first["date"][:10])))
    return f"### {named}"


def engine_parts(runs: list[Run]) -> str:
    return "\n\n".join(filter(None, map(engine_part, runs))) or NOT_RUN


def engine_part(run: Run) -> str:
    """One engine cycle: speed, phases, agreement, and the plan beside it; "" where nothing ran."""
    found = [title(run)]
    if rows(run, "engine"):
        found.append(speed_table(run))
    if rounds := [row for row in rows(run, "cycle") if "generate_s" in row]:
        found += [phase_table(rounds), agreement_table(rounds)]
    if precision := rows(run, "precision"):
        found.append(precision_table(precision))
    if refused := rows(run, "refused"):
        found.append(table(("weights", "refused"), [(r["case"], r["refused"]) for r in refused]))
    if compared := engine_compared(run):
        found.append(plan_table(compared))
    return "\n\n".join(found) if len(found) > 1 else ""


def plan_table(compared: list[Compared]) -> str:
    """Every number that `plan` has an opinion on, the unusual ones with the reason why they are."""
    body = [
        (
            c.what,
            f"{c.measured:,.4g} {c.unit}",
            f"{c.planned:,.4g} {c.unit}",
            c.measured / c.planned,
            c.unusual,
        )
        for c in compared
    ]
    return table(("against `plan`", "measured", "planned", "ratio", "not what is planned"), body)


def speed_table(run: Run) -> str:
    start, slept = case(run, "start", "engine"), case(run, "engine", "slept")
    assert start is not None
    body = [
        ("start, s", start["start_s"]),
        ("compiled, with CUDA graphs", not start["eager"]),
        ("model runner V2", start["v2_runner"]),
        ("tokens that the cache holds", start["kv_tokens"]),
    ]
    body += [
        (f"tokens/s, {row['case']}", row["tokens_s"])
        for row in rows(run, "engine")
        if row["case"] != "slept"
    ]
    if adapted := with_adapter(run):
        speeds = sorted(row["tokens_s"] for row in adapted)
        body.append(("tokens/s, with an adapter", f"{speeds[0]:,.0f} to {speeds[-1]:,.0f}"))
    if slept:
        body += [
            ("first sleep, s", slept["sleep_s"]),
            ("wake, s", slept["wake_s"]),
            ("GiB in use asleep", slept["sleep_GiB"]),
        ]
    return table(("engine", ""), body)


PHASES = ("generate", "sleep", "accumulate", "step", "swap")


def phase_table(rounds: list[Row]) -> str:
    """Seconds of each phase, and the GiB that the device has in use at its end."""
    body = []
    for row in rounds:
        cells = [
            f"{row[f'{name}_s']:.2f} s, {row[f'{name}_GiB']:.1f} GiB" if f"{name}_s" in row else ""
            for name in PHASES
        ]
        body.append([row["case"], *cells, row.get("learner_peak_GiB", "")])
    return table(("", *PHASES, "learner's peak, GiB"), body)


def agreement_table(rounds: list[Row]) -> str:
    names = ("agree", "stale", "sampler_gap", "learner_moved", "probe_gap")
    body = [[row["case"], *(row.get(name, "") for name in names)] for row in rounds]
    head = (
        "nats, mean (most)",
        "engine - learner, same weights",
        "learner one step on",
        "sampler gap",
        "a step moves the probe",
        "engine - learner on the probe",
    )
    return table(head, body)


def precision_table(found: list[Row]) -> str:
    head = ("nats, mean (most)", "engine", "learner", "engine - learner")
    body = [[row["case"], row["engine"], row["learner"], row["engine_learner"]] for row in found]
    return table(head, body)


def rounding_part(runs: list[Run]) -> str:
    """What rounding alone makes of log-probabilities: one network, then an engine and a learner."""
    head = ("one network, nats, mean (most)", "surprise of a token", "two ways", "float32 head")
    alone = [
        [row["case"], -row["mean_logprob"], row["passes"], row["fp32_head"], row["format"]]
        for run in runs
        for row in rows(run, "rounding")
    ]
    second = ("engine and learner, trained tiny policy", "surprise of a token", "same weights")
    pairs = [
        [told(run, row), -row["mean_logprob"], row["agree"], row["stale"]]
        for run in runs
        if run[0]["asked"].get("model")
        for row in rows(run, "cycle")
    ]
    first = table((*head, "bfloat16 - float32"), alone)
    return f"{first}\n\n{table((*second, 'learner one step on'), pairs)}"


def told(run: Run, row: Row) -> str:
    """Card, form of the swap, note and round."""
    start = case(run, "start", "engine")
    form = start["case"].removeprefix("engine, ") if start else ""
    words = (run[0]["case"], form, run[0].get("note", ""), row["case"])
    return ", ".join(filter(None, words))


def learner_parts(runs: list[Run]) -> str:
    return "\n\n".join(map(learner_part, runs)) or NOT_RUN


def learner_part(run: Run) -> str:
    """One learner bench: whole passes, TRL, attention, DeepSpeed."""
    found, ceiling = [title(run)], case(run, "ceilings", "")
    if ceiling:
        found.append(
            f"Ceiling: {ceiling['TFLOP_s']:.0f} TFLOP/s (product), {ceiling['copy_TB_s']:.2f} TB/s (copy)."
        )
    micro = [row for row in rows(run, "micro") if "mfu" in row]
    if micro:
        head = ("a micro-batch", "ms", "completion tokens/s", "share of ceiling", "peak GiB")
        cells = ("total_ms", "completion_tokens_s", "mfu", "peak_GiB")
        found.append(table(head, [[row["case"], *(row[c] for c in cells)] for row in micro]))
    if compared := learner_compared(run):
        found.append(plan_table(compared))
    if trl := rows(run, "trl"):
        head = ("a group, vision included", "ours, ms", "TRL's loss, ms", "TRL / ours", "cosine")
        body = [
            [
                row["case"],
                row["ours_group_ms"],
                row["theirs_group_ms"],
                1 / row["ratio"],
                row["cosine"],
            ]
            for row in trl
        ]
        found.append(table(head, body))
    if attention := rows(run, "attention"):
        head = ("attention, forward + backward, ms", "masked", "causal", "flex", "agree")
        body = [
            [
                row["case"],
                *(row[f"{w}_forward_ms"] + row[f"{w}_backward_ms"] for w in WAYS),
                row["agree"],
            ]
            for row in attention
        ]
        found.append(table(head, body))
    others = [row for name in ("vision", "logits", "deepspeed") for row in rows(run, name)]
    if others:
        body = [
            [row["section"], row["case"], times(row), row.get("peak_GiB", "")] for row in others
        ]
        found.append(table(("part", "case", "ms", "peak GiB"), body))
    return "\n\n".join(found)


WAYS = ("masked", "causal", "flex")


def times(row: Row) -> str:
    found = {k.removesuffix("_ms"): v for k, v in row.items() if k.endswith("_ms")}
    skipped = ("busy", "span")
    return ", ".join(f"{k} {v:.3g}" for k, v in found.items() if k not in skipped)


def judge_part(runs: list[Run]) -> str:
    """The judge of any script's run that asked it."""
    body = [
        [run[0]["case"], run[0]["date"][:10], row["case"], row["right"], row["of"]]
        for run in runs
        for row in rows(run, "judge")
    ]
    starts = [
        [
            run[0]["case"],
            run[0]["date"][:10],
            "start",
            f"{row['start_s']:.0f} s",
            row["quantization"],
        ]
        for run in runs
        for row in rows(run, "start")
        if row["case"] == "judge"
    ]
    head = ("card", "when", "judge", "as meant", "of")
    return table(head, starts + body) if starts or body else NOT_RUN
