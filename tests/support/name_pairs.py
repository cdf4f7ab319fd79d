"""The committed table of name pairs (data/name_pairs.tsv) and the measures that say how well they
are told apart.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoagent_rl.geo.places import split_levels
from geoagent_rl.rewards.services import LevelPair
from tests.support.paths import TEST_DATA

PAIRS = TEST_DATA / "name_pairs.tsv"


@dataclass(frozen=True)
class Labelled:
    pair: LevelPair
    same: bool
    language: str


def read_pairs(path: Path = PAIRS) -> list[Labelled]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        Labelled(
            LevelPair(
                row["level"], row["a"], row["b"], tuple(filter(None, split_levels(row["within"])))
            ),
            row["same"] == "1",
            row["language"],
        )
        for row in rows
    ]


def auc(values: Sequence[float], same: Sequence[bool]) -> float:
    """Probability that a random same pair lies above a random different one; ties count one
    half.
    """
    yes, no = np.array(values)[np.array(same)], np.array(values)[~np.array(same)]
    return float(((yes[:, None] > no) + 0.5 * (yes[:, None] == no)).mean())


def balanced_accuracy(values: Sequence[float], same: Sequence[bool], threshold: float) -> float:
    above, same = np.array(values) >= threshold, np.array(same)
    return float((above[same].mean() + (~above[~same]).mean()) / 2)


def best_threshold(values: Sequence[float], same: Sequence[bool]) -> tuple[float, float]:
    """(balanced accuracy, threshold) of the best threshold among the values themselves."""
    return max((balanced_accuracy(values, same, t), t) for t in sorted(set(values)))
