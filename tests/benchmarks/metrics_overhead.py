"""What one step's metrics cost the driver, as a share of the step: computing them, handing them to
all trackers.

    python -m tests.benchmarks.metrics_overhead [--prompts 16] [--group-size 8] [--step-seconds 3.5]

Real Ray metrics, TensorBoard and metrics.jsonl; samples are made up. --step-seconds: of the run
compared with (the demo's steps on two cores last about 3.5 s). Writing rollouts.jsonl is timed
apart: it is the run's record, no metric."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from geoagent_rl.config import Config
from geoagent_rl.metrics.batch import sample_metrics, staleness_metrics
from geoagent_rl.metrics.spans import StepClock, time_metrics
from geoagent_rl.run.directory import rollout_rows
from tests.support.monitor_runs import group, new_run

REPEATS = 200


def median_ms(work: Callable[[int], object]) -> float:
    took = []
    for i in range(REPEATS):
        begin = time.perf_counter()
        work(i)
        took.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--step-seconds", type=float, default=3.5)
    asked = parser.parse_args()
    from cluster.jobs.metric_sinks import Tracking
    from cluster.machine_metrics import (
        look,
    )  # before Ray: importing `cluster` settles how Ray authenticates

    import ray  # isort: skip

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    with tempfile.TemporaryDirectory(prefix="ga-bench-") as name:
        run = new_run(Path(name))
        groups = [
            group(3, i, Path(name), "moss", 0.5, asked.group_size) for i in range(asked.prompts)
        ]
        clock = StepClock(6.0, 8.0, [(7.2, 7.8)], [])

        def compute() -> dict[str, float]:
            samples, staleness = sample_metrics(groups), staleness_metrics(groups, 3)
            return {**samples, **staleness, **time_metrics(clock, groups)}

        row = {"step": 3, **compute(), **look("none")}
        tracking = Tracking(Config(), run.path, "none")
        parts = {
            "compute_ms": median_ms(lambda i: compute()),
            "metrics_jsonl_ms": median_ms(lambda i: run.append("metrics.jsonl", [row])),
            "trackers_ms": median_ms(lambda i: tracking.write(i + 1, row)),
        }
        total = sum(parts.values())
        apart = {
            "rollouts_jsonl_ms": median_ms(
                lambda i: run.append("x", (r for g in groups for r in rollout_rows(3, g)))
            ),
            "look_every_5_s_ms": median_ms(lambda i: look("none")),
        }
        tracking.close()
    ray.shutdown()
    share = total / 1e3 / asked.step_seconds
    found = {
        "samples": asked.prompts * asked.group_size,
        "metrics": len(row),
        "step_seconds": asked.step_seconds,
    }
    found |= {**parts, "total_ms": total, "share_of_step": share, **apart}
    print(json.dumps({name: round(value, 5) for name, value in found.items()}))


if __name__ == "__main__":
    main()
