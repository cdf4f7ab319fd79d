"""`data cot-check`: are the chains of thought fit for SFT? Conclusions that are the answer, and
lengths. Stages below the country's may be left out (paper B.3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoagent_rl.answers.parse import NO_STAGE, UNCERTAINTIES, Parsed, is_chain, parse
from geoagent_rl.config.reward import ConsistencyConfig
from geoagent_rl.data.sample import Sample
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.rewards.services import LEVELS

EXAMPLES = 3


@dataclass(frozen=True)
class CotReport:
    """`passed`: the samples with a chain of thought and without fault. `faults`: (what, uids),
    worst first.
    """

    passed: list[Sample]
    faults: list[tuple[str, list[str]]]
    report: dict[str, Any]


def check_chains(samples: Sequence[Sample], config: ConsistencyConfig | None = None) -> CotReport:
    """Check chains of thought. Names are compared as the rewards do it: by text, then by the
    gazetteer. Lengths against the consistency reward's limits (characters of reasoning per stage).
    Samples without a chain of thought are counted, not faulted."""
    config = config or ConsistencyConfig()
    gazetteer = Gazetteer.open()
    faults: dict[str, list[str]] = {}
    lengths: list[tuple[int, ...]] = []
    uncertainty: Counter[str] = Counter()
    passed = []
    chains = [s for s in samples if s.cot]
    for sample in chains:
        parsed = parse(sample.cot)
        found = _faults(sample, parsed, gazetteer, config)
        for what in found:
            faults.setdefault(what, []).append(sample.uid)
        if parsed.stages:
            lengths.append(tuple(len(stage.reasoning) for stage in parsed.stages))
            given = (stage for stage in parsed.stages if stage != NO_STAGE)
            uncertainty.update(stage.uncertainty or "(none)" for stage in given)
        if not found:
            passed.append(sample)
    table = np.array(lengths).reshape(-1, 3)
    quantiles = {
        level: _quantiles(given, config)
        for level, given in zip(LEVELS, (column[column > 0] for column in table.T), strict=True)
        if len(given)
    }
    report = {
        "samples": len(samples), "with_cot": len(chains), "passed": len(passed),
        "faults": {what: len(uids) for what, uids in faults.items()},
        "reasoning_characters": quantiles,
        "uncertainty": {name: uncertainty[name] for name in (*UNCERTAINTIES, "(none)") if uncertainty[name]},
    }  # fmt: skip
    return CotReport(passed, sorted(faults.items(), key=lambda fault: -len(fault[1])), report)


def _faults(
    sample: Sample, parsed: Parsed, gazetteer: Gazetteer, config: ConsistencyConfig
) -> list[str]:
    if not parsed.stages:
        return [f"no chain: {parsed.problem}"]
    found = [] if is_chain(sample.cot) else [f"format: {parsed.problem}"]
    truth = (sample.country, sample.region, sample.place)
    for i, level in enumerate(LEVELS):
        wider = parsed.levels[:i]
        if parsed.stages[i] == NO_STAGE and not parsed.levels[i]:
            continue  # its author left it out
        if not gazetteer.same_place(level, parsed.stages[i].conclusion, parsed.levels[i], *wider):
            found.append(f"the conclusion on the {level} is not the answer's")
        if truth[i] and not gazetteer.same_place(level, parsed.levels[i], truth[i], *truth[:i]):
            found.append(f"the answer's {level} is not the true one")
        if len(parsed.stages[i].reasoning) < config.min_chars:
            found.append(f"reasoning on the {level} is shorter than {config.min_chars} characters")
    return found


def _quantiles(values: np.ndarray, config: ConsistencyConfig) -> dict[str, float]:
    five, half, ninety_five = np.percentile(values, (5, 50, 95))
    return {"p5": float(five), "median": float(half), "p95": float(ninety_five),
            f"below_{config.min_chars}": float((values < config.min_chars).mean()),
            f"above_{config.max_chars}": float((values > config.max_chars).mean())}  # fmt: skip


def show_chains(checked: CotReport) -> list[str]:
    """Return the report for a terminal."""
    report = checked.report
    lines = [f"{report['with_cot']} of {report['samples']} samples have a chain of thought"]
    for what, uids in checked.faults:
        more = "; ..." if len(uids) > EXAMPLES else ""
        lines.append(f"problem: {len(uids)} {what} ({'; '.join(uids[:EXAMPLES])}{more})")
    for level, values in report["reasoning_characters"].items():
        shares = ", ".join(
            f"{value:.0%} {name.replace('_', ' ')}" for name, value in values.items() if "_" in name
        )
        lines.append(f"reasoning on the {level}: {values['p5']:.0f} / {values['median']:.0f} / {values['p95']:.0f} "
                     f"characters (5 % / median / 95 %), {shares}")  # fmt: skip
    if report["uncertainty"]:
        lines.append(
            "uncertainty: " + ", ".join(f"{name} {n}" for name, n in report["uncertainty"].items())
        )
    return [*lines, f"{report['passed']} chains without fault"]
