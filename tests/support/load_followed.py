"""Reward workers by load, on real Ray Serve: more of them while calls pile up, fewer when it is
quiet, no call lost.

    python -m tests.support.load_followed FOLDER

A process of its own: a thread in which Serve reports the load outlives its Ray session by a minute
and then ends the process that it is in."""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time

import ray

from actors.serving import start_services
from cluster.scale import replicas, scale
from geoagent_rl.config import Config
from geoagent_rl.types import UserError
from tests.support.geocoder_server import serving
from tests.support.reward_services import judge_application

MOST, LIMIT_S = 3, 60.0
RUN = "byload"


def settings(url: str) -> Config:
    config = Config()
    geocoder = config.reward.geocoder
    geocoder.provider, geocoder.nominatim.url, geocoder.nominatim.rate_per_s = (
        ["nominatim"],
        url,
        1e6,
    )
    geocoder.max_replicas, geocoder.target_ongoing, geocoder.idle_s = MOST, 1.0, 1.0
    return config


async def follow_the_load(url: str, folder: str) -> None:
    numbers = itertools.count()
    services = await start_services(settings(url), RUN, folder, judge_application())

    async def calls(ended: asyncio.Event) -> int:
        done = 0
        while not ended.is_set():  # a lost call raises here: nothing below the scorer tries again
            names = [
                ("Germany", "Bavaria", f"Irgendwo{next(numbers)}") for _ in range(8)
            ]  # 8: a call of its own
            assert len(await services.services.geocoder.geocode(names)) == 8
            done += 1
        return done

    async def reach(number: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while await asyncio.to_thread(replicas, RUN, "geocoder") != {"RUNNING": number}:
                await asyncio.sleep(0.1)

    try:
        await reach(1)
        try:
            scale(RUN, {"geocoder": 2})
            raise AssertionError("scaled by hand what is scaled by load")
        except UserError as error:
            assert "by load, up to reward.geocoder.max_replicas" in str(error)
        ended, quiet = asyncio.Event(), asyncio.Event()
        little = asyncio.create_task(calls(quiet))  # goes on while replicas go
        much = [asyncio.create_task(calls(ended)) for _ in range(8)]
        await reach(MOST)
        ended.set()
        done = await asyncio.gather(*much)
        await reach(1)
        quiet.set()
        assert all(done) and await little
    finally:
        await services.stop()


def main(folder: str) -> None:
    with tempfile.TemporaryDirectory(
        prefix="ga-ray-"
    ) as session:  # a short path, for Ray's sockets
        ray.init(
            address="local",
            num_cpus=8,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=session,
        )
        try:
            with serving(
                places={}, trouble=lambda *_: time.sleep(0.5)
            ) as server:  # waiting costs no processor
                asyncio.run(follow_the_load(server.url, folder))
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
