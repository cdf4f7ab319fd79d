"""Ablation rows and what their results say: means over seeds with intervals, and which of the
paper's orderings hold.

A row is a YAML file (configs/ablations/): where it starts, whether GRPO runs, and documented
overrides. Intervals are Student's t over seeds at 95 %; orderings compare two rows seed by seed
(same start, same held-out photographs), so the interval is that of the mean paired difference.
Pure: knows nothing of Ray, and reads no results but those it is given."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from geoagent_rl.evaluation import published
from geoagent_rl.types import AnswerForm, UserError

# The paper's columns (GeoSeek-Val): hit rates in percent within these distances.
COLUMNS = {"city": "25", "region": "200", "country": "750"}
# What a row may change: the sections that a job reads anew for each row. Engines, services and data
# are shared.
MAY_CHANGE = ("reward.weights.", "reward.required", "reward.spatial.", "reward.semantic.", "reward.consistency.",
              "reward.format.", "reward.exact_match.", "learner.", "steps")  # fmt: skip
GRID_PARTS = ("spatial", "semantic", "consistency")


@dataclass(frozen=True)
class AblationRow:
    """One line of the table. `paper`: percent by column of the paper's same row, empty where it has
    none; a row's file gives that row's name in evaluation/published.py."""

    name: str
    title: str
    order: int
    start: str  # "base" or "sft": the checkpoint that is evaluated or that GRPO starts from
    grpo: bool
    overrides: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, float] = field(default_factory=dict)

    def dotlist(self) -> list[str]:
        """Return the overrides as config.load takes them."""
        return [
            f"{key}={json.dumps(v) if isinstance(v, list | tuple) else v}"
            for key, v in self.overrides.items()
        ]

    @property
    def answer(self) -> AnswerForm:
        """Return the form of its answers."""
        form: AnswerForm = self.overrides.get("policy.answer", "levels")
        return form

    @property
    def cold_start(self) -> str:
        """Return the name of the row whose policy it starts from, "" for the base."""
        return sft_name(self.answer) if self.start == "sft" else ""


@dataclass(frozen=True)
class Claim:
    """An ordering that the paper reports: `better` is above `worse` in all its columns."""

    better: str
    worse: str
    meaning: str


def sft_name(form: AnswerForm) -> str:
    """Return the name of the row that is the cold start in an answer form, without GRPO."""
    return "sft" if form == "levels" else f"sft-{form}"


CLAIMS = (
    Claim("sft", "base", "the cold start helps"),
    Claim("full", "sft", "GRPO helps after the cold start"),
    Claim("wo-con", "wo-spa-con", "the spatial reward helps beside the semantic one"),
    Claim(
        "wo-con",
        "wo-sem-con",
        "the semantic reward helps beside the spatial one (city and country)",
    ),
    Claim(
        "wo-sem-con",
        "wo-spa-con",
        "the spatial reward alone is worth more than the semantic one alone",
    ),
    Claim("full", "wo-con", "the consistency reward helps the answer"),
    Claim("sft", "wo-spa-sem", "the consistency reward alone does harm"),
    Claim("full", "wo-sft", "the cold start helps before GRPO"),
    Claim("wo-sft", "sft", "GRPO without a cold start beats the cold start alone"),
    Claim("wo-con", "judge", "spatial and semantic reward beat exact match"),
    Claim("full", "judge-con", "the same, with the consistency reward in both"),
    Claim(
        "judge", "judge-con", "the consistency reward does not help exact match (city and region)"
    ),
)


def read_rows(folder: Path) -> list[AblationRow]:
    """Return every row under `folder`, in table order. Raises UserError for a file that is no
    row."""
    rows = [_row(path) for path in sorted(folder.glob("*.yaml"))]
    if not rows:
        raise UserError(f"no ablation rows (*.yaml) in {folder}; name their folder with --rows-dir")
    return sorted(rows, key=lambda row: (row.order, row.name))


def _row(path: Path) -> AblationRow:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        row = AblationRow(path.stem, **found | {"paper": _published(found.get("paper", ""))})
    except (
        yaml.YAMLError,
        TypeError,
        AttributeError,
        KeyError,
        OSError,
        UnicodeDecodeError,
    ) as error:
        raise UserError(
            f"{path} is no ablation row: {' '.join(str(error).split())}; see configs/ablations"
        ) from None
    if row.start not in ("base", "sft"):
        raise UserError(f"{path}: start must be base or sft, not {row.start!r}")
    wrong = [key for key in row.overrides if not key.startswith(MAY_CHANGE)]
    if wrong:
        raise UserError(
            f"{path}: a row may change reward terms, learner and steps only, not {', '.join(wrong)}"
        )
    return row


def _published(system: str) -> dict[str, float]:
    """Return the figures of a row of the paper's Table 3, else of Table 4. Raises KeyError for a
    name that neither has.
    """
    tables = {row.system: row for row in (*published.JUDGE, *published.ABLATION)}
    if not system:
        return {}
    hits = zip(COLUMNS, tables[system].hit, strict=False)
    return {column: hit for column, hit in hits if hit is not None}


def grid_rows(weights: Mapping[str, float], factors: Sequence[float]) -> list[AblationRow]:
    """Return the sensitivity grid: each weight times each factor, one at a time, the others as in
    `weights`.
    """
    rows: list[AblationRow] = []
    for part in GRID_PARTS:
        for factor in factors:
            overrides = {f"reward.weights.{part}": round(weights[part] * factor, 6)}
            name = f"grid-{part}-x{factor:g}"
            rows.append(
                AblationRow(
                    name, f"{part} weight x {factor:g}", 200 + len(rows), "sft", True, overrides
                )
            )
    return rows


def choose(rows: Sequence[AblationRow], names: Sequence[str]) -> list[AblationRow]:
    """Return the named rows, in table order; all when `names` is empty."""
    known = {row.name for row in rows}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"no ablation row {unknown[0]!r}; there are: {', '.join(row.name for row in rows)}"
        )
    return [row for row in rows if not names or row.name in names]


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return (mean, half width of the 95 % t-interval of the mean); None for fewer than two
    values."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    from scipy.stats import t

    return mean, float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(
        values
    ) ** 0.5


def measured(table: Mapping[str, Any]) -> dict[str, float]:
    """Return what the table shows of one evaluation, percent but for GeoScore and mean reward
    (judged by every part).
    """
    row = {column: 100 * table["hit"][km] for column, km in COLUMNS.items()}
    row["geoscore"] = table["geoscore"]
    row["valid_format"] = 100 * table.get("format_valid", math.nan)
    row["consistency"] = 100 * table.get("reward_consistency", math.nan)
    row["reward"] = table.get("reward_total", math.nan)
    return row


def summarise(
    rows: Sequence[AblationRow], results: Mapping[tuple[str, int], Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the whole outcome as JSON. results: (row name, seed) -> evaluation table of the
    held-out photographs.

    {"interval", "rows": [{name, title, seeds, mean: {column: x}, half_width: {column: x or None},
    by_seed, paper, overrides, gain: {column: [mean, half width]} over its cold start}], "claims":
    [{better, worse, meaning, columns: {column: {paper, ours, half_width, verdict}}}]}. Rows of
    equal order are ranked by GeoScore."""
    shown = []
    for row in rows:
        seeds = sorted(seed for name, seed in results if name == row.name)
        if not seeds:
            continue
        by_seed = {seed: measured(results[row.name, seed]) for seed in seeds}
        found = {c: interval([by_seed[seed][c] for seed in seeds]) for c in by_seed[seeds[0]]}
        shown.append(
            {
                **{key: value for key, value in asdict(row).items() if key != "order"},
                "seeds": seeds,
                "n": results[row.name, seeds[0]]["n"],
                "mean": {c: mean for c, (mean, _) in found.items()},
                "half_width": {c: half for c, (_, half) in found.items()},
                "by_seed": {str(seed): values for seed, values in by_seed.items()},
                "gain": gain(row, results),
            }
        )
    order = {row.name: row.order for row in rows}
    shown.sort(key=lambda row: (order[row["name"]], -row["mean"]["geoscore"]))
    paper = {row.name: row.paper for row in rows}
    claims = [judged for claim in CLAIMS if (judged := _judge(claim, paper, results))]
    return {"interval": "95 % Student t over seeds", "rows": shown, "claims": claims}


def _judge(
    claim: Claim,
    paper: Mapping[str, Mapping[str, float]],
    results: Mapping[tuple[str, int], Mapping[str, Any]],
) -> dict[str, Any] | None:
    """Return the claim column by column, over the seeds that both rows have; None where they share
    none.
    """
    seeds = seeds_of_both(claim.better, claim.worse, results)
    if not seeds:
        return None
    columns = {}
    for column in COLUMNS:
        mean, half = difference(claim.better, claim.worse, column, results)
        better, worse = paper[claim.better].get(column), paper[claim.worse].get(column)
        published = None if better is None or worse is None else round(better - worse, 2)
        columns[column] = {"paper": published, "ours": mean, "half_width": half,
                           "verdict": verdict(published, mean, half)}  # fmt: skip
    return {**asdict(claim), "seeds": seeds, "columns": columns}


def gain(
    row: AblationRow, results: Mapping[tuple[str, int], Mapping[str, Any]]
) -> dict[str, tuple[float, float | None]]:
    """Return what GRPO adds to a row's cold start, by column; {} where only one of them was run."""
    if not row.grpo or not seeds_of_both(row.name, row.cold_start, results):
        return {}
    return {column: difference(row.name, row.cold_start, column, results) for column in COLUMNS}


def seeds_of_both(
    a: str, b: str, results: Mapping[tuple[str, int], Mapping[str, Any]]
) -> list[int]:
    """Return the seeds that two rows share."""
    return sorted({s for n, s in results if n == a} & {s for n, s in results if n == b})


def difference(
    a: str, b: str, column: str, results: Mapping[tuple[str, int], Mapping[str, Any]]
) -> tuple[float, float | None]:
    """Return row a minus row b, seed by seed: mean and half width of its interval."""
    seeds = seeds_of_both(a, b, results)
    pairs = [[measured(results[name, seed])[column] for name in (a, b)] for seed in seeds]
    return interval([x - y for x, y in pairs])


def verdict(paper: float | None, ours: float, half_width: float | None) -> str:
    """Say how our difference stands to the paper's of the same pair.

    "holds" and "reversed": our interval lies wholly on the paper's side of 0, or wholly on the
    other; "same sign", "other sign": the means agree or not, and the interval contains 0; "equal":
    no difference at all."""
    if paper is None:
        return "not in the paper"
    if ours == 0:
        return "equal"
    same = (ours > 0) == (paper > 0)
    if half_width is None or abs(ours) <= half_width:
        return "same sign" if same else "other sign"
    return "holds" if same else "reversed"
