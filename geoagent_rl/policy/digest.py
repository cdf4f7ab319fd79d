"""A digest of published weights: the learner sends it with a version, engines compare it with what
they read. May know torch only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

THREADS = 8  # hashing lets the interpreter go: about 1 GB/s each


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of names, types, shapes and every bit of `tensors`, which lie on the CPU."""

    def one(name: str) -> bytes:
        tensor = tensors[name].detach().contiguous()
        found = hashlib.blake2b(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return found.digest()

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(one, sorted(tensors)))
    return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


def read_weights(directory: Path) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint's or an adapter's safetensors files, by name."""
    found: dict[str, Tensor] = {}
    for file in sorted(directory.glob("*.safetensors")):
        found |= load_file(file)
    return found
