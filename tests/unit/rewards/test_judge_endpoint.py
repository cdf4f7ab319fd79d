"""The judge at an OpenAI-style endpoint, played by a local server over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest

from geoagent_rl.config import load
from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.config.services import JudgeConfig, JudgeEndpointConfig
from geoagent_rl.plan.estimate import make_plan
from geoagent_rl.rewards import judge_endpoint
from geoagent_rl.rewards.consistency_prompt import FORM, MAX_CHARS, SYSTEM, answer
from geoagent_rl.rewards.judge_endpoint import EndpointJudge, endpoint_version
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.rewards.services import JudgeItem, Services
from geoagent_rl.types import InfraError, UserError
from tests.support.chat_server import chatting, conclude, said
from tests.support.reward_fakes import PROMPT, Fakes, rollout

ITEMS = [JudgeItem("place", ("Italy",), f"A tower <|im_end|> leans, so Pisa{i}.") for i in range(4)]
PISA = said(answer("Pisa"))


def config(url, **settings):
    return JudgeConfig(endpoint=JudgeEndpointConfig(**({"url": url, "model": "m"} | settings)))


def verdicts(judge_config, items, environ=None):
    """What comes of each item: a conclusion or an InfraError."""

    async def ask():
        judge = EndpointJudge(judge_config, environ or {})
        try:
            return await asyncio.gather(*map(judge.verdict, items), return_exceptions=True)
        finally:
            await judge.aclose()

    return [getattr(found, "conclusion", found) for found in asyncio.run(ask())]


def check(judge_config, environ=None):
    asyncio.run(judge_endpoint.check(judge_config, environ or {}))


def test_the_endpoint_is_asked_what_the_engine_is_asked_and_in_its_form():
    with chatting(conclude) as server:
        assert verdicts(config(server.url), ITEMS) == [f"Pisa{i}" for i in range(4)]
        verdicts(config(server.url, grammar="none"), ITEMS[:1])
    (path, body, key), plain = server.requests[0], server.bodies[-1]
    assert (path, key, body["model"], body["temperature"]) == ("/v1/chat/completions", "", "m", 0)
    assert body["structured_outputs"] == {"regex": FORM}
    assert body["messages"][0] == {"role": "system", "content": SYSTEM}
    assert "<|im_end|>" not in body["messages"][-1]["content"]
    assert set(plain) == {"model", "temperature", "max_tokens", "messages"}


@pytest.mark.parametrize(
    ("trouble", "failure"),
    [
        ((503, {}, "busy"), "HTTP 503"),
        ((500, {"Retry-After": "60"}, ""), "HTTP 500"),
        ((400, {}, "no such parameter"), "HTTP 400"),
        ((200, {}, "<html>"), "without the documented answer"),
        ((200, {}, '{"choices": []}'), "without the documented answer"),
        ((200, {}, said("It is Pisa.")), "not an answer of the agreed form"),
        ((200, {}, said('{"conclusion": 3}')), "not an answer of the agreed form"),
        ((200, {"Content-Encoding": "gzip"}, "no gzip"), "DecodingError"),
        (("hang", {}, PISA), "no answer within 0.3 s"),
    ],
)
def test_trouble_is_a_failure_and_never_a_verdict(trouble, failure):
    with chatting(conclude, lambda n, body, key: trouble) as server:
        (found,) = verdicts(config(server.url, timeout_s=0.3), ITEMS[:1])
        assert isinstance(found, InfraError) and failure in str(found)
        server.trouble = None
        assert verdicts(config(server.url), ITEMS[:1]) == ["Pisa0"]


TROUBLES = {
    "down": ("infra", lambda n, body, key: (503, {}, "")),
    "rate": ("infra", lambda n, body, key: (429, {"Retry-After": "60"}, "")),
    "hangs": ("infra", lambda n, body, key: ("hang", {}, "")),
    "garbage": ("infra", lambda n, body, key: (200, {}, said("{"))),
    "flapping": ("score", lambda n, body, key: (503, {}, "") if n % 4 == 1 else None),
    "slow": ("score", lambda n, body, key: time.sleep(0.1)),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_an_endpoint_in_trouble_leaves_samples_unscored_and_changes_no_number(trouble):
    kind, sent = TROUBLES[trouble]
    reward = RewardConfig(deadline_s=5.0 if kind == "score" else 0.8)

    async def score(url):
        judge = EndpointJudge(config(url, timeout_s=0.5), {})
        try:
            fakes = Fakes()
            scorer = Scorer(Services(fakes, fakes, judge), reward)
            return await scorer.score(PROMPT, rollout())
        finally:
            await judge.aclose()

    def first_word(body):
        reasoning = json.loads(body["messages"][-1]["content"])["reasoning"]
        return answer(reasoning.split(":")[0])

    with chatting(first_word) as server:
        expected = asyncio.run(score(server.url))
        server.trouble = sent
        during = asyncio.run(score(server.url))
    assert during.parts["consistency"].kind == kind
    assert during.total == (expected.total if kind == "score" else None)


def test_retry_after_is_waited_out_or_a_failure_at_once():
    def busy(seconds):
        return lambda n, body, key: (429, {"Retry-After": seconds}, "") if n == 1 else None

    with chatting(conclude, busy("0.2")) as server:
        begin = time.monotonic()
        assert verdicts(config(server.url), ITEMS[:1]) == ["Pisa0"]
        assert time.monotonic() - begin >= 0.2
    with chatting(conclude, busy("120")) as server:
        found = verdicts(config(server.url), ITEMS[:1])
    assert "asked to wait (429)" in str(found[0]) and len(server.requests) == 1


def test_keys_take_turns_a_spent_one_rests_and_none_is_shown():
    keys = {"KEY_A": "secret-aaaa", "KEY_B": "secret-bbbb"}
    codes = {"secret-aaaa": 402}

    def trouble(n, body, key):
        return (codes[key], {}, f"not {key}") if key in codes else None

    with chatting(conclude, trouble) as server:
        both = config(server.url, api_key_env=list(keys))
        assert verdicts(both, ITEMS, keys) == [f"Pisa{i}" for i in range(4)]
        assert [key for *_, key in server.requests].count("secret-aaaa") <= 4
        codes |= {"secret-bbbb": 401}
        found = verdicts(both, ITEMS[:1], keys)[0]
        assert isinstance(found, InfraError) and "secret" not in str(found)
        with pytest.raises(UserError, match="KEY_B.*HTTP 401") as caught:
            check(both, keys)
        assert "secret" not in str(caught.value)
        with pytest.raises(UserError, match="KEY_C"):
            EndpointJudge(
                replace(both, endpoint=replace(both.endpoint, api_key_env=("KEY_C",))), {}
            )


def test_rate_budget_and_requests_in_flight_are_the_geocoders():
    with chatting(conclude) as server:
        limited = config(server.url, rate_per_s=50.0, daily_budget=3)
        found = verdicts(limited, ITEMS)
    assert sum(isinstance(one, InfraError) for one in found) == 1 and len(server.requests) == 3
    assert "daily budget" in str(next(one for one in found if isinstance(one, InfraError)))


def test_a_run_stops_at_its_start_where_the_endpoint_refuses_or_is_away():
    check(JudgeConfig())  # no endpoint, nothing is asked
    with chatting(conclude) as server:
        check(config(server.url))
        server.trouble = lambda n, body, key: (400, {}, "structured_outputs is unknown")
        with pytest.raises(UserError, match=r"structured_outputs is unknown.*\.grammar"):
            check(config(server.url))
        server.trouble = lambda n, body, key: (200, {}, said("Angola"))
        with pytest.raises(UserError, match=r"judge\.endpoint\.grammar"):
            check(config(server.url))
        server.trouble = lambda n, body, key: (503, {}, "")
        with pytest.raises(InfraError, match="must answer"):
            check(config(server.url))


def test_a_conclusion_is_no_longer_than_the_grammar_lets_it_be():
    with chatting(lambda body: answer("x" * 300)) as server:
        assert verdicts(config(server.url, grammar="none"), ITEMS[:1]) == ["x" * MAX_CHARS]


def test_the_cache_tells_endpoints_models_and_limits_apart():
    versions = {
        endpoint_version(config("http://127.0.0.1:1/v1")),
        endpoint_version(config("http://127.0.0.1:2/v1")),
        endpoint_version(config("http://127.0.0.1:1/v1", model="n")),
        endpoint_version(config("http://127.0.0.1:1/v1", grammar="none")),
        endpoint_version(replace(config("http://127.0.0.1:1/v1"), max_tokens=9)),
    }
    assert len(versions) == 5
    one = config("http://127.0.0.1:1/v1", timeout_s=5.0, rate_per_s=2.0)
    assert endpoint_version(one) in versions  # what changes no verdict changes no key


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["judge.endpoint.url=http://127.0.0.1:1/v1"], r"judge\.endpoint\.model"),
        (["judge.endpoint.url=127.0.0.1", "judge.endpoint.model=m"], "no address of a service"),
        (
            [
                "judge.endpoint.url=http://elsewhere.org/v1",
                "judge.endpoint.model=m",
                "judge.endpoint.api_key_env=[JUDGE_API_KEY]",
            ],
            "would be readable",
        ),
        (["judge.endpoint.api_key_env=[sk-abc]"], "not keys"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(words, said):
    with pytest.raises(UserError, match=said):
        load(None, ["data.manifest=scenes", *words])


def test_the_plan_asks_no_gpu_for_an_endpoint():
    words = ["judge.endpoint.url=https://judge.example/v1", "judge.endpoint.model=m"]
    for extra, gpus in (([], 1.0), (words, 0.0)):
        plan = make_plan(load("configs/paper.yaml", extra))
        (judge,) = (row for row in plan["roles"] if row["role"] == "judge")
        assert judge["gpus"] == gpus and ("memory" in judge) == bool(gpus)
        assert plan["gpus"]["total"] == 7 + gpus
