"""Run directories for the monitor's tests, written by the code that writes real ones, from made-up
samples.
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from PIL import Image

from cluster.monitor.runs import Runs
from cluster.monitor.server import application
from geoagent_rl.answers.parse import Stage, render
from geoagent_rl.config import Config
from geoagent_rl.metrics.batch import sample_metrics, staleness_metrics
from geoagent_rl.metrics.line import summary_line
from geoagent_rl.metrics.spans import StepClock, time_metrics
from geoagent_rl.network import LOOPBACK, listen
from geoagent_rl.run.directory import RunDir
from geoagent_rl.run.log import LOG
from geoagent_rl.terminal import stamped
from geoagent_rl.types import Group, Outcome, Prompt, Rollout, ScoredRollout, Truth

EVIL = """<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">"""
TRUTH = Truth("Germany", "Bayern", "München", 48.137, 11.575)


class Joined:
    """Stands in for a run that is going on and does what it is asked
    (cluster/monitor/attached.py).
    """

    def __init__(self) -> None:
        judge = {"status": "RUNNING", "replicas": {"RUNNING": 1}}
        node = {"address": "192.0.2.7", "cpus": 8.0, "gpus": 0.0, "alive": True}
        self.seen = {
            "attached": True,
            "run_id": "abc",
            "services": {"judge": judge},
            "nodes": [node],
            "actors": ["rollout-abc-0"],
        }
        self.asked = []

    def scale(self, service: str, replicas: int) -> None:
        self.asked.append((service, replicas))
        services = {service: {"status": "RUNNING", "replicas": {"RUNNING": replicas}}}
        self.seen = {**self.seen, "services": services, "said": f"asked for {replicas} {service}"}


@contextlib.contextmanager
def served(folder: Path, joined: Joined | None) -> Iterator[int]:
    """The port of a monitor in a thread of this process."""
    with listen("127.0.0.1", 0) as listener:
        app = application(Runs(folder), joined, LOOPBACK)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(10)


def photograph(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "street.jpg"
    if not path.exists():
        Image.linear_gradient("L").resize((320, 240)).convert("RGB").save(path)
    return path


def new_run(folder: Path, name: str = "run", **settings) -> RunDir:
    """An empty run whose manifest is the folder `photos` beside it."""
    config = Config()
    config.data.manifest = str(folder / "photos")
    config.run.dir = str(folder / "runs" / name)
    for key, value in settings.items():
        setattr(config, key, value)
    photograph(folder / "photos")
    return RunDir(config.run.dir).begin(config)


def group(step: int, place: int, image: Path, words: str, level: float, size: int = 4) -> Group:
    """Samples whose scores are around `level` (0..1); the last of the group has no readable
    answer.
    """
    chance = random.Random(f"{step}/{place}")
    samples = []
    for i in range(size):
        good = min(max(chance.gauss(level, 0.15), 0.0), 1.0)
        stages = tuple(
            Stage(("white plates", "blue signs"), f"{words} leads to {name}.", name, "Low")
            for name in TRUTH.levels
        )
        broken = i == size - 1
        text = (
            f"I cannot tell. {words}"
            if broken
            else render(stages, ("Germany", "Hessen", words[:20] or "Bonn"))
        )
        spans = {
            "submitted": step * 2.0,
            "generated": step * 2.0 + 0.5 + 0.1 * i,
            "scored": step * 2.0 + 0.9 + 0.1 * i,
        }
        rollout = Rollout(
            f"photo-{place}", i, (1,) * 90, (2,) * (40 + 3 * i), (), text, "stop", step - 1, spans
        )
        verdicts = [
            {
                "stage": n,
                "conclusion": n,
                "judge": words or n,
                "agree": False,
                "by": "",
                "not_asked": "",
                "characters": 120,
                "length_factor": 0.14,
                "weight": weight,
                "earned": 0.0,
            }
            for n, weight in zip(TRUTH.levels, (0.1, 0.6, 0.3), strict=True)
        ]
        spatial = {
            "lat": 50.1,
            "lon": 8.7,
            "distance_km": 304.2,
            "level": "place",
            "name": words,
            "country_code": "DE",
            "provider": "gazetteer",
            "tau_km": 200.0,
            "seconds": 0.02,
        }
        parts = {
            "spatial": Outcome("data", 0.0, words)
            if broken
            else Outcome("score", good, "", spatial),
            "semantic": Outcome("score", good**2, "", {"levels": [], "seconds": 0.03}),
            "consistency": Outcome(
                "score", good / 2, "", {"stages": verdicts, "seconds": 0.2, "attempts": 1}
            ),
            "format": Outcome("score", float(not broken), "", {"seconds": 1e-5}),
        }
        samples.append(
            ScoredRollout(rollout, parts, 1.5 * parts["spatial"].score + parts["semantic"].score)
        )
    centre = sum(s.total for s in samples) / size
    prompt = Prompt(f"photo-{place}", str(image), TRUTH)
    return Group(prompt, tuple(samples), tuple(s.total - centre for s in samples))


def record(
    run: RunDir, image: Path, steps: range, groups: int = 2, words: str = "", rise: float = 40.0
) -> None:
    """Steps whose rewards rise towards 1 over about `rise` steps."""
    for step in steps:
        level = 0.9 - 0.7 * math.exp(-step / rise)
        batch = [group(step, place, image, words, level) for place in range(groups)]
        clock = StepClock(step * 2.0, step * 2.0 + 2.0, [(step * 2.0 + 1.2, step * 2.0 + 1.8)], [])
        row = {
            "step": step,
            "prompts": step * groups,
            **sample_metrics(batch),
            **staleness_metrics(batch, step - 1),
        }
        row |= {
            **time_metrics(clock, batch),
            "tokens_per_s": 150.0,
            "kl": step / 1000,
            "entropy": 1 / step,
        }
        row |= {"replicas_judge": 1, "replicas_geo_embed": 2, "cache_hit_share": level}
        run.record_step(row, batch)
        with (run.path / LOG).open("a") as log:
            log.write(stamped(summary_line(step, steps.stop - 1, row)) + "\n")
