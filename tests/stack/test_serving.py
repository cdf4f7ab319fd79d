"""The reward services on real Ray and Serve, with the real gazetteer, encoder and Redis; the judge
is a stand-in but for one test.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from ray import cloudpickle, serve

from actors.reward_clients import GeoEmbedClient
from actors.serving import start_services
from cluster.scale import scale
from cluster.status import status
from geoagent_rl.config import Config
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.rewards.services import LevelPair, Verdict
from geoagent_rl.types import InfraError, UserError
from tests.support.paths import ROOT
from tests.support.reward_fakes import LEVELS, PROMPT, completion, rollout

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import a test
TRUE_LEVELS = ("Germany", "Bayern", "München")


class StandInJudge:
    """Concludes the word before the first colon, as reward_fakes.py writes reasonings."""

    async def judge(self, items):
        return [Verdict(item.reasoning.split(":")[0], 0.0) for item in items]


def stand_in(config, cache_url):
    return serve.deployment(
        StandInJudge, ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=1024
    ).bind()


def config_for(**reward):
    config = Config()
    config.reward = dataclasses.replace(config.reward, **reward)
    return config


class Running:
    """The services of one run and the event loop that their clients live in."""

    def __init__(self, cache_dir, **reward):
        self.loop, self.config = asyncio.new_event_loop(), config_for(**reward)
        self.services = self.do(start_services(self.config, "test", cache_dir, stand_in))
        self.scorer = Scorer(self.services.services, self.config.reward)

    def do(self, work):
        return self.loop.run_until_complete(work)

    async def score_all(self, texts):
        return await asyncio.gather(
            *(self.scorer.score(PROMPT, rollout(t, i)) for i, t in enumerate(texts))
        )

    def stop(self):
        self.do(self.services.stop())


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def running(ray_local, cache_dir):
    running = Running(cache_dir, deadline_s=60.0)
    yield running
    running.stop()


def replicas():
    """Processes of this Ray's GeoEmbedWorker replicas."""
    return [p for p in psutil.Process().children(recursive=True) if "GeoEmbedWorker" in name(p)]


def name(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_real_answers_score_as_they_should(running):
    texts = [
        completion(TRUE_LEVELS, TRUE_LEVELS),
        completion(("Deutschland", "Bavaria", "Munich"), ("Deutschland", "Bavaria", "Munich")),
        completion(("Germany", "Bavaria", "unknown")),
        completion(("Japan", "Hokkaido", "Sapporo")),
        completion(("Qzxland", "Xqzregion", "Zzqtown")),
    ]
    exact, alias, hedge, wrong, nowhere = running.do(running.score_all(texts))
    assert (
        exact.parts["spatial"].details["level"] == "place" and exact.parts["spatial"].score > 0.75
    )
    assert alias.parts["semantic"].score == 1.0 and alias.parts["consistency"].score == 1.0
    assert {row["by"] for row in alias.parts["semantic"].details["levels"]} == {"gazetteer"}
    assert hedge.parts["spatial"].details["level"] == "region"
    assert hedge.parts["semantic"].score == pytest.approx(0.7)
    assert wrong.parts["spatial"].score < 1e-9 and wrong.parts["semantic"].score == 0.0
    assert nowhere.parts["spatial"].kind == "data" and nowhere.parts["spatial"].score == 0.0
    assert exact.total > hedge.total > wrong.total


def test_concurrent_equal_questions_cost_one_look_up(running):
    async def work():
        geo = running.services.services.geocoder
        before = (await geo.handle.stats.remote()).get("geocode_computed", 0)
        found = await asyncio.gather(
            *(geo.geocode([("Italy", "Tuscany", "Pisa")]) for _ in range(50))
        )
        assert {row[0].name for row in found} == {"Pisa"}
        (same,) = await geo.same_place(
            [LevelPair("place", "Munich", "München", ("Germany", "Bayern"))]
        )
        assert same
        return (await geo.handle.stats.remote())["geocode_computed"] - before

    assert running.do(work()) == 1


def test_hit_shares_count_what_every_worker_answered(running):
    services = running.services

    async def published():
        """Waits until Redis has what the replica has counted."""
        deadline = time.monotonic() + 10
        counters = await services.services.geocoder.handle.stats.remote()
        while services.counted["geocode_misses"] + services.counted["geocode_hits"] < (
            counters["geocode_misses"] + counters.get("geocode_hits", 0)
        ):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
            shares = await services.cache_metrics()
        return shares, counters

    async def work():
        for _ in range(4):
            await services.services.geocoder.geocode([("Italy", "Tuscany", "Lucca")])
        shares, counters = await published()
        assert {"cache_hit_share", "cache_hit_share_geocode"} <= set(shares)
        assert all(
            services.counted[f"geocode_{what}"] == counters.get(f"geocode_{what}")
            for what in ("hits", "misses")
        )
        assert await services.cache_metrics() == {}  # nothing since

    running.do(work())


def test_scaling_loses_no_request_and_leaves_the_old_replicas_alone(running):
    geo, numbers = running.services.services.geocoder, itertools.count()

    async def load(ended):
        while (
            not ended.is_set()
        ):  # a lost request raises here: nothing below the scorer tries again
            names = [("Germany", "Bavaria", f"Irgendwo{next(numbers)}") for _ in range(20)]
            assert len(await geo.geocode(names)) == 20

    async def work():
        ended, first = asyncio.Event(), {p.pid for p in replicas()}
        loads = [asyncio.create_task(load(ended)) for _ in range(4)]
        await asyncio.to_thread(scale, "test", {"geocoder": 3})
        grown = {p.pid for p in replicas()}
        await asyncio.to_thread(scale, "test", {"geocoder": 1})
        ended.set()
        await asyncio.gather(*loads)
        return first, grown

    first, grown = running.do(work())
    assert len(first) == 1 and first < grown and len(grown) == 3
    assert status("test")["services"]["geocoder"]["replicas"] == {"RUNNING": 1}


def test_a_hung_replica_is_an_infra_error_in_time(running):
    async def work():
        geo = GeoEmbedClient(running.services.services.geocoder.handle, timeout_s=0.5)
        (replica,) = replicas()
        replica.suspend()
        try:
            with pytest.raises(InfraError, match="no answer within 0.5 s"):
                await geo.geocode([LEVELS])
        finally:
            replica.resume()
        assert (await running.services.services.geocoder.geocode([LEVELS]))[0].name == "Munich"

    running.do(work())


def test_a_killed_replica_and_a_killed_redis_lose_no_sample_and_change_no_number(running):
    levels = [
        ("Germany", "Bavaria", f"Neu{i}dorf") for i in range(1500)
    ]  # no real names: seconds of encoding
    texts = [completion(some, some) for some in levels]

    async def work():
        (replica,) = replicas()
        geo = running.services.services.geocoder
        before = (await geo.handle.stats.remote()).get("similarity_computed", 0)
        task = asyncio.create_task(running.score_all(texts))
        async with asyncio.timeout(
            60
        ):  # until it is in the middle of its work, however busy the machine
            while (await geo.handle.stats.remote()).get("similarity_computed", 0) <= before:
                await asyncio.sleep(0.01)
        assert not task.done()
        replica.kill()
        os.kill(await running.services.cache_server.pid.remote(), signal.SIGKILL)
        return await task, await running.score_all(texts)

    during, after = running.do(work())
    assert None not in [s.total for s in during]
    assert [s.total for s in during] == [s.total for s in after]
    assert [s.rollout.index for s in during] == list(range(1500))
    assert (
        max(o.details["attempts"] for s in during for o in s.parts.values()) > 1
    )  # the kill was felt


def test_a_stopped_run_leaves_nothing_behind_and_its_next_life_has_its_cache(running, cache_dir):
    async def ask(geo):
        return await geo.geocode([("Germany", "Bavaria", "Bamberg")])

    found = running.do(ask(running.services.services.geocoder))
    running.stop()
    assert not replicas() and not serve.status().applications
    assert not [
        p
        for p in psutil.process_iter(["name"])
        if p.name() == "redis-server" and p.cwd() == str(cache_dir)
    ]
    again = Running(cache_dir)
    try:
        geo = again.services.services.geocoder
        assert again.do(ask(geo)) == found
        counters = again.do(asyncio.wait_for(_stats(geo), 10))
        assert counters["geocode_hits"] == 1 and counters.get("geocode_computed", 0) == 0
    finally:
        again.stop()


async def _stats(geo):
    return await geo.handle.stats.remote()


class BrokenJudge:
    def __init__(self):
        raise UserError("judge.model is no model")


def broken(config, cache_url):
    return serve.deployment(
        BrokenJudge, ray_actor_options={"num_cpus": 0.1}, max_constructor_retry_count=1
    ).bind()


@pytest.mark.parametrize("what", ["encoder.model", "judge.model", "geocoder.opencage.api_key_env"])
def test_settings_that_cannot_work_end_in_one_line_and_leave_nothing(
    ray_local, tmp_path, what, monkeypatch
):
    monkeypatch.delenv("OPENCAGE_API_KEY", raising=False)
    config = config_for()
    if what == "encoder.model":
        config.reward.encoder.model = str(tmp_path / "no-such-model")
    elif what == "geocoder.opencage.api_key_env":
        config.reward.geocoder.provider = ["opencage", "gazetteer"]
    before = len(replicas())
    with pytest.raises((InfraError, UserError)) as caught:
        asyncio.run(start_services(config, "bad", tmp_path / "cache", broken))
    assert what in str(caught.value) and "\n" not in str(caught.value)
    assert len(replicas()) == before
    assert not [app for app in serve.status().applications if app.startswith("bad-")]


def test_replicas_follow_the_load_and_no_call_is_lost(tmp_path):
    command = [sys.executable, "-m", "tests.support.load_followed", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
