"""`eval run`'s loop on fakes: consensus, failures that are answers and failures that are not, and
going on later.
"""

import asyncio
import json

import numpy as np
import pytest

from cluster.jobs.evaluate import open_file
from geoagent_rl.answers.parse import Stage, render
from geoagent_rl.config import Config, RolloutConfig, load
from geoagent_rl.data.images import BadImage
from geoagent_rl.data.sample import Sample
from geoagent_rl.evaluation.locate import locate, medoid
from geoagent_rl.evaluation.predictions import from_rows, read_predictions
from geoagent_rl.evaluation.summary import summarise
from geoagent_rl.run.directory import RunDir
from geoagent_rl.types import InfraError, Outcome, Rollout, Sampling, ScoredRollout, UserError
from tests.support.driver_fakes import FakeEngine

TEXT = render(tuple(Stage(("sign",), "because", c, "Medium") for c in ("Kenya", "Kwale", "Diani")),
              ("Kenya", "Kwale", "Diani"))  # fmt: skip
SAMPLES = [
    Sample(f"p{i}", f"{i}.jpg", "Kenya", "Kwale", "Diani", -4.3, 39.6, "", 6.5, "sign")
    for i in range(6)
]


class Engine(FakeEngine):
    """Completion i of a photograph is its i-th point (None: no answer); some photographs are broken
    or fail.
    """

    def __init__(self, points, broken=(), failing=()):
        super().__init__()
        self.points, self.broken, self.failing, self.asked = points, set(broken), set(failing), []

    async def generate(self, prompt, sampling):
        self.asked.append((prompt.uid, sampling.seed, sampling.temperature))
        if prompt.uid in self.broken:
            raise BadImage("cut short", "unreadable")
        if prompt.uid in self.failing:
            raise InfraError("engine died")
        for i in range(sampling.n):
            text = TEXT if self.points[i % len(self.points)] else "I cannot tell"
            yield Rollout(
                prompt.uid,
                i,
                (1,),
                (2,),
                (-0.1,),
                text,
                "stop",
                0,
                {"submitted": 0.0, "generated": 1.0},
            )


class Scorer:
    def __init__(self, points):
        self.points = points

    async def score(self, prompt, rollout):
        point = self.points[rollout.index % len(self.points)]
        if point == "infra":
            spatial = Outcome("infra", None, "geocoder timed out")
        elif point is None:
            spatial = Outcome("data", 0.0, "the answer names no place")
        else:
            spatial = Outcome(
                "score", 0.5, details={"lat": point[0], "lon": point[1], "level": "place"}
            )
        stages = {"stages": [{"agree": True}, {"agree": False}, {"agree": True}]}
        similar = {
            "levels": [
                {"level": "country", "similarity": 1.0},
                {"level": "region", "similarity": 0.4},
            ]
        }
        parts = {"spatial": spatial, "semantic": Outcome("score", 0.4, details=similar),
                 "consistency": Outcome("score", 0.4, details=stages), "format": Outcome("score", 1.0)}  # fmt: skip
        return ScoredRollout(rollout, parts, 1.0)


def located(samples, engine, completions=1):
    rows = []
    left = asyncio.run(
        locate(
            samples,
            [engine],
            Scorer(engine.points),
            Sampling(completions, 3, 0.7),
            RolloutConfig(),
            rows.append,
        )
    )
    return {row["uid"]: row for row in rows}, left


def test_the_medoid_is_the_answer_that_most_agree_with():
    points = [(48.8, 2.3), (48.9, 2.4), (-33.9, 151.2), (48.85, 2.35)]
    assert medoid(np.array(points))[0] == 3
    engine = Engine([*points, None])
    rows, left = located(SAMPLES[:1], engine, completions=5)
    row = rows["p0"]
    assert (row["pred_lat"], row["pred_lon"], row["completions"], row["located"]) == (
        48.85,
        2.35,
        5,
        4,
    )
    assert row["spread_km"] > 5000 and left == 0 and row["failure"] == ""


def test_a_row_says_what_the_rewards_and_the_reasoning_said():
    rows, _ = located(SAMPLES[:1], Engine([(-4.3, 39.6)]))
    row = rows["p0"]
    assert row["answer"] == "Kenya; Kwale; Diani" and row["uncertainty_region"] == "Medium"
    assert (row["right_country"], row["right_region"], row["right_place"]) == (1, 0, 0)
    assert (row["reward_total"], row["reward_semantic"]) == (1.0, 0.4)
    assert (row["reward_consistency"], row["agrees"], row["format_valid"]) == (
        0.4,
        [True, False, True],
        1.0,
    )
    assert (row["locatability"], row["scene"], row["spread_km"]) == (6.5, "sign", None)


def test_no_answer_and_a_broken_photograph_are_failed_rows_but_dead_machinery_is_none(tmp_path):
    engine = Engine([None], broken=["p1"], failing=["p2"])
    rows, left = located(SAMPLES[:4], engine)
    assert left == 1 and set(rows) == {"p0", "p1", "p3"}
    assert [uid for uid, *_ in engine.asked].count("p2") == 3
    assert rows["p0"]["failure"] == "the answer names no place"
    assert rows["p1"]["failure"] == "photograph: cut short"
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
    table = summarise(read_predictions(tmp_path / "p.jsonl"), 1805.0)
    assert (table["n"], table["failed"], sum(table["failures"].values())) == (3, 3, 3)
    with pytest.raises(InfraError, match="no photograph could be located; the last: .*engine died"):
        located(SAMPLES[2:3], engine)


def test_the_figures_of_rows_in_memory_and_of_their_file_are_the_same(tmp_path):
    rows, _ = located(SAMPLES[:4], Engine([(-4.3, 39.6)], broken=["p1"]))
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
    table = summarise(from_rows("p", list(rows.values())), 1805.0)
    assert table == summarise(read_predictions(file), 1805.0)
    names = ("country_acc", "region_acc", "format_valid", "reward_total", "reward_consistency")
    assert [table[name] for name in names] == pytest.approx(
        [1.0, 0.0, 1.0, 1.0, 0.4]  # of those with an answer
    )
    assert (table["n"], table["failed"], table["hit"]["25"]) == (4, 1, 0.75)


def test_a_photograph_s_completions_depend_on_seed_and_uid_only():
    """Whichever are asked with it, in whatever order: a later run asks for the rest alone."""
    engine = Engine([(1.0, 2.0)])
    located(SAMPLES, engine)
    located(SAMPLES[3:1:-1], engine)
    assert {seed for _, seed, _ in engine.asked} == {3}  # the uid is the engine's part


def test_another_engine_answers_where_one_died():
    points = [(1.0, 2.0)]
    dead, alive = Engine(points, failing=[s.uid for s in SAMPLES]), Engine(points)
    rows = []
    assert (
        asyncio.run(
            locate(
                SAMPLES,
                [dead, alive],
                Scorer(points),
                Sampling(1, 3, 0.0),
                RolloutConfig(max_num_seqs=1),  # two at once
                rows.append,
            )
        )
        == 0
    )
    assert len(rows) == 6 and len(alive.asked) == 6 and len(dead.asked) == 3


def test_a_place_that_could_not_be_looked_up_is_no_wrong_answer():
    with pytest.raises(
        InfraError, match="no photograph could be located; the last: p0: geocoder timed out"
    ):
        located(SAMPLES[:1], Engine(["infra"]))
    with pytest.raises(
        InfraError, match="geocoder timed out"
    ):  # nor is a consensus of the others the answer
        located(SAMPLES[:1], Engine([(1.0, 2.0), "infra"]), completions=2)


def test_a_second_start_asks_only_for_the_rest_and_never_mixes_checkpoints(tmp_path):
    config = Config()
    config.run.dir, config.data.manifest = str(tmp_path / "run"), "scenes"
    run = RunDir(config.run.dir).begin(config)
    asked = {"model": "m", "completions": 1}
    assert open_file(run, asked, SAMPLES) == SAMPLES
    run.append("predictions.jsonl", [{"uid": "p0"}, {"uid": "p3"}])
    with (run.path / "predictions.jsonl").open("a") as file:
        file.write('{"uid": "p4", "pred')  # torn by a kill
    assert [s.uid for s in open_file(run, asked, SAMPLES)] == ["p1", "p2", "p4", "p5"]
    run.append("predictions.jsonl", [{"uid": "p4"}])
    assert [row["uid"] for row in run.rows("predictions.jsonl")] == ["p0", "p3", "p4"]
    with pytest.raises(
        UserError, match="holds predictions with another model; give another run.dir"
    ):
        open_file(run, {**asked, "model": "other"}, SAMPLES)


def test_several_greedy_completions_are_refused():
    with pytest.raises(UserError, match="alike at eval.temperature 0"):
        load(None, ["data.manifest=scenes", "eval.completions=4"])
