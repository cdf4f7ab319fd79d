"""The constants of the cost model (plan/costs.py): what each is, its unit, its source.

Every value can be replaced by a measured one, for a kind of GPU: plan/measured.py. The values here
are those of a card that nobody has measured. May know nothing of configurations."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def constant(value: float, unit: str, what: str, source: str) -> Any:
    """Return a field of Rates with what people should know about it."""
    return field(default=value, metadata={"unit": unit, "what": what, "source": source})


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of a GPU's data sheet that are reached, and what does not depend on the sheet."""

    read: float = constant(
        0.85, "of bandwidth", "memory read while decoding", "usual for copies; H100: 0.90"
    )
    prefill: float = constant(
        0.45, "of bf16 rate", "forward passes over prompts", "H100's reference pass"
    )
    decode: float = constant(0.35, "of bf16 rate", "products of a decoding batch", "estimate")
    learn: float = constant(
        0.38, "of bf16 rate", "learner's passes, beside pass_s", "H100, 7B, packed rows"
    )
    pass_s: float = constant(
        0.042, "s", "each pass of a micro-batch, whatever its size", "H100, 7B, packed rows"
    )
    iteration_s: float = constant(
        0.0022, "s", "each decoding step, beside reading", "H100, vLLM with CUDA graphs"
    )
    adapter_s: float = constant(
        0.00013, "s a layer", "an adapter beside the base in a decoding step", "H100, 3B, rank 64"
    )
    tensor_parallel_s: float = constant(
        0.00003, "s a layer", "two all-reduces of a decoding step", "estimate; not measured"
    )
    picture_s: float = constant(
        0.024, "s", "an engine's work on a new picture", "H100, 256 image tokens"
    )
    patch_s: float = constant(
        9.5e-6, "s", "vision tower of the learner, a patch", "H100, 8 pictures at once"
    )
    optimizer_s: float = constant(0.08, "s", "the learner's step", "H100, 3B, rank 64")
    publish_gb_s: float = constant(1.6, "GB/s", "new weights from learner to files", "H100 host")
    load_gb_s: float = constant(
        1.0, "GB/s", "an adapter read, checked, bound and proved", "H100 host"
    )
    sleep_gb_s: float = constant(21.0, "GB/s", "an engine's weights to main memory", "H100 host")
    wake_gb_s: float = constant(31.0, "GB/s", "an engine's weights back", "H100 host")
    link_gb_s: float = constant(
        200.0, "GB/s", "all-reduce between GPUs of a node", "estimate for NVLink; not measured"
    )
    network_gb_s: float = constant(
        25.0, "GB/s", "all-reduce and adapters between nodes", "estimate; not measured"
    )
    sample_s: float = constant(
        0.00015, "s", "driver's work on one completion", "CPU, tests/benchmarks/balance.py handout"
    )
    call_s: float = constant(0.02, "s", "a call of a reward service", "CPU, Ray Serve")
    source: str = ""  # of measured values; "" where nothing was measured


def table(rates: Rates) -> str:
    """Return the constants as a Markdown table."""
    lines = ["| constant | value | unit | of what | source |", "|---|---|---|---|---|"]
    for f in fields(rates):
        if f.metadata:
            value = getattr(rates, f.name)
            source = f.metadata["source"] if value == f.default else rates.source
            what, unit = f.metadata["what"], f.metadata["unit"]
            lines.append(f"| `{f.name}` | {value:.3g} | {unit} | {what} | {source} |")
    return "\n".join(lines)
