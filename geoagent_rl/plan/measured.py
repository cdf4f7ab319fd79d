"""Which shares of a GPU's data sheet a plan reckons with: measured ones, else estimates.

assets/gpu_measured.json holds what runs on real cards showed (docs/gpu.md; made by `python -m
tests.gpu.report --constants`), by the names of plan/gpus.py. Every number that a card has no
measurement of is the estimate."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

FILE = Path(__file__).parents[1] / "assets" / "gpu_measured.json"


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the data sheet that are reached, and what an adapter costs."""

    bandwidth: float = 0.6  # decoding: weights and cache are read once for each token
    prefill: float = 0.45  # of the bf16 rate
    decode: float = 0.35
    learn: float = 0.35
    # time per token with an adapter served beside the base, against merged weights (trl#7017)
    adapter_cost: float = 1.35
    source: str = ""  # "" where nothing was measured


@cache
def shares(gpu: str) -> Shares:
    """Return the shares of a GPU of plan/gpus.py."""
    known = json.loads(FILE.read_text())
    return replace(Shares(), **known[gpu]) if gpu in known else Shares()
