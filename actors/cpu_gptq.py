"""What every vLLM process of this project loads (entry point in group vllm.general_plugins): see
`register`.

May know vLLM's compiled operators and torch; nothing of the project's own engines beyond their
processes' end."""

from __future__ import annotations

import torch

from actors.cpu_invariance import fill_up_small_batches, with_enough_rows
from actors.vllm_engine import die_with_parent, meet_in_own_folder

BLOCK = 16  # output channels that vLLM's CPU kernel packs together
SCHEMA = (
    "cpu_gemm_wna16(Tensor input, Tensor q_weight, Tensor(a2!) output, Tensor scales, Tensor? zeros, Tensor? bias, "
    "SymInt pack_factor, str isa_hint) -> ()"
)


def register() -> None:
    """End engine processes with their parent, and leave no file of theirs; on CPUs make results
    independent of the batch (cpu_invariance.py), and give vLLM's CPU build the GPTQ operator where
    it lacks it.

    vLLM 0.32 compiles `_C::cpu_gemm_wna16` for AVX512 only but chooses its kernel on AVX2 machines
    too, where the first forward pass then fails (vllm-project/vllm#55613). No effect on GPU builds
    and on machines with the operator."""
    die_with_parent()
    meet_in_own_folder()
    fill_up_small_batches()
    if lacks_operator():
        define("_C")


def lacks_operator() -> bool:
    """Say whether this machine's CPU build of vLLM has no kernel for 4-bit weights."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return False
    current_platform.import_kernels()
    return not hasattr(torch.ops._C, "cpu_gemm_wna16")


def define(namespace: str) -> torch.library.Library:
    """Declare the operator in `namespace` and implement it in torch. The caller keeps the library
    alive.
    """
    library = torch.library.Library(namespace, "FRAGMENT")
    library.define(SCHEMA)
    library.impl("cpu_gemm_wna16", gemm_wna16, "CPU")
    LIBRARIES.append(library)
    return library


LIBRARIES: list[
    torch.library.Library
] = []  # a library that is collected takes its operators with it
DENSE: dict[
    int, tuple[torch.Tensor, torch.Tensor]
] = {}  # address of packed weights -> them (kept alive), dense form


def gemm_wna16(
    x: torch.Tensor,
    packed: torch.Tensor,
    out: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor | None,
    bias: torch.Tensor | None,
    pack_factor: int,  # noqa: ARG001 (the operator's schema)
    isa_hint: str,  # noqa: ARG001
) -> None:
    """Compute out = x @ dequantised(packed) + bias, with the dense weights kept: meant for models
    of a few megabytes.

    x [tokens, K]; packed int32, 8 values of 4 bits each, in blocks of 16 output channels: [N / 16,
    K * 2]; scales [groups, N]; zeros [groups, N / 8] int32 or None for 8; bias [N] or None; out
    [tokens, N]."""
    known = DENSE.get(packed.data_ptr())
    if known is None:
        DENSE[packed.data_ptr()] = known = (packed, dequantise(packed, scales, zeros))
    product = with_enough_rows(lambda rows: rows @ known[1], x.float())
    out.copy_(product if bias is None else product + bias.float())


def dequantise(
    packed: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None
) -> torch.Tensor:
    """Return dense float32 weights [K, N]; see gemm_wna16 for the shapes."""
    groups, n = scales.shape
    k = packed.numel() * 8 // n
    shifts = torch.arange(8, dtype=torch.int32) * 4
    values = (packed.reshape(n // BLOCK, k, 2).unsqueeze(-1) >> shifts) & 15
    values = values.reshape(n // BLOCK, k, BLOCK).permute(1, 0, 2).reshape(k, n)
    centre = (
        torch.full((groups, n), 8)
        if zeros is None
        else ((zeros.unsqueeze(-1) >> shifts) & 15).reshape(groups, n)
    )
    per_row = k // groups
    centre = centre.repeat_interleave(per_row, 0)
    return (values - centre).float() * scales.float().repeat_interleave(per_row, 0)
