"""Times, memory and kernels of a piece of work, on a GPU or, for trying the scripts, on a CPU."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from tests.gpu.results import GIB

Mark = Callable[[str], Any]  # mark(name) ends the part of the work called `name`
Work = Callable[[Mark], Any]
ATTENTION = ("fmha", "flash", "sdpa", "attent")


def silent(_: str) -> None:
    """A Mark that measures nothing."""


def device_api(cuda: bool) -> Any:
    """torch.cuda, or what stands for it on a CPU."""
    if cuda:
        return torch.cuda
    return mock.Mock(memory_allocated=lambda: 0, max_memory_allocated=lambda: 0)


def repeats(cuda: bool) -> tuple[int, int]:
    """Warm-ups and measured runs: a CPU only tries whether the scripts run."""
    return (3, 5) if cuda else (0, 1)


def measure(work: Work, cuda: bool) -> dict[str, float]:
    """Return median milliseconds, "<name>_ms" for each mark, and the peak of allocated memory."""
    warmups, runs = repeats(cuda)
    gpu = device_api(cuda)
    found: dict[str, list[float]] = defaultdict(lambda: [0.0] * (warmups + runs))

    def now() -> Any:
        if cuda:
            return gpu.current_stream().record_event(torch.cuda.Event(enable_timing=True))
        return time.perf_counter()

    gpu.reset_peak_memory_stats()
    for number in range(warmups + runs):
        marks = [("", now())]
        work(lambda name, marks=marks: marks.append((name, now())))
        gpu.synchronize()
        for (_, start), (name, end) in pairwise(marks):
            lasted = start.elapsed_time(end) if cuda else 1e3 * (end - start)
            found[f"{name}_ms"][number] += lasted
    medians = {name: sorted(times[warmups:])[runs // 2] for name, times in found.items()}
    return medians | {"peak_GiB": gpu.max_memory_allocated() / GIB}


def profiled(work: Work, cuda: bool) -> dict[str, Any]:
    """Return the kernels of one run (on a CPU: operators): number, time, the ten longest."""
    gpu, times = device_api(cuda), defaultdict(list)
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    with profile(activities=[activity]) as found:
        work(silent)
        gpu.synchronize()
    kind = getattr(torch.autograd.DeviceType, "CUDA" if cuda else "CPU")
    events = [
        e
        for e in found.events()
        if e.device_type == kind and not (e.cpu_children or e.is_user_annotation)
    ]
    for e in events:
        times[e.name[:90]].append((e.time_range.end - e.time_range.start) / 1e3)
    ends = max(e.time_range.end for e in events), min(e.time_range.start for e in events)
    longest = sorted(times.items(), key=lambda item: -sum(item[1]))[:10]
    kernels = [len(v) for k, v in times.items() if not k.startswith(("Memcpy", "Memset"))]
    return {
        "kernels": sum(kernels),
        "busy_ms": sum(map(sum, times.values())),
        "span_ms": (ends[0] - ends[1]) / 1e3,
        "attention": [k for k in times if any(word in k.lower() for word in ATTENTION)],
        "top": [f"{sum(v):.4g} ms, {len(v)} {k}" for k, v in longest],
    }


def gradient(
    function: Callable[[], Any],
    inputs: Sequence[Tensor],
    cuda: bool,
    outer: Any = None,
    prefix: str = "",
) -> tuple[dict[str, Any], tuple[Any, Any]]:
    """Measure function() and its gradient for `inputs`; return the figures and both values."""

    def run(mark: Mark) -> tuple[Any, Any]:
        result = function()
        mark("forward")
        grads = torch.autograd.grad(result, inputs, outer) if inputs else ()
        mark("backward")
        return result, grads

    start, held = time.monotonic(), device_api(cuda).memory_allocated() / GIB
    run(silent)
    found: dict[str, Any] = {"first_s": time.monotonic() - start, **measure(run, cuda)}
    found["added_GiB"] = found.pop("peak_GiB") - held
    found |= {k: v for k, v in profiled(run, cuda).items() if k in ("kernels", "attention")}
    return {prefix + k: v for k, v in found.items()}, run(silent)


def relative(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest |a - b| / |b| of all pairs."""
    pairs = zip(found, expected, strict=True)
    return max(float((a - b).detach().norm() / b.detach().norm()) for a, b in pairs)
