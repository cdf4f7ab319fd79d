"""Remote geocoders against a local server over real sockets: what is an answer, what a failure,
which key is used.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time

import pytest

from cluster.cli.local import geocode
from geoagent_rl.config.reward import GeocoderConfig, NominatimConfig, OpenCageConfig, PhotonConfig
from geoagent_rl.geo import remote
from geoagent_rl.geo.providers import PROVIDERS, with_keys_there
from geoagent_rl.geo.rate_limit import LocalRateLimiter
from geoagent_rl.geo.remote import Remote
from geoagent_rl.types import InfraError, UserError
from tests.support.geocoder_server import BAVARIA, GERMANY, MUNICH, PLACES, nominatim, serving

KEYS = {"KEY_A": "secret-aaaa", "KEY_B": "secret-bbbb"}
PLENTY = {"rate_per_s": 1000.0, "daily_budget": 0}


def config(url, keys=("KEY_A",), limits=PLENTY, **settings):
    return GeocoderConfig(
        **{"timeout_s": 2.0, "longest_wait_s": 2.0, **settings},
        opencage=OpenCageConfig(url=url, api_key_env=keys, **limits),
        nominatim=NominatimConfig(url=url, **limits),
        photon=PhotonConfig(url=url, **limits),
    )


def find(provider, settings, *queries, turns=None):
    """One Match, None or InfraError per query, asked at once."""

    async def work():
        geocoder = Remote(provider, settings, KEYS, turns)
        try:
            return await asyncio.gather(
                *(geocoder.find(query) for query in queries), return_exceptions=True
            )
        finally:
            await geocoder.close()

    found = asyncio.run(work())
    for answer in found:
        if isinstance(answer, BaseException) and not isinstance(answer, InfraError):
            raise answer
    return found


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_result_says_where_at_which_level_and_by_whom(provider):
    with serving() as server:
        place, region, country, nowhere = find(
            provider,
            config(server.url),
            "Munich, Bavaria, Germany",
            "Bavaria, Germany",
            "Germany",
            "Qzx, Germany",
        )
    assert (place.lat, place.lon, place.level, place.name) == (48.137, 11.575, "place", "Munich")
    assert (place.admin1, place.country_code, place.provider) == ("Bavaria", "DE", provider)
    assert (region.level, region.name, country.level, country.admin1) == (
        "region",
        "Bavaria",
        "country",
        "",
    )
    assert nowhere is None


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ((500, {}, "oops"), "HTTP 500"),
        ((503, {}, "{}"), "HTTP 503"),
        ((404, {}, "<html>"), "HTTP 404"),
        ((400, {}, "{}"), "HTTP 400"),
        ((200, {}, "{not json"), "GeocoderParseError"),
        ((200, {}, ""), "GeocoderParseError"),
        ((200, {}, "null"), "documented"),
        ((200, {}, "{}"), "documented"),
        ((200, {}, '{"error": "database is down"}'), "documented"),
        (
            (200, {"Content-Type": "text/html"}, "<html>a portal's login page</html>"),
            "GeocoderParseError",
        ),
        ((200, {}, b"\xff\xfe\x00"), "geocoder"),
    ],
)
def test_whatever_is_no_answer_is_an_infra_error_and_never_no_such_place(provider, sent, said):
    with serving(trouble=lambda *_: sent) as server:
        (error,) = find(provider, config(server.url), "Munich")
    assert isinstance(error, InfraError) and said in str(error)
    assert "secret" not in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("lat", ["NaN", "91", '"north"', "null"])
def test_results_that_cannot_be_read_are_infra_errors(provider, lat):
    body = json.dumps(
        {
            "opencage": {
                "results": [
                    {"components": {"_type": "city"}, "geometry": {"lat": 0.125, "lng": 1}}
                ],
                "status": {"code": 200, "message": "OK"},
            },
            "nominatim": [{"lat": 0.125, "lon": 1, "display_name": "X"}],
            "photon": {"features": [{"properties": {}, "geometry": {"coordinates": [1, 0.125]}}]},
        }[provider]
    )
    with serving(trouble=lambda *_: (200, {}, body.replace("0.125", lat))) as server:
        (error,) = find(provider, config(server.url), "Munich")
    assert isinstance(error, InfraError)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_silence_and_refusal_of_connections_are_infra_errors_in_time(provider):
    with serving(trouble=lambda *_: ("hang", {}, "{}")) as server:
        (error,) = find(provider, config(server.url, timeout_s=0.3), "Munich")
        assert isinstance(error, InfraError) and "TimedOut" in str(error)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    (error,) = find(provider, config(url), "Munich")
    assert isinstance(error, InfraError) and "secret" not in str(error)


def test_queries_that_name_nothing_are_not_sent():
    with serving() as server:
        assert find("opencage", config(server.url), "?!, ---", "x" * 400, "") == [None] * 3
        assert not server.requests
        assert find("opencage", config(server.url), "Munich, Bavaria \ud800") != [
            None
        ]  # a lone surrogate


def test_the_user_agent_says_who_asks():
    with serving() as server:
        find("nominatim", config(server.url, user_agent="lab (me@example.org)"), "Germany")
    assert server.requests[0][4] == "lab (me@example.org)"


def spent(*keys, status=402, headers=None):
    body = json.dumps(
        {"results": [], "status": {"code": status, "message": "no"}, "rate": {"reset": 0}}
    )
    return lambda path, query, key: (status, headers or {}, body) if key in keys else None


def test_keys_take_turns():
    with serving() as server:
        find("opencage", config(server.url, ("KEY_A", "KEY_B")), *["Germany"] * 10)
    used = [key for _, _, _, key, _ in server.requests]
    assert used.count("secret-aaaa") == used.count("secret-bbbb") == 5


@pytest.mark.parametrize(("status", "word"), [(402, "quota"), (401, "refused"), (403, "refused")])
def test_a_key_that_is_out_is_left_alone_and_the_next_one_serves(status, word):
    turns = LocalRateLimiter()
    with serving(trouble=spent("secret-aaaa", status=status)) as server:
        settings = config(server.url, ("KEY_A", "KEY_B"))
        for _ in range(3):
            assert find("opencage", settings, "Germany", turns=turns)[0].name == "Germany"
        assert [key for _, _, _, key, _ in server.requests].count("secret-aaaa") == 1
        server.trouble = spent(*KEYS.values(), status=status)
        sent = len(server.requests)
        for _ in range(3):
            (error,) = find("opencage", settings, "Bavaria, Germany", turns=turns)
            assert isinstance(error, InfraError) and word in str(error) and "KEY_" in str(error)
            assert "secret" not in str(error)
        assert len(server.requests) == sent + 1  # the second key was found out once


def test_a_spent_quota_rests_until_its_reset():
    body = {"results": [], "status": {"code": 402, "message": "quota exceeded"}}
    for headers, rate in (
        ({"X-RateLimit-Reset": str(time.time() + 1000)}, {}),
        ({}, {"reset": time.time() + 1000}),
    ):
        with serving(
            trouble=lambda *_, h=headers, r=rate: (402, h, json.dumps(body | {"rate": r}))
        ) as server:
            (error,) = find("opencage", config(server.url), "Germany")
        assert any(f"free in {s} s" in str(error) for s in range(990, 1001)), error
    assert 0 < remote.seconds_to_reset(None) <= 86_400  # nothing said: midnight UTC


def test_retry_after_is_honoured_by_waiting_or_by_failing():
    told = []

    def once(path, query, key):
        if not told:
            told.append(time.monotonic())
            return 429, {"Retry-After": "1"}, "{}"

    with serving(trouble=once) as server:
        (found,) = find("nominatim", config(server.url), "Germany")
        assert found.name == "Germany" and server.requests[1][0] - told[0] >= 0.99
    with serving(trouble=lambda *_: (429, {"Retry-After": "600"}, "{}")) as server:
        turns = LocalRateLimiter()
        for _ in range(2):
            (error,) = find("photon", config(server.url), "Germany", turns=turns)
            assert isinstance(error, InfraError) and "429" in str(error)
        assert len(server.requests) == 1


def test_rate_and_daily_budget_hold_under_many_requests_at_once():
    with serving() as server:
        limits = {"rate_per_s": 20.0, "daily_budget": 30}
        found = find("photon", config(server.url, limits=limits), *["Germany"] * 40)
    times = sorted(row[0] for row in server.requests)
    assert len(times) == 30 == len([f for f in found if not isinstance(f, InfraError)])
    assert times[-1] - times[0] >= 0.45  # a bucket of 20, then 20 a second
    assert all("daily budget" in str(f) for f in found if isinstance(f, InfraError))


def test_requests_in_flight_are_bounded():
    four, lock, now, most = threading.Barrier(4), threading.Lock(), 0, 0

    def together(*_):
        """Answers when four requests are there."""
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        four.wait(20)
        with lock:
            now -= 1

    with serving(trouble=together) as server:
        find("photon", config(server.url, in_flight=4, timeout_s=20), *["Germany"] * 12)
    assert most == 4 and len(server.requests) == 12


def test_a_run_with_a_bad_key_or_address_stops_at_its_start():
    def check(**settings):
        asyncio.run(
            remote.check(GeocoderConfig(provider=["gazetteer", "opencage"], **settings), KEYS)
        )

    def one(url, *keys):
        return {"opencage": OpenCageConfig(url=url, api_key_env=keys, **PLENTY)}

    with serving(trouble=spent("secret-bbbb", status=401)) as server:
        check(**one(server.url, "KEY_A"))
        with pytest.raises(UserError, match="KEY_B.*401") as caught:
            check(**one(server.url, "KEY_A", "KEY_B"))
        assert "secret" not in str(caught.value)
    with serving(trouble=spent(*KEYS.values())) as server, pytest.raises(InfraError, match="quota"):
        check(**one(server.url, "KEY_A", "KEY_B"))
    for url, keys, said in [
        ("http://x", ["NO_KEY"], "NO_KEY"),
        ("http://x", [], "api_key_env"),
        ("x.org", ["KEY_A"], "url"),
    ]:
        with pytest.raises(UserError, match=said):
            check(**one(url, *keys))
    with pytest.raises(UserError, match="forbids bulk use"):
        asyncio.run(remote.check(GeocoderConfig(provider="nominatim"), {}))
    with pytest.raises(UserError, match="nowhere.com"):
        asyncio.run(remote.check(GeocoderConfig(provider="nowhere.com"), {}))


def test_places_that_are_regions_for_the_service_keep_its_level():
    tokyo = ("Tokyo", 35.68, 139.69, "province", "Tokyo", "Japan", "jp")
    sea = ("Baltic Sea", 58.0, 20.0, "sea", "", "", "")
    with serving({**PLACES, "tokyo": tokyo, "baltic": sea}) as server:
        for provider in ("opencage", "nominatim"):
            found, nothing = find(provider, config(server.url), "Tokyo, Japan", "Baltic Sea")
            assert (found.level, found.country_code, nothing) == ("region", "JP", None)


def test_an_old_nominatim_without_addresstype_is_understood():
    for row, level in ((MUNICH, "place"), (BAVARIA, "region"), (GERMANY, "country")):
        (result,) = nominatim(row)
        del result["addresstype"], result["name"]
        assert (
            PROVIDERS["nominatim"].read(result).level,
            PROVIDERS["nominatim"].read(result).name,
        ) == (level, row[0])


def test_the_command_line_asks_the_same_chain(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", ["Munich, Bavaria, Germany\n", "Germany\n", "Qzxistan\n"])
    with serving() as server:
        geocode([], provider="photon,gazetteer", url=server.url, as_json=True)
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(row["level"], row["provider"]) for row in rows[:2]] == [
            ("place", "photon"),
            ("country", "photon"),
        ]
        assert rows[2]["lat"] is None
        geocode(
            ["Germany; Bavaria; Augsburg"],
            provider="photon,gazetteer",
            url=server.url,
            as_json=True,
        )
        assert json.loads(capsys.readouterr().out)["provider"] == "gazetteer"
        server.trouble = lambda *_: (500, {}, "")
        with pytest.raises(InfraError, match="HTTP 500"):
            geocode(["Germany"], provider="photon", url=server.url)
    with pytest.raises(UserError, match="--url"):
        geocode(["Germany"], provider="nominatim")


def test_a_key_is_never_sent_in_the_clear():
    for url, refused in (("http://geo.example", True), ("https://geo.example", False)):
        try:
            Remote("opencage", config(url), {"KEY_A": "secret"})
            assert not refused
        except UserError as error:
            assert refused and "readable on its way" in str(error) and "secret" not in str(error)


def test_a_provider_without_its_key_is_refused_or_left_out_and_said(capsys, tmp_path):
    chain = GeocoderConfig(provider=["opencage", "gazetteer"], without_key="skip")
    assert with_keys_there(chain, {}).provider == "gazetteer"
    assert "by gazetteer, not by opencage: OPENCAGE_API_KEY is not set" in capsys.readouterr().err
    assert with_keys_there(chain, {"OPENCAGE_API_KEY": "x"}) is chain
    empty = tmp_path / "key"  # as Kubernetes mounts a secret that was made of nothing
    empty.touch()
    assert with_keys_there(chain, {"OPENCAGE_API_KEY_FILE": str(empty)}).provider == "gazetteer"
    assert "OPENCAGE_API_KEY is not set" in capsys.readouterr().err
    refusing = GeocoderConfig(provider="opencage,gazetteer")
    assert with_keys_there(refusing, {}) is refusing  # its workers say which key is missing
    with pytest.raises(UserError, match="names nothing else"):
        with_keys_there(GeocoderConfig(provider="opencage", without_key="skip"), {})
    assert capsys.readouterr().err == ""
