"""report.html of a run directory: one self-contained file that opens offline and needs no script.

Reads what rundir.py describes (config.yaml, metrics.jsonl, sft_metrics.jsonl, eval.json,
rollouts.jsonl); what is absent is left out of the report. All texts are untrusted and escaped; a
content policy forbids any outside request."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from omegaconf import OmegaConf

from geoagent_rl.files import write_bytes
from geoagent_rl.metrics.table import describe, parts_measured
from geoagent_rl.pages.charts import curve, number, world_map
from geoagent_rl.pages.rollout_cards import (
    Row,
    card,
    choose,
    details,
    distance_km,
    part_color,
    weights_of,
)
from geoagent_rl.run.records import read_rows, record
from geoagent_rl.types import UserError

LATE_STEPS = 5  # rollouts of the last few steps stand for the trained policy
ENDS = 5  # steps averaged at each end of a curve
MAP_PAIRS = 200
STAGES = {
    "base": "before SFT",
    "sft": "after SFT",
    "sft_no_hedge": "after SFT, hedges banned (control)",
    "grpo": "after GRPO",
}
KILOMETRES = ("1", "25", "200", "750", "2500")
FACTS = {
    "model": "policy.model", "judge": "judge.model", "encoder": "reward.encoder.model",
    "geocoder": "reward.geocoder.provider", "group size": "rollout.group_size",
    "prompts per step": "rollout.prompts_per_step", "temperature": "rollout.temperature", "learning rate": "learner.lr",
    "loss": "learner.loss", "KL weight": "learner.kl_beta", "LoRA rank": "policy.lora_rank",
    "max staleness": "max_staleness", "seed": "run.seed",
}  # fmt: skip
OTHER_CURVES = {
    "kl": "KL to reference", "entropy": "entropy", "completion_tokens_mean": "completion length",
    "data_failure_share": "faulty answers", "step_seconds": "step time", "reward_exposed_seconds": "waited for rewards",
}  # fmt: skip
OTHER = "var(--other)"
SMALL, WIDE = (250, 150), (1040, 240)  # SVG units, about the pixels shown


def write_report(run: str | Path) -> Path:
    """Write report.html into the run directory and return its path. Raises UserError when there is
    nothing to show.
    """
    run = Path(run)
    metrics, evaluation = list(read_rows(run / "metrics.jsonl")), _json(run / "eval.json")
    if not metrics and not evaluation:
        raise UserError(f"{run} holds neither metrics.jsonl nor eval.json; give a run directory")
    config = _config(run / "config.yaml")
    early, late = ends_of(read_rows(run / "rollouts.jsonl"))
    body = [
        _header(run, config, metrics),
        _tiles(metrics, evaluation),
        _tables(evaluation),
        _curves(metrics, list(read_rows(run / "sft_metrics.jsonl"))),
        _map(late),
        _cards(early, late, config),
        _configuration(run / "config.yaml"),
    ]
    write_page(run / "report.html", f"GeoAgent-RL · {run.resolve().name}", body)
    return run / "report.html"


def write_page(path: Path, title: str, body: Iterable[str]) -> None:
    """Write a self-contained page in the report's style. `body` is HTML, `title` plain text."""
    assets = files("geoagent_rl") / "assets"
    page = Template((assets / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        css=(assets / "report.css").read_text(encoding="utf-8"),
        body="\n".join(part for part in body if part),
    )
    write_bytes(path, page.encode("utf-8", "replace"))


def ends_of(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """(rollouts of the first step, rollouts of the last LATE_STEPS steps); memory does not grow
    with the run.
    """
    early: list[Row] = []
    late: deque[list[Row]] = deque(maxlen=LATE_STEPS)
    for row in rows:
        if not late or late[-1][0]["step"] != row["step"]:
            late.append([])
        late[-1].append(row)
        if row["step"] == (early[0]["step"] if early else row["step"]):
            early.append(row)
    return early, [row for step in late for row in step]


def unhedging(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """How much of the rise after SFT the control reaches without training; "" where a stage is
    missing.
    """
    try:
        sft, control, grpo = (
            float(stages[s]["reward_total"]) for s in ("sft", "sft_no_hedge", "grpo")
        )
    except (KeyError, TypeError):
        return ""
    if not all(map(math.isfinite, (sft, control, grpo))) or grpo <= sft:
        return ""
    share = (control - sft) / (grpo - sft)
    return (
        f"Of the rise in mean reward from {sft:.2f} to {grpo:.2f}, {control - sft:+.2f} ({share:.0%}) is reached "
        "without any training by forbidding the SFT policy its hedging words; the rest is more than un-hedging."
    )


def _header(run: Path, config: Mapping[str, Any], metrics: Sequence[Row]) -> str:
    facts = (
        [("steps", f"{number(metrics[-1]['step'])} of {_get(config, 'steps') or '?'}")]
        if metrics
        else []
    )
    facts += [
        (label, str(_get(config, key)))
        for label, key in FACTS.items()
        if _get(config, key) not in (None, "")
    ]
    manifest = _get(config, "data.manifest")
    source = Path(str(manifest or ""))
    facts += (
        [("training data", source.parent.name if source.stem == "manifest" else source.name)]
        if manifest
        else []
    )
    items = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in facts
    )
    about = "Where was this photograph taken? A policy trained by SFT, then by GRPO with rewards that can be explained."
    name = escape(run.resolve().name)
    return f'<h1>GeoAgent-RL · {name}</h1><p class="muted">{about}</p><dl class="card">{items}</dl>'


def _tiles(metrics: Sequence[Row], evaluation: Mapping[str, Any]) -> str:
    tiles = []
    change = _change(_points(metrics, "reward_total_mean"))
    if change and len(metrics) >= 2 * ENDS:
        ratio = f" (× {change[1] / change[0]:.2f})" if change[0] > 0 else ""
        label = f"mean reward, first {ENDS} → last {ENDS} GRPO steps{ratio}"
        tiles.append((f"{change[0]:.2f} → {change[1]:.2f}", label))
    for key, label, show in (
        ("geoscore", "GeoScore", number),
        ("format_valid", "valid format", "{:.1%}".format),
    ):
        for split in _splits(evaluation)[:1]:
            before, after = (evaluation.get(s, {}).get(split, {}).get(key) for s in ("sft", "grpo"))
            if before is not None and after is not None:
                tiles.append(
                    (
                        f"{show(before)} → {show(after)}",
                        f"{label}, after SFT → after GRPO ({split})",
                    )
                )
    seconds = [y for _, y in _points(metrics, "step_seconds")]
    if seconds:
        exposed = math.fsum(y for _, y in _points(metrics, "reward_exposed_seconds"))
        tiles.append(
            (
                f"{math.fsum(seconds) / 60:.1f} min",
                f"GRPO; {exposed:.1f} s of it waiting for rewards",
            )
        )
    cells = "".join(
        f'<div class="card tile"><b>{escape(b)}</b><span>{escape(s)}</span></div>' for b, s in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _tables(evaluation: Mapping[str, Any]) -> str:
    out = []
    for split in _splits(evaluation):
        stages = {
            stage: evaluation[stage][split]
            for stage in _stages(evaluation)
            if split in evaluation[stage]
        }
        scale = next(
            (m["geoscore_scale_km"] for m in stages.values() if "geoscore_scale_km" in m), None
        )
        right = [f"{level}<br>right" for level in ("country", "region", "place")]
        heads = [
            "",
            "n",
            "failed",
            *(f"≤ {k}<br>km" for k in KILOMETRES),
            "median<br>km",
            "mean<br>km",
        ]
        heads += ["Geo-<br>Score", "valid<br>format", *right, "mean<br>reward"]
        about = (
            f' <span class="muted small">GeoScore scale {number(scale)} km</span>' if scale else ""
        )
        rows = "".join(_table_row(stage, m) for stage, m in stages.items())
        note = unhedging(stages)
        out.append(
            f'<div class="card wide"><h3>{escape(split)}{about}</h3><div class="scroll"><table><tr>'
            f"{''.join(f'<th>{h}</th>' for h in heads)}</tr>{rows}</table></div>"
            + (f'<p class="small">{escape(note)}</p>' if note else "")
            + "</div>"
        )
    if not out:
        return ""
    note = "Great-circle distance; an answer that cannot be located counts as a miss. GeoScore = 5000 exp(−d / scale)."
    return f'<h2>Evaluation</h2><p class="muted small">{note}</p>{"".join(out)}'


def _table_row(stage: str, m: Mapping[str, Any]) -> str:
    hit = m.get("hit", {})
    cells = [
        number(m.get("n", 0)),
        number(m.get("failed", 0)),
        *(_share(hit.get(k)) for k in KILOMETRES),
    ]
    cells += [
        _value(m.get("median_km"), 0),
        _value(m.get("mean_km"), 0),
        _value(m.get("geoscore"), 0),
    ]
    cells += [_share(m.get(k)) for k in ("format_valid", "country_acc", "region_acc", "place_acc")]
    cells.append(_value(m.get("reward_total"), 2))
    kind = {"sft_no_hedge": "control", "grpo": "final"}.get(stage, "")
    name = escape(STAGES.get(stage, stage))
    return f'<tr class="{kind}"><td>{name}</td>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'


def _curves(metrics: Sequence[Row], sft: Sequence[Row]) -> str:
    out = []
    total = _points(metrics, "reward_total_mean")
    if total:
        out.append(
            f'<div class="wide">{_curve(total, "total reward", "var(--total)", WIDE)}</div><div class="curves">'
        )
        for i, part in enumerate(parts_measured(dict.fromkeys(n for row in metrics for n in row))):
            points = _points(metrics, f"reward_{part}_mean")
            out.append(_curve(points, part.replace("_", " "), part_color(i), floor=0.0))
        out.append("</div>")
    others = [
        (_points(metrics, key), f"{label} ({describe(key)[0]})")
        for key, label in OTHER_CURVES.items()
    ]
    others.insert(0, (_points(sft, "loss"), "SFT loss"))
    shown = [_curve(points, label, OTHER, floor=0.0) for points, label in others if points]
    if shown:
        out.append(f'<h2>Training</h2><div class="curves">{"".join(shown)}</div>')
    note = "Dots: batch mean of each GRPO step, before weighting (total: weighted). Line: average over 5 steps."
    head = f'<h2>Reward by component</h2><p class="muted small">{note}</p>' if total else ""
    return head + "".join(out)


def _curve(
    points: Sequence[tuple[float, float]],
    label: str,
    color: str,
    size: tuple[int, int] = SMALL,
    floor: float | None = None,
) -> str:
    change = _change(points)
    ends = (
        f"{change[0]:.2f} → {change[1]:.2f}"
        if change and len(points) >= 2 * ENDS and color != OTHER
        else ""
    )
    swatch = f'<i class="swatch" style="--c:{color}"></i>'
    svg = curve(points, label, color, size, floor)
    return f'<div class="card"><div class="head"><h3>{swatch}{escape(label)}</h3><span>{ends}</span></div>{svg}</div>'


def _map(late: Sequence[Row]) -> str:
    pairs, seen = [], set()
    for row in reversed(late):
        found, truth = details(row, "spatial"), row["truth"]
        if row["uid"] in seen or distance_km(row) is None or found.get("lat") is None:
            continue
        seen.add(row["uid"])
        name = ", ".join(n for n in (truth["place"], truth["region"], truth["country"]) if n)
        hover = f"{name} → {found.get('name', '')}: {distance_km(row):,.0f} km"
        pairs.append(((truth["lat"], truth["lon"]), (found["lat"], found["lon"]), hover))
    if not pairs:
        return ""
    pairs = pairs[:MAP_PAIRS]
    note = f"One rollout for each of {len(pairs)} photographs of the last steps. Grey dots: cities."
    legend = '<i class="key truth"></i>true place<i class="key guess"></i>where the answer lies, joined by a line'
    caption = f'<p class="muted small">{note}{legend}</p>'
    return f'<h2>True and predicted places</h2><div class="card">{world_map(pairs)}{caption}</div>'


def _cards(early: Sequence[Row], late: Sequence[Row], config: Mapping[str, Any]) -> str:
    weights = weights_of(config)
    cards = "".join(card(label, row, weights) for label, row in choose(early, late))
    note = "Drawn from the last steps by reward, with failures, and two of the first step for comparison."
    return f'<h2>Sample rollouts</h2><p class="muted small">{note}</p>{cards}' if cards else ""


def _configuration(path: Path) -> str:
    if not path.is_file():
        return ""
    text = escape(path.read_text(encoding="utf-8"))
    return f"<h2>Configuration</h2><details><summary>config.yaml as it ran</summary><pre>{text}</pre></details>"


def _points(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    found = ((row.get("step", i + 1), row.get(key)) for i, row in enumerate(rows))
    return [(x, y) for x, y in found if isinstance(y, (int, float)) and math.isfinite(y)]


def _change(points: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    values = [y for _, y in points]
    first, last = values[:ENDS], values[-ENDS:]
    return (math.fsum(first) / len(first), math.fsum(last) / len(last)) if values else None


def _stages(evaluation: Mapping[str, Any]) -> list[str]:
    return [s for s in STAGES if s in evaluation] + sorted(set(evaluation) - set(STAGES))


def _splits(evaluation: Mapping[str, Any]) -> list[str]:
    return list(
        dict.fromkeys(split for stage in _stages(evaluation) for split in evaluation[stage])
    )


def _share(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.1%}"


def _value(value: float | None, digits: int) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def _get(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _config(path: Path) -> Mapping[Any, Any]:
    if not path.is_file():
        return {}
    settings = OmegaConf.to_container(OmegaConf.load(path))
    return settings if isinstance(settings, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    return (record(path.read_bytes()) or {}) if path.is_file() else {}
