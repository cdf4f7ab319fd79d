"""A run whose engines, learner and judge are stand-ins and whose placement, services and clean-up
are real.

Run as a script by test_cluster.py on a cluster with declared, fictitious GPUs. Reads JSON words
from standard input and answers each with one JSON line. May be killed at any time: that is one of
the tests."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import time
from pathlib import Path

import ray
from ray.util.state import list_actors, list_nodes

import actors.judge_worker
import actors.learner_group
import cluster.launch
import cluster.placement
from actors.gpu_share import hide_others
from cluster.launch import learner, running_stack, session
from cluster.placement import reserve
from geoagent_rl.config import load
from geoagent_rl.grpo.schedule import grpo_phase
from geoagent_rl.types import PolicyVersion, UserError
from tests.support.paths import ROOT


def here():
    context = ray.get_runtime_context()
    return {"node": context.get_node_id(), "gpus": context.get_accelerator_ids()["GPU"]}


class Engine:
    def __init__(self, config, model, store):
        self.share = config.rollout.gpus_per_engine

    async def start(self, further_gpus=()):
        hide_others(self.share, further_gpus)
        return 0.0

    async def where(self):
        return here() | {"sees": os.environ["CUDA_VISIBLE_DEVICES"].split(",")}

    async def stop(self):
        pass


class Rank:
    def __init__(self, gpus):
        pass

    def address(self):
        return "127.0.0.1:1"

    def start(self, *args):
        return PolicyVersion(0, "checkpoint", "nowhere")

    def call(self, method, *args):
        return here()


class Judge:
    def __init__(self, judge, cache_url, cache_timeout_s):
        pass

    async def judge(self, items):
        return [here() for _ in items]


cluster.launch.RolloutEngine = Engine
actors.learner_group.LearnerRank = Rank
actors.judge_worker.JudgeWorker = Judge


def say(answer):
    print(json.dumps(answer), flush=True)


async def refusal(config, run_id):
    """How a reservation fails, and after how many seconds."""
    begin = time.monotonic()
    try:
        (await reserve(config, run_id)).release()
        return "", time.monotonic() - begin
    except UserError as error:
        return str(error), time.monotonic() - begin


async def shared_gpus(s, config):
    """Where engines and ranks are that share GPUs."""
    place = await reserve(config, "shared")
    s = dataclasses.replace(s, config=config, run_id="shared", place=place)
    try:
        numbers = range(config.rollout.engines)
        engines = [cluster.launch.start_engine(s, i, "nowhere") for i in numbers]
        for i, engine in enumerate(engines):
            await cluster.launch.engine_up(s, i, engine)
        async with learner(s, "nowhere", grpo_phase(config)) as group:
            refs = [actor.call.remote("where") for actor in group.actors]
            ranks = await asyncio.gather(*(asyncio.wrap_future(ref.future()) for ref in refs))
        seen = await asyncio.gather(*(engine.actor.where.remote() for engine in engines))
        return {"engines": seen, "ranks": ranks}
    finally:
        place.release()


async def layout(stack, group, services):
    refs = [actor.call.remote("where") for actor in group.actors]
    workers = list_actors(filters=[("state", "=", "ALIVE")], detail=True, limit=500)
    return {
        "nodes": {node.node_id: node.resources_total for node in list_nodes()},
        "engines": await asyncio.gather(
            *(one.engine.actor.where.remote() for one in stack.engines)
        ),
        "learner": await asyncio.gather(*(asyncio.wrap_future(ref.future()) for ref in refs)),
        "judge": (await services.judge.judge(["a stage"]))[0],
        "workers": [a.node_id for a in workers if a.class_name.endswith("GeoEmbedWorker")],
        "driver": ray.get_runtime_context().get_node_id(),
        "watch over it": [a.node_id for a in workers if a.class_name in ("Pulse", "Janitor")],
    }


async def main(folder, words):
    config = load(Path("configs/paper.yaml"), words)
    loop = asyncio.get_running_loop()
    async with session(config, Path(folder)) as s, running_stack(s, "nowhere") as stack:
        async with learner(s, "nowhere", grpo_phase(config)) as group:
            services = stack.services.services
            say(
                {
                    "run_id": s.run_id,
                    **await layout(stack, group, services),
                }
            )
            cluster.placement.RESERVE_S = 2.0
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                asked = json.loads(line)
                if "shared" in asked:
                    config = load(Path("configs/paper-8x80gb.yaml"), asked["shared"])
                    say(await shared_gpus(s, config))
                elif "geocode" in asked:
                    (match,) = await services.geocoder.geocode([tuple(asked["geocode"])])
                    say(match.name)
                else:
                    say(await refusal(load(Path(asked["config"]), asked["words"]), "other"))


if __name__ == "__main__":
    os.chdir(ROOT)
    Path(sys.argv[1]).mkdir(parents=True)
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
