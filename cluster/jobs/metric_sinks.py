"""Where a step's metrics go besides metrics.jsonl: TensorBoard, Ray's metrics (for Prometheus), and
the trackers that are asked for (trackers.py).

What goes there is decided in geoagent_rl/metrics/table.py: this only forwards rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.util.metrics import Gauge
from torch.utils.tensorboard import SummaryWriter

from cluster.jobs.trackers import answers_of, asked_for
from geoagent_rl.config import Config
from geoagent_rl.metrics.table import describe, is_metric
from geoagent_rl.terminal import say
from geoagent_rl.types import Group

PREFIX = "geoagent_"  # Prometheus sees ray_geoagent_<name>{run="..."}


class Tracking:
    """The trackers of one run. `first` is the number of steps that earlier lives of the run have
    kept; `goes_on`: there were earlier lives.

    Raises InfraError when a tracker that is asked for does not start, at the run's first start: one
    that goes on is not stopped by what only reports.
    """

    def __init__(
        self, config: Config, run_dir: Path, run_id: str, first: int = 0, goes_on: bool = False
    ) -> None:
        # Ray's tags are ASCII.
        self.run = run_dir.name.encode("ascii", "backslashreplace").decode()
        self.every = config.run.answers_every
        self.asked = asked_for(config, run_dir, run_id, must=not goes_on)
        self.writer: SummaryWriter | None = None
        self.gauges: dict[str, Gauge] = {}
        self.trackers: dict[str, Callable[[int, Mapping[str, float]], None]] = {
            "Ray and Prometheus": self.export,
            **{name: tracker.log for name, tracker in self.asked.items()},
        }
        try:
            self.writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=first + 1)
            self.trackers["TensorBoard"] = self.plot
        except Exception as error:  # noqa: BLE001 (what only reports stops nothing)
            say(f"WARNING: no metrics for TensorBoard: {type(error).__name__}: {error}")

    def write(self, step: int, row: Mapping[str, float], groups: Sequence[Group] = ()) -> None:
        """Send every value of `row`, whose names are those of the metric table; every so many steps
        a table of answers of `groups` where a tracker shows one.

        A tracker that fails is given up with a warning: what only reports never stops a run."""
        for name, send in list(self.trackers.items()):
            self._try(name, send, step, row)
        shown = {name: self.asked[name] for name in self.asked if name in self.trackers}
        if shown and self.every and step % self.every == 0 and (answers := answers_of(groups)):
            for name, tracker in shown.items():
                self._try(name, tracker.show, step, answers)

    def _try(self, name: str, send: Callable[[int, Any], None], step: int, what: Any) -> None:
        try:
            send(step, what)
        except Exception as error:  # noqa: BLE001 (what only reports stops nothing)
            say(f"WARNING: no more metrics for {name}: {type(error).__name__}: {error}")
            del self.trackers[name]

    def plot(self, step: int, row: Mapping[str, float]) -> None:
        """Write TensorBoard's files, in a thread that a full disk ends."""
        assert self.writer is not None
        for name, value in row.items():
            self.writer.add_scalar(name, value, step)

    def export(self, _: int, row: Mapping[str, float]) -> None:
        """Set Ray's gauges, which Prometheus reads."""
        for name, value in row.items():
            if math.isfinite(value):
                self.gauge(name).set(value)

    def gauge(self, name: str) -> Gauge:
        """Return Ray's gauge of this metric, made at its first use."""
        if name not in self.gauges:
            unit, meaning = describe(name) if is_metric(name) else ("", "")
            gauge = Gauge(PREFIX + name, description=f"{meaning} [{unit}]", tag_keys=("run",))
            gauge.set_default_tags({"run": self.run})
            self.gauges[name] = gauge
        return self.gauges[name]

    def close(self) -> None:
        """End the trackers that have to be ended."""
        ends = [self.writer.close] if self.writer else []
        for end in (*ends, *(tracker.finish for tracker in self.asked.values())):
            try:
                end()
            except Exception as error:  # noqa: BLE001 (what only reports stops nothing)
                say(f"WARNING: a tracker did not end well: {type(error).__name__}: {error}")
