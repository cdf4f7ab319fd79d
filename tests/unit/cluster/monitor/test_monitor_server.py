"""What the monitor answers over HTTP, and to whom: Ray, hosts it knows, and for changes only its
own page.
"""

import http.client
import json
import time

import pytest

from cluster.monitor.attached import Attached
from geoagent_rl.network import is_loopback, listen
from geoagent_rl.types import UserError
from tests.support.monitor_runs import Joined, new_run, photograph, record, served


@pytest.fixture(scope="module")
def joined():
    return Joined()


@pytest.fixture(scope="module")
def ask(tmp_path_factory, joined):
    folder = tmp_path_factory.mktemp("server")
    run = new_run(folder, "a")
    record(run, photograph(folder / "photos"), range(1, 4), words="half HALF a character")
    rollouts = run.path / "rollouts.jsonl"
    rollouts.write_text(
        rollouts.read_text().replace("HALF", "\\ud800")
    )  # as another writer's JSON may have it

    def get(path, method="GET", body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        answer.json = json.loads(data) if "json" in answer.headers.get("content-type", "") else None
        return answer

    with served(folder / "runs", joined) as port:
        yield get


def test_ray_finds_a_grafana_and_a_prometheus(ask):
    assert ask("/api/health").json["database"] == "ok"
    found = ask("/api/v1/query?query=vector(1)").json
    assert found["status"] == "success" and found["data"]["result"][0]["value"][1] == "1"
    assert ask("/api/v1/query?query=up").status == 400
    panel = ask("/d-solo/rayDefaultDashboard/default-dashboard?orgId=1&theme=dark&panelId=41")
    assert panel.status == 200 and "frame-ancestors" not in panel.headers["content-security-policy"]
    assert ask("/d/rayDefaultDashboard/?orgId=1&kiosk=1").status == 200
    assert (
        ask("/d/rayDefaultDashboard/?orgId=1").headers["location"] == "/"
    )  # "View tab in Grafana"


def test_no_other_host_and_no_other_page(ask):
    assert ask("/api/runs", Host="evil.example").status == 400
    assert ask("/api/runs", Host="localhost:8265").status == 200
    assert "frame-ancestors 'none'" in ask("/").headers["content-security-policy"]
    assert "script-src 'self'" in ask("/").headers["content-security-policy"]


def test_only_the_page_itself_changes_the_number_of_replicas(ask, joined):
    body = json.dumps({"run": "abc", "service": "judge", "replicas": 3})
    assert ask("/api/scale", "POST", body).status == 403
    assert ask("/api/scale", "GET").status == 405
    for wrong in (
        {"run": "other"},
        {"service": "x"},
        {"replicas": 0},
        {"replicas": "many"},
        {"replicas": float("inf")},
    ):
        mine = json.dumps({**json.loads(body), **wrong})
        assert ask("/api/scale", "POST", mine, X_GeoAgent="monitor").status == 400
    for no_json in ("no json", "[" * 100_000):
        assert ask("/api/scale", "POST", no_json, X_GeoAgent="monitor").status == 400
    assert joined.asked == []
    assert ask("/api/scale", "POST", body, X_GeoAgent="monitor").status == 200
    assert joined.asked == [("judge", 3)]


def test_a_note_is_kept_with_the_run_and_only_the_page_writes_it(ask):
    body = json.dumps({"run": "a", "text": "the first try <b>"})
    assert ask("/api/note", "POST", body).status == 403
    for wrong in ('{"run": "a"}', '{"run": "a", "text": "\\ud800"}'):
        assert ask("/api/note", "POST", wrong, X_GeoAgent="monitor").status == 400
    assert (
        ask("/api/note", "POST", body.replace('"a"', '"../a"'), X_GeoAgent="monitor").status == 400
    )
    assert ask("/api/note", "POST", body, X_GeoAgent="monitor").status == 200
    assert ask("/api/runs").json["runs"][0]["note"] == "the first try <b>"


def test_configuration_log_and_group_of_a_run(ask):
    found = ask("/api/config?run=a").json
    assert found["settings"]["data.manifest"].endswith("photos") and "steps" in found["defaults"]
    assert found["settings"].keys() == found["defaults"].keys()
    assert len(ask("/api/log?run=a").json["lines"]) == 3
    at = ask("/api/rollouts?run=a").json["rows"][0]["at"]
    answers = ask(f"/api/group?run=a&at={at}").json
    assert [one["index"] for one in answers] == [0, 1, 2, 3]
    assert abs(sum(one["advantage"] for one in answers)) < 1e-9
    assert ask("/api/group?run=a&at=3").status == 404


def test_answers_are_json_whatever_a_model_wrote(ask):
    found = ask("/api/rollout?run=a&at=0").json
    assert "half ? a character" in found["text"] and found["stages"][0]["judge"].startswith("half")
    assert ask("/api/rollouts?run=a&sort=nonsense&step=x&page=-3").json["found"] == 24
    assert ask("/api/series?names=kl,/etc/passwd").json["curves"].keys() == {"kl"}


@pytest.mark.parametrize(
    "path",
    [
        "/api/series?run=../a",
        "/api/rollout?run=a&at=99",
        "/api/rollout?run=a&at=99999999999999999999",
        "/api/group?run=a&at=99999999999999999999",
        "/api/image?run=a&at=-1",
        "/static/..%2fserver.py",
    ],
)
def test_what_is_not_there_is_404(ask, path):
    assert ask(path).status == 404


def test_a_taken_port_is_one_line(ask):
    with listen("127.0.0.1", 0) as taken:
        with pytest.raises(UserError, match="--port"):
            listen("127.0.0.1", taken.getsockname()[1])
    assert is_loopback("::1") and is_loopback("localhost") and not is_loopback("0.0.0.0")


def test_without_a_run_to_join_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOAGENT_CACHE", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    attached, stop = Attached("some/run"), time.monotonic() + 20
    try:
        with pytest.raises(UserError, match="nothing to scale"):
            attached.scale("judge", 2)
        while "no such run is going on" not in attached.seen["problem"]:
            assert time.monotonic() < stop, attached.seen
            time.sleep(0.05)
    finally:
        attached.close()
    assert not attached._thread.is_alive()
