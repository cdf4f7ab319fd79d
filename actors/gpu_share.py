"""What an actor's share of a GPU means in its process: none is none, a part is used in turn.

May know the environment and files only: it is imported before torch and vLLM."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

VISIBLE = "CUDA_VISIBLE_DEVICES"


def hide_others(gpus: float) -> None:
    """Make a process without GPUs of its own see none; call before CUDA is used.

    Since 2.60 Ray leaves all of a node's GPUs visible to actors that asked for none: their torch
    would put a CUDA context, and models, on the first one, which is another part's."""
    if gpus == 0:
        os.environ[VISIBLE] = ""


@contextlib.contextmanager
def turn(gpus: float) -> Iterator[None]:
    """Hold the GPU against the others that share it; no more than a condition where none does.

    vLLM measures free memory while it starts and fails, or takes too little, when another process
    frees or takes some meanwhile. So engines and judges start in turn, restarts included, and not
    while a learner on the same GPU works. Ends with the process, however that dies."""
    if not 0 < gpus < 1:
        yield
        return
    name = os.environ.get(VISIBLE, "0").replace(",", "-")
    with FileLock(Path(tempfile.gettempdir()) / f"geoagent-{os.getuid()}-gpu-{name}.lock"):
        yield
