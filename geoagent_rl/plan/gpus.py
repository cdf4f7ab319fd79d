"""What a plan needs to know of a GPU: memory, memory bandwidth, dense bf16 rate.

Memory as CUDA reports it, which is less than the name says (an 80 GB card has 79.1 GiB, one of 48
GB with error correction 44.5); the H100's was read from a card, the others are published by users.
Rates: makers' data sheets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from geoagent_rl.plan.measured import measured_rates, packaged, rates, read
from geoagent_rl.plan.rates import Rates
from geoagent_rl.types import UserError


@dataclass(frozen=True, slots=True)
class GPU:
    """What the plan needs to know of a kind of GPU."""

    memory_gib: float
    gbytes_per_s: float
    tflops: float  # bf16, dense
    rates: Rates = field(default_factory=Rates)


GPUS = {
    "RTX4090": GPU(23.6, 1008, 165),
    "L4": GPU(22.0, 300, 121),
    "A40": GPU(44.5, 696, 150),
    "L40S": GPU(44.5, 864, 362),
    "A100-40GB": GPU(39.4, 1555, 312),
    "A100-80GB": GPU(79.1, 2039, 312),
    "H100": GPU(79.2, 3350, 989),
    "H200": GPU(139.8, 4800, 989),
}


SHEETS = {name: (gpu.gbytes_per_s, gpu.tflops) for name, gpu in GPUS.items()}


def gpu(name: str, measured: Path | None = None) -> GPU:
    """Return the GPU of this name with the constants that a file of measurements tells (None: the
    package's own). UserError for an unknown GPU, and for a file that does not tell of it."""
    if name not in GPUS:
        raise UserError(f"placement.gpu must be one of {', '.join(GPUS)}, not {name}")
    known = measured_rates(read(measured), SHEETS) if measured else packaged()
    if measured and name not in known:
        cards = ", ".join(known) or "no card that plan knows"
        raise UserError(f"{measured} has measurements of {cards}, not of placement.gpu={name}")
    return replace(GPUS[name], rates=rates(name, known))
