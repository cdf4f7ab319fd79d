"""On a CPU, what a request gets must not depend on its company: rounding, and so a sampled token,
is its own.

Batches form by arrival time. A run that is resumed repeats an uninterrupted one value for value
only if a completion and a verdict are the same in any batch. vLLM's CPU kernels nearly are
(measured on AVX512 and AVX2 builds):
- attention: rows are exact in any batch unless long sequences are split over threads
  (VLLM_CPU_ATTN_SPLIT_KV, which vllm_engine.py switches off);
- linear layers: in MKL's strict mode (processor.py) the rows of a product are the same for any
  number of rows but the smallest, for which oneDNN (one row) and MKL on AMD (up to three) have
  kernels of their own. So small inputs are filled up with rows of zeros.
May know vLLM's dispatch of linear layers and torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LEAST_ROWS = 4


def with_enough_rows(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return product(x) [..., N] for x [..., K], a product that works row by row; it never sees
    fewer than LEAST_ROWS rows."""
    rows = x.numel() // x.shape[-1] if x.shape[-1] else 0
    if not 0 < rows < LEAST_ROWS:
        return product(x)
    filled = torch.cat([x.reshape(rows, -1), x.new_zeros(LEAST_ROWS - rows, x.shape[-1])])
    return product(filled)[:rows].reshape(*x.shape[:-1], -1)


def fill_up_small_batches() -> None:
    """Put `with_enough_rows` before every dense linear layer that vLLM computes in this process,
    where on a CPU.
    """
    from vllm.model_executor.layers import utils
    from vllm.platforms import current_platform

    plain = utils.cpu_unquantized_gemm
    if not current_platform.is_cpu() or plain.__module__ == __name__:
        return

    def cpu_unquantized_gemm(
        layer: torch.nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None = None
    ) -> Any:
        return with_enough_rows(lambda rows: plain(layer, rows, weight, bias), x)

    utils.cpu_unquantized_gemm = cpu_unquantized_gemm
