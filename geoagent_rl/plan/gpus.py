"""What a plan needs to know of a GPU: memory, memory bandwidth, dense bf16 rate. Makers' data
sheets.
"""

from __future__ import annotations

from dataclasses import dataclass

from geoagent_rl.types import UserError


@dataclass(frozen=True, slots=True)
class GPU:
    """What the plan needs to know of a kind of GPU."""

    memory_gib: float
    gbytes_per_s: float
    tflops: float  # bf16, dense


GPUS = {
    "RTX4090": GPU(24, 1008, 165),
    "L4": GPU(24, 300, 121),
    "A40": GPU(48, 696, 150),
    "L40S": GPU(48, 864, 362),
    "A100-40GB": GPU(40, 1555, 312),
    "A100-80GB": GPU(80, 2039, 312),
    "H100": GPU(80, 3350, 989),
    "H200": GPU(141, 4800, 989),
}


def gpu(name: str) -> GPU:
    """Return the GPU of this name. UserError for an unknown one."""
    if name not in GPUS:
        raise UserError(f"placement.gpu must be one of {', '.join(GPUS)}, not {name}")
    return GPUS[name]
