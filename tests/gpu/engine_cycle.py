"""Does the project's path on a GPU work? Drives its own engine and learner, without Ray.

    python -m tests.gpu.engine_cycle [--shape 3B|7B|tiny] [--device cuda|cpu] [--only engine,cycle]
        [--rounds 3] [--prompts 8] [--group 8] [--tokens 256] [--eager] [--set rollout.memory=0.3]
        [--model DIR | --family gemma3]

Random weights of a published shape, a checkpoint of yours (--model), or a tiny random one of
another family (docs/models.md); configs/single-gpu.yaml, on a CPU local.yaml. Sections: see
cycle_sections.py. GiB are the whole device's, gaps are absolute differences of log-probabilities in
nats, in the table mean..max: `agree` (engine and learner, the same weights) must be far below
`stale` (the learner one step on); `itself` (the learner, rows packed or not) is noise."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import time

from tests.gpu.results import Results, arguments, sections

SECTIONS = ("engine", "cycle", "precision", "refused", "checks")
GRACE_S = 5


def main(argv: list[str] | None = None) -> int:
    """Run the sections, each with a limit; return 1 when one failed."""
    asked = arguments(
        __doc__,
        argv,
        rounds=3,
        prompts=8,
        group=8,
        tokens=256,
        pixels=450,
        seed=0,
        lr=1e-4,  # of the first round
        limit_s=200.0,
        budget_s=330.0,
        model="",
        family="",
        eager=False,  # no compilation and no CUDA graphs: a quick start
        set=[],
    )
    begin, names = time.monotonic(), sections(asked, SECTIONS)
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    from actors.vllm_engine import set_environment

    set_environment(cpu=asked.device == "cpu")
    # here and not above: the engine's own processes import this file again and need none of it
    from tests.gpu import cycle_sections
    from tests.gpu.cycle_bench import Bench

    results, loop = Results("engine_cycle", asked), asyncio.new_event_loop()
    bench = Bench(asked, results)
    signal.signal(signal.SIGALRM, interrupt)
    for name in names:
        limit = max(1.0, min(asked.limit_s, begin + asked.budget_s - time.monotonic()))
        # what blocks the event loop is interrupted; where even that is not heard, the script ends
        signal.setitimer(signal.ITIMER_REAL, limit + GRACE_S)
        faulthandler.dump_traceback_later(limit + 3 * GRACE_S, exit=True)
        with results.guard(name, f"at most {limit:.0f} s"):
            work = getattr(cycle_sections, name)(bench)
            loop.run_until_complete(asyncio.wait_for(work, limit))
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
    failed = results.finish()
    loop.run_until_complete(bench.close())
    return int(failed)


def interrupt(*_: object) -> None:
    raise TimeoutError("it blocks the event loop")


if __name__ == "__main__":
    sys.exit(main())
