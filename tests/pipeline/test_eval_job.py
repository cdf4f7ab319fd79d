"""`eval run` as a whole on a fake engine: what it leaves in its directory, and a second start."""

import asyncio
import contextlib
import json
from types import SimpleNamespace

import pytest
from PIL import Image

from cluster.jobs import evaluate
from cluster.jobs.stages import measure
from geoagent_rl.answers.parse import Stage, render
from geoagent_rl.config import load
from geoagent_rl.data.sample import Sample
from geoagent_rl.evaluation.predictions import read_predictions
from geoagent_rl.evaluation.summary import summarise
from geoagent_rl.pages.report import write_report
from geoagent_rl.run.directory import RunDir
from geoagent_rl.types import Outcome, Rollout, ScoredRollout
from tests.support.driver_fakes import FakeEngine

NAMES = ("Kenya", "Kwale", "Diani")
TEXT = render(tuple(Stage(("sign",), "because", name, "Low") for name in NAMES), NAMES)
SPANS = {"submitted": 0.0, "generated": 1.0}


class Engine(FakeEngine):
    """The later a photograph is asked about, the sooner it is answered."""

    asked: list[str] = []

    async def generate(self, prompt, sampling):
        self.asked.append(prompt.uid)
        await asyncio.sleep(0.01 / len(self.asked))
        yield Rollout(prompt.uid, 0, (1,), (2,), (-0.1,), TEXT, "stop", 0, SPANS)


class Scorer:
    async def score(self, prompt, rollout):
        place = {"lat": prompt.truth.lat + 0.1, "lon": prompt.truth.lon, "level": "place"}
        parts = {"spatial": Outcome("score", 0.5, details=place), "format": Outcome("score", 1.0)}
        return ScoredRollout(rollout, parts, 1.25)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A function that runs the job on the first n of six photographs; the engine is a fake."""

    @contextlib.asynccontextmanager
    async def session(config, path):
        yield SimpleNamespace(config=config)

    @contextlib.asynccontextmanager
    async def running_stack(s, model):
        yield SimpleNamespace(engines=[Engine()], evaluation_scorer=Scorer())

    monkeypatch.setattr(evaluate, "session", session)
    monkeypatch.setattr(evaluate, "running_stack", running_stack)
    monkeypatch.setattr(evaluate, "checkpoint", lambda model: model)
    Engine.asked = []
    rows = [{"uid": f"p{i}", "image": f"{i}.png", "lat": -4.3, "lon": 39.6 + i} for i in range(6)]
    for row in rows:
        Image.new("RGB", (32, 32)).save(tmp_path / row["image"])
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(n):
        words = [f"data.eval_manifest={manifest}", "data.manifest=scenes", f"eval.samples={n}"]
        config = load(None, [*words, f"run.dir={tmp_path / 'run'}"])
        return evaluate.run_eval_job(config, "a-model")

    return run


async def test_a_stage_of_a_run_leaves_its_predictions_and_the_report_shows_its_figures(tmp_path):
    """As `train`, `demo` and `ablate` evaluate: the figures are those of the rows that are kept."""
    config = load(None, ["data.manifest=scenes", "eval.samples=3", f"run.dir={tmp_path}"])
    run, stack = RunDir(tmp_path), SimpleNamespace(engines=[Engine()], evaluation_scorer=Scorer())
    samples = [
        Sample(f"p{i}", str(tmp_path / f"{i}.png"), "Kenya", "Kwale", "Diani", -4.3, 39.6 + i)
        for i in range(5)
    ]
    table = await measure(config, stack, run, "sft", "heldout", samples, temperature=1.0)
    assert (table["n"], table["unanswered"], table["reward_total"]) == (3, 0, 1.25)
    assert run.evaluations() == {"sft": {"heldout": table}}
    kept = read_predictions(tmp_path / "predictions" / "sft-heldout.jsonl")
    assert kept.uids == ["p0", "p1", "p2"]  # in the order of the samples, however they ended
    assert summarise(kept, config.eval.geoscore_scale_km) | {"unanswered": 0} == table
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "after SFT" in page and "100.0%" in page and "1.25" in page


def test_a_second_start_asks_for_the_rest_only_and_the_figures_are_those_of_the_file(job):
    _, four = job(4)
    file, again = job(4)
    assert sorted(Engine.asked) == ["p0", "p1", "p2", "p3"] and again == four
    assert (four["n"], four["failed"], four["unanswered"]) == (4, 0, 0)
    _, six = job(6)
    assert sorted(Engine.asked) == [f"p{i}" for i in range(6)] and six["n"] == 6
    assert six["reward_total"] == 1.25 and six["hit"]["25"] == 1.0
    assert summarise(read_predictions(file), 1805.0) | {"unanswered": 0} == six
    recorded = json.loads((file.parent / "eval.json").read_text())["eval"]["eval"]
    assert recorded == six
