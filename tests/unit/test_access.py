"""A page that other machines reach answers only who has its token."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from cluster.cli.monitor import COOKIE, FREE, VARIABLE
from geoagent_rl.access import Guarded, new_token

TOKEN = "s3cret"


@pytest.fixture
def client():
    routes = [
        Route(path, lambda _: PlainTextResponse("in")) for path in ("/", "/api/runs", "/api/health")
    ]
    return TestClient(
        Guarded(Starlette(routes=routes), TOKEN, COOKIE, FREE), follow_redirects=False
    )


def test_without_the_token_there_is_nothing_but_the_health_check(client):
    for headers in ({}, {"cookie": f"{COOKIE}=wrong"}, {"authorization": "Bearer wrong"}):
        refused = client.get("/api/runs", headers=headers)
        assert refused.status_code == 401 and "token" in refused.json()["error"]
    assert client.get("/?token=wrong").status_code == 401
    assert client.get("/api/health").text == "in"


def test_the_address_gives_a_cookie_and_leaves_no_token_in_the_bar(client):
    first = client.get(f"/?token={TOKEN}&theme=dark")
    assert first.headers["location"] == "/?theme=dark"
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert client.get("/api/runs").text == "in"  # with the cookie that it got


def test_a_program_shows_it_in_a_header(client):
    assert client.get("/api/runs", headers={"authorization": f"Bearer {TOKEN}"}).text == "in"


def test_the_token_is_new_each_time_or_the_environment_s(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert len(new_token(VARIABLE)) >= 32 and new_token(VARIABLE) != new_token(VARIABLE)
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert new_token(VARIABLE) == TOKEN
