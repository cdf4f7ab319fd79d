"""A bfloat16 network's logits are float32 products: not rounded to multiples of 1/8."""

import torch
from torch import nn

from geoagent_rl.policy.logits import use_float32_logits


def head_and_hidden() -> tuple[nn.Linear, torch.Tensor]:
    """A head whose logits are as large as real ones, and 8 hidden states."""
    torch.manual_seed(0)
    head = nn.Linear(64, 300, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    hidden = (20 * torch.randn(8, 64)).bfloat16().requires_grad_()
    return head, hidden


def test_logits_are_exact_to_float32_and_the_gradient_stays():
    head, hidden = head_and_hidden()
    exact = hidden.detach().double() @ head.weight.double().T
    outer = torch.randn(exact.shape)
    rounded = head(hidden).float()
    (usual,) = torch.autograd.grad(rounded, hidden, outer)
    use_float32_logits(head)
    logits = head(hidden)
    (ours,) = torch.autograd.grad(logits, hidden, outer)
    assert logits.dtype == torch.float32
    assert (logits - exact).abs().max() < 1e-4 < 0.02 < (rounded - exact).abs().max()
    torch.testing.assert_close(ours, usual, rtol=0.02, atol=0.05)
