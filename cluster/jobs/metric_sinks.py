"""Where a step's metrics go besides metrics.jsonl: TensorBoard, Ray's metrics (for Prometheus), W&B
where asked for.

What goes there is decided in geoagent_rl/metrics/table.py: this only forwards rows.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.util.metrics import Gauge
from torch.utils.tensorboard import SummaryWriter

from geoagent_rl.config import Config
from geoagent_rl.metrics.table import describe, is_metric
from geoagent_rl.terminal import say
from geoagent_rl.types import InfraError

PREFIX = "geoagent_"  # Prometheus sees ray_geoagent_<name>{run="..."}


class Tracking:
    """The trackers of one run. `first` is the number of steps that earlier lives of the run have
    kept.

    Raises InfraError when Weights & Biases is asked for and does not start.
    """

    def __init__(self, config: Config, run_dir: Path, run_id: str, first: int = 0) -> None:
        # Ray's tags are ASCII.
        self.run = run_dir.name.encode("ascii", "backslashreplace").decode()
        self.writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=first + 1)
        self.gauges: dict[str, Gauge] = {}
        self.wandb = start_wandb(config, run_dir, run_id) if config.run.wandb else None
        self.trackers: dict[str, Callable[[int, Mapping[str, float]], None]] = {
            "TensorBoard": self.plot,
            "Ray and Prometheus": self.export,
        }
        if (wandb := self.wandb) is not None:
            self.trackers["Weights & Biases"] = lambda step, row: wandb.log(dict(row), step=step)

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Every value of `row`, whose names are those of the metric table.

        A tracker that fails is given up with a warning: what only reports never stops a run."""
        for name, send in list(self.trackers.items()):
            try:
                send(step, row)
            except Exception as error:  # noqa: BLE001 (what only reports stops nothing)
                say(f"WARNING: no more metrics for {name}: {type(error).__name__}: {error}")
                del self.trackers[name]

    def plot(self, step: int, row: Mapping[str, float]) -> None:
        """Write TensorBoard's files, in a thread that a full disk ends."""
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
        for end in (self.writer.close, self.wandb.finish if self.wandb is not None else None):
            try:
                if end is not None:
                    end()
            except Exception as error:  # noqa: BLE001 (what only reports stops nothing)
                say(f"WARNING: a tracker did not end well: {type(error).__name__}: {error}")


def start_wandb(config: Config, run_dir: Path, run_id: str) -> Any:
    """Return a W&B run, continued when this run is resumed. Its key comes from W&B's own
    environment variables or login.
    """
    # Not a dependency; geoagent_rl/config/rules.py has looked whether it is there.
    wandb = importlib.import_module("wandb")
    settings = dataclasses.asdict(config)
    try:
        return wandb.init(
            project=config.run.wandb,
            name=run_dir.name,
            id=run_id,
            resume="allow",
            dir=str(run_dir),
            config=settings,
        )
    except wandb.Error as error:
        raise InfraError(
            f"Weights & Biases did not start: {' '.join(str(error).split())[:300]}"
        ) from error
