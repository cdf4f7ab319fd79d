"""Logits of a bfloat16 network in float32: the head's product is not rounded to bfloat16.

In bfloat16 a logit near 20 is a multiple of 0.125, in engine and learner by roundings of their own.
The rollout engine does the same (`head_dtype` in actors/vllm_engine.py)."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn


class Float32Product(torch.autograd.Function):
    """hidden [N, H] times weight [V, H] transposed, in float32; the weight, which is frozen, gets
    no gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        """Return the product [N, V]."""
        ctx.save_for_backward(weight)
        if hidden.is_cuda:  # without a float32 copy of the weight; CPUs have no such product
            return torch.mm(hidden, weight.t(), out_dtype=torch.float32)
        return hidden.float() @ weight.float().t()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of `hidden`, in its dtype."""
        (weight,) = ctx.saved_tensors
        return grads[0].to(weight.dtype) @ weight, None


def float32_logits(head: nn.Linear, hidden: Tensor) -> Tensor:
    """Return the logits [N, V] of hidden states [N, H], in float32."""
    logits: Tensor = Float32Product.apply(hidden, head.weight)  # type: ignore[no-untyped-call]
    return logits


def use_float32_logits(head: nn.Linear) -> None:
    """Let a frozen head without bias compute its product in float32."""
    head.forward = functools.partial(float32_logits, head)  # type: ignore[method-assign]
