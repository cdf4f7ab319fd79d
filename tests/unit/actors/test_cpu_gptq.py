"""vLLM's CPU operator for GPTQ, as `actors.cpu_gptq` supplies it where vLLM lacks it, against dense
arithmetic.
"""

import pytest
import torch

from actors import cpu_gptq

K, N, GROUP = 64, 96, 32


def pack(values: torch.Tensor) -> torch.Tensor:
    """4-bit values [rows, columns] -> int32 [rows, columns / 8], the first value in the lowest
    bits.
    """
    shifts = torch.arange(8) * 4
    words = (values.reshape(len(values), -1, 8).long() << shifts).sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def in_blocks(packed: torch.Tensor) -> torch.Tensor:
    """[K, N / 8] -> vLLM's layout: for each 16 output channels, the two words of every input
    row.
    """
    return packed.reshape(K, N // 16, 2).permute(1, 0, 2).reshape(N // 16, K * 2).contiguous()


@pytest.fixture(scope="module")
def operator():
    cpu_gptq.define("geoagent_test")
    return torch.ops.geoagent_test.cpu_gemm_wna16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("with_zeros", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_operator_equals_dense_arithmetic(operator, dtype, with_zeros, with_bias):
    random = torch.Generator().manual_seed(with_zeros * 2 + with_bias)
    values = torch.randint(0, 16, (K, N), generator=random)
    scales = (torch.rand(K // GROUP, N, generator=random) + 0.5).to(dtype)
    centres = (
        torch.randint(0, 16, (K // GROUP, N), generator=random)
        if with_zeros
        else torch.full((K // GROUP, N), 8)
    )
    bias = torch.randn(N, generator=random).to(dtype) if with_bias else None
    x = torch.randn(5, K, generator=random).to(dtype)
    dense = (
        values - centres.repeat_interleave(GROUP, 0)
    ).double() * scales.double().repeat_interleave(GROUP, 0)
    expected = x.double() @ dense + (0 if bias is None else bias.double())
    out = torch.empty(5, N, dtype=dtype)
    operator(
        x,
        in_blocks(pack(values)),
        out,
        scales,
        pack(centres) if with_zeros else None,
        bias,
        8,
        "vec",
    )
    assert torch.allclose(
        out.double(), expected, rtol=2e-2 if dtype == torch.bfloat16 else 2e-3, atol=1e-2
    )


def test_registering_leaves_an_existing_operator_alone(monkeypatch):
    defined = []
    monkeypatch.setattr(cpu_gptq, "define", defined.append)
    monkeypatch.setattr(cpu_gptq, "fill_up_small_batches", lambda: None)
    monkeypatch.setattr(cpu_gptq, "lacks_operator", lambda: False)
    cpu_gptq.register()
    assert defined == []
    monkeypatch.setattr(cpu_gptq, "lacks_operator", lambda: True)
    cpu_gptq.register()
    assert defined == ["_C"]
