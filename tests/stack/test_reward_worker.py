"""What a reward worker answers, with the real gazetteer and encoder, in this process; and the
judge's cache.
"""

from __future__ import annotations

import asyncio
import unicodedata

import pytest

from actors.judge_worker import JudgeWorker, verdict_version
from actors.reward_worker import GeoEmbedWorker
from geoagent_rl.config.reward import GeocoderConfig, JudgeConfig, RewardConfig, SemanticConfig
from geoagent_rl.config.services import JudgeEndpointConfig
from geoagent_rl.rewards.consistency_prompt import answer
from geoagent_rl.rewards.services import JudgeItem, LevelPair, Verdict
from geoagent_rl.types import InfraError, UserError
from tests.support.chat_server import chatting


@pytest.fixture(scope="module")
def worker():
    return GeoEmbedWorker(RewardConfig(), "off")


def similarities(worker, *pairs):
    return asyncio.run(worker.similarities([LevelPair(*pair) for pair in pairs]))


def test_names_of_one_place_are_one_whatever_their_language(worker):
    found = similarities(
        worker,
        ("country", "대한민국", "South Korea"),
        ("country", "Suomi", "Finland"),
        ("region", "Bayern", "Bavaria", ("Germany",)),
        ("place", "Firenze", "Florence", ("Italy", "Tuscany")),
    )
    assert {(s.value, s.by) for s in found} == {(1.0, "gazetteer")}


def test_what_the_gazetteer_knows_apart_is_nothing_and_the_encoder_gets_the_rest(worker):
    apart, state, unknown = similarities(
        worker,
        ("country", "Niger", "Nigeria"),
        ("country", "Mexico", "New Mexico"),
        ("country", "Japan", "Qzxland"),
    )
    assert (apart.value, apart.by) == (state.value, state.by) == (0.0, "gazetteer")
    assert unknown.by == "encoder" and 0 < unknown.value < 0.7


def test_the_papers_form_asks_the_encoder_alone():
    paper = GeoEmbedWorker(RewardConfig(semantic=SemanticConfig(names_first=False)), "off")
    (bavaria,) = similarities(paper, ("region", "Bayern", "Bavaria", ("Germany",)))
    assert bavaria.by == "encoder" and 0.5 < bavaria.value < 1


def test_geocodes_show_their_level_and_do_not_depend_on_unicode_form(worker):
    asked = [
        ("Germany", "Bayern", "München"),
        ("Germany", "Bayern", unicodedata.normalize("NFD", "München")),
        ("Germany", "Bayern", ""),
        ("Germany", "", ""),
        ("Qzxland", "", ""),
    ]
    place, same, region, country, nothing = asyncio.run(worker.geocode(asked))
    assert (place.level, region.level, country.level, nothing) == (
        "place",
        "region",
        "country",
        None,
    )
    assert place == same and place.provider == "gazetteer"


def test_settings_that_cannot_work_are_refused_in_one_line(monkeypatch):
    monkeypatch.delenv("OPENCAGE_API_KEY", raising=False)
    for provider, said in (
        ("opencage", "OPENCAGE_API_KEY"),
        ("google", "reward.geocoder.provider"),
    ):
        with pytest.raises(UserError, match=said):
            GeoEmbedWorker(RewardConfig(geocoder=GeocoderConfig(provider=provider)), "off")


class FakeAgent:
    asked: list[str] = []

    def __init__(self, judge):
        pass

    async def verdict(self, item):
        FakeAgent.asked.append(item.reasoning)
        if item.reasoning == "broken":
            raise InfraError("the engine failed")
        return Verdict(item.reasoning.upper(), 0.25)

    def stop(self):
        pass


def test_verdicts_are_worked_out_once_and_a_failed_one_fails_alone(server, monkeypatch):
    monkeypatch.setattr("actors.consistency_agent.ConsistencyAgent", FakeAgent)
    FakeAgent.asked = []
    items = [JudgeItem("country", (), text) for text in ("a", "broken", "a")] + [
        JudgeItem("region", ("X",), "a")
    ]

    async def ask():
        worker = JudgeWorker(JudgeConfig(), server.url, 0.3)
        found = await worker.judge(items)
        await worker.cache.close()
        return found

    for _ in range(2):
        a, broken, again, region = asyncio.run(ask())
        assert a == again == region == Verdict("A", 0.25) and isinstance(broken, InfraError)
    assert sorted(FakeAgent.asked) == ["a", "a", "broken", "broken"]


def test_an_endpoints_verdicts_are_cached_and_its_failures_are_not(server):
    bodies = []

    def conclude(body):
        bodies.append(body)
        return answer("Angola") if len(bodies) > 1 else "It is Angola."

    async def ask(judge):
        worker = JudgeWorker(judge, server.url, 0.3)
        found = await worker.judge([JudgeItem("country", (), "The earth is red.")])
        await worker.cache.close()
        return found[0]

    with chatting(conclude) as endpoint:
        judge = JudgeConfig(endpoint=JudgeEndpointConfig(url=endpoint.url, model="m"))
        garbage, first, cached = (asyncio.run(ask(judge)) for _ in range(3))
        assert isinstance(garbage, InfraError) and first == cached
        assert (first.conclusion, first.by) == ("Angola", "m")
        assert len(bodies) == 2


def test_a_verdicts_version_names_weights_and_limits(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(name.encode())
    versions = {
        verdict_version(JudgeConfig(model=str(tmp_path / "one"))),
        verdict_version(JudgeConfig(model=str(tmp_path / "two"))),
        verdict_version(JudgeConfig(model=str(tmp_path / "one"), max_tokens=32)),
    }
    assert len(versions) == 3
