"""What this machine's processor is, and what makes products of matrices exact on it.

"Exact": a row of a product has the same bits whatever number of rows is computed with it. On CPUs,
torch multiplies float32 matrices with Intel's MKL, whose default is not exact (measured, inner
sizes 64 to 1176): on Intel a row depends on the number of rows below 16; on AMD below 4, and with
two threads below 12. MKL's own switch, strict Conditional Numerical Reproducibility, makes all
numbers of rows exact on Intel and those from 4 on AMD, with any number of threads. The rest is
filled up by cpu_invariance.py. Imports nothing but the standard library."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
# What MKL's AVX-512 code paths use. Asked for paths that the processor lacks, MKL takes its default
AVX512 = frozenset({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"})
INTEL, AMD = "GenuineIntel", "AuthenticAMD"
SHOWN = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # that vLLM or torch choose kernels by


@dataclass(frozen=True, slots=True)
class Processor:
    """One machine's processor, as Linux describes it. Empty fields: unknown."""

    model: str
    vendor: str
    flags: frozenset[str]  # the instruction sets' names of /proc/cpuinfo

    @property
    def instruction_sets(self) -> tuple[str, ...]:
        """Return those of SHOWN that it has."""
        return tuple(flag for flag in SHOWN if flag in self.flags)


def this_processor() -> Processor:
    """Return this machine's processor; where Linux does not describe an x86-64 one, its name."""
    text = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    found = {name: value for name, value in re.findall(r"^(\S.*?)\s*: (.*)$", text, re.MULTILINE)}
    return Processor(
        model=found.get("model name", platform.processor() or platform.machine()),
        vendor=found.get("vendor_id", ""),
        flags=frozenset(found.get("flags", "").split()),
    )


def reproducible_mode(processor: Processor) -> str | None:
    """Return the value of MKL_CBWR for the processor; None where MKL has no strict mode for it."""
    if processor.flags >= AVX512:
        return "AVX512,STRICT"
    return "AVX2,STRICT" if "avx2" in processor.flags else None


def set_reproducible_products() -> None:
    """Set MKL's strict mode for this process and those it starts; call before its first product.

    A value the user has set stays. The process itself must call it, on the node it runs on: nodes
    of a cluster have different processors, and MKL reads the variable once."""
    if mode := reproducible_mode(this_processor()):
        os.environ.setdefault("MKL_CBWR", mode)


def promise(processor: Processor) -> str:
    """Return in words what docs/resume.md promises on the processor for work on CPUs."""
    mode = reproducible_mode(processor)
    if mode is None or processor.vendor not in (INTEL, AMD):
        return "resumed runs may differ in the last bits: never tried on this processor"
    return f"resumed runs are exact on CPUs (MKL_CBWR={mode})"
