"""Reward workers by load, on real Ray Serve: more of them while calls pile up, fewer when it is quiet, no call lost."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from geocoder_server import serving
from test_serving import config_for, stand_in

from actors.serving import start_services
from cluster.scale import replicas, scale
from geoagent_rl.types import UserError

MOST, LIMIT_S = 3, 60.0
RUN = "byload"


def test_replicas_follow_the_load_and_no_call_is_lost(ray_local, tmp_path):
    with serving(places={}, trouble=lambda *_: time.sleep(0.5)) as server:  # waiting costs no processor
        asyncio.run(follows_the_load(server.url, tmp_path))


async def follows_the_load(url, folder):
    config, numbers = config_for(), itertools.count()
    geocoder = config.reward.geocoder
    geocoder.provider, geocoder.nominatim.url, geocoder.nominatim.rate_per_s = ["nominatim"], url, 1e6
    geocoder.max_replicas, geocoder.target_ongoing, geocoder.idle_s = MOST, 1.0, 1.0
    services = await start_services(config, RUN, folder, stand_in)

    async def calls(ended):
        done = 0
        while not ended.is_set():  # a lost call raises here: nothing below the scorer tries again
            names = [("Germany", "Bavaria", f"Irgendwo{next(numbers)}") for _ in range(8)]  # 8: a call of its own
            assert len(await services.services.geocoder.geocode(names)) == 8
            done += 1
        return done

    async def reach(number):
        async with asyncio.timeout(LIMIT_S):
            while await asyncio.to_thread(replicas, RUN, "geocoder") != {"RUNNING": number}:
                await asyncio.sleep(0.1)

    try:
        assert replicas(RUN, "geocoder") == {"RUNNING": 1}
        with pytest.raises(UserError, match="by load, up to reward.geocoder.max_replicas"):
            scale(RUN, {"geocoder": 2})
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
