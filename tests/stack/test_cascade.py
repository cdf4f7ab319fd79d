"""A cascade of judges on real Ray Serve: an engine of the tiny judge, an endpoint in trouble."""

from __future__ import annotations

import asyncio
import json

import pytest
from ray import serve

from actors.serving import start_services
from geoagent_rl.config import Config
from geoagent_rl.config.services import CascadeConfig, JudgeConfig, JudgeEndpointConfig
from geoagent_rl.rewards.consistency_prompt import answer
from geoagent_rl.rewards.services import JudgeItem
from geoagent_rl.tiny.judge_examples import examples
from geoagent_rl.types import InfraError
from tests.support.chat_server import chatting, said


def last_word(reasoning):
    return reasoning.rstrip(".").split()[-1]


def named(body):
    """What the large judge concludes."""
    return answer(last_word(json.loads(body["messages"][-1]["content"])["reasoning"]))


def troubled(number, body, key):
    """Asked once to wait, once broken, once talking rubbish; number 1 is the check at the start."""
    return {
        2: (429, {"Retry-After": "0.2"}, "{}"),
        3: (503, {}, "{}"),
        4: (200, {}, said("I think that it is Pisa")),
    }.get(number)


@pytest.mark.timeout(240)
def test_a_cascade_on_serve_asks_its_engine_and_the_endpoint_over_sockets(ray_local, tmp_path):
    """An engine of the tiny judge, its endpoint in trouble: every question gets the verdict of the
    judge whose turn it is, once. The tiny judge is sure of its world's words and of no others.
    """
    known = [item for item, _ in examples(8, seed=1001, foreign=0.0, other_phrasing=0.0)]
    strange = [
        JudgeItem("place", ("Italy",), f"There are some towers, so I take it for Qx{i}ville.")
        for i in range(8)
    ]
    items = [*known, *strange]
    with chatting(named, troubled) as server:
        config = Config()
        cascade = CascadeConfig(enabled=True, sampled_share=0.0)
        endpoint = JudgeEndpointConfig(url=server.url, model="large", in_flight=1)
        config.judge = JudgeConfig(
            model="tiny", memory=0.2, endpoint=endpoint, cascade=cascade, max_model_len=1024
        )

        async def verdict(judge, item):
            async with asyncio.timeout(120):
                while True:
                    try:
                        return (await judge.judge([item]))[0]
                    except InfraError:
                        await asyncio.sleep(0.1)  # as the Scorer does

        async def work():
            services = await start_services(config, "cascade", tmp_path / "cache")
            try:
                judge = services.services.judge
                found = await asyncio.gather(*(verdict(judge, item) for item in items))
                asked = len(server.requests)
                again = await asyncio.gather(*(verdict(judge, item) for item in items))
                assert again == found and len(server.requests) == asked  # out of the cache
                return found, asked, await judge.handle.stats.remote()
            finally:
                await services.stop()

        found, asked, counted = asyncio.run(work())
    raised = [(v, item) for v, item in zip(found, items, strict=True) if v.by == "large"]
    assert 0 < len(raised) < len(items)
    assert all(v.conclusion == last_word(item.reasoning) for v, item in raised)
    assert counted["cascade_verdicts"] == 16 and counted["cascade_raised"] == len(raised)
    assert asked == 1 + 3 + len(raised)  # the check, the troubles, one for each question
    assert not [app for app in serve.status().applications if app.startswith("cascade-")]
