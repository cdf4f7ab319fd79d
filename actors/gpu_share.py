"""What an actor's share of a GPU means in its process: none is none, a part is used in turn.

May know the environment and files only: it is imported before torch and vLLM."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock

VISIBLE = "CUDA_VISIBLE_DEVICES"


def hide_others(gpus: float, further: Sequence[str] = ()) -> None:
    """Make a process without GPUs of its own see none, and one that has a share of several see
    those `further` ones too; call before CUDA is used.

    Since 2.60 Ray leaves all of a node's GPUs visible to actors that asked for none: their torch
    would put a CUDA context, and models, on the first one, which is another part's."""
    if gpus == 0:
        os.environ[VISIBLE] = ""
    elif further:
        os.environ[VISIBLE] = ",".join([os.environ[VISIBLE], *further])


@contextlib.contextmanager
def turn(gpus: float) -> Iterator[None]:
    """Hold the GPUs against the others that share them; no more than a condition where none does.

    vLLM measures free memory while it starts and fails, or takes too little, when another process
    frees or takes some meanwhile. So engines and judges start in turn, restarts included, and not
    while a learner on the same GPU works. Ends with the process, however that dies."""
    if not 0 < gpus < 1:
        yield
        return
    with contextlib.ExitStack() as held:
        for name in sorted(os.environ.get(VISIBLE, "0").split(",")):  # in one order: no deadlock
            file = Path(tempfile.gettempdir()) / f"geoagent-{os.getuid()}-gpu-{name}.lock"
            held.enter_context(FileLock(file))
        yield
