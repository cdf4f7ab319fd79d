"""Locatability scores, imported or asked of a VLM's endpoint over real sockets."""

import asyncio
import base64
import io
import json

import pytest
from PIL import Image

from geoagent_rl.data import locatability
from geoagent_rl.data.locatability import Endpoint, ask_all, read_score, read_scores, with_scores
from geoagent_rl.data.sample import Sample
from geoagent_rl.types import InfraError, UserError
from tests.support.chat_server import chatting, said


def redness(body):
    """How red a picture is, out of ten."""
    data = body["messages"][0]["content"][0]["image_url"]["url"].removeprefix(
        "data:image/jpeg;base64,"
    )
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.width * image.height <= 300_000
    return json.dumps({"score": round(image.getpixel((0, 0))[0] / 20)})


@pytest.fixture
def vlm(monkeypatch):
    monkeypatch.setattr(locatability, "FIRST_PAUSE_S", 0.01)
    with chatting(redness) as server:
        yield server


@pytest.fixture
def samples(tmp_path):
    made = []
    for i in range(6):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (900, 700), (i * 20, 0, 0)).save(path)
        made.append(Sample(str(i), str(path), "", "", "", 0, 0))
    return made


def ask(samples, vlm, kept, **options):
    return asyncio.run(ask_all(samples, Endpoint(vlm.url, "m", "secret-key", **options), kept))


def test_every_photograph_is_asked_once_and_a_second_run_asks_nothing(vlm, samples, tmp_path):
    kept = tmp_path / "kept.jsonl"
    scores, missing = ask(samples, vlm, kept)
    assert (scores, missing) == ({str(i): float(i) for i in range(6)}, {})
    assert len(vlm.requests) == 6
    assert {(path, key) for path, _, key in vlm.requests} == {
        ("/v1/chat/completions", "secret-key")
    }
    assert "secret-key" not in kept.read_text()
    assert ask(samples, vlm, kept)[0] == scores and len(vlm.requests) == 6
    with kept.open("a") as file:
        file.write('{"uid": "9", "mod')  # torn by a kill
    assert ask(samples, vlm, kept)[0] == scores and len(vlm.requests) == 6
    assert [s.locatability for s in with_scores(samples, {"2": 7.5})] == [
        None,
        None,
        7.5,
        None,
        None,
        None,
    ]


def test_passing_trouble_is_waited_out(vlm, samples, tmp_path):
    troubles = [
        (429, {"Retry-After": "0"}, "slow down"),
        (503, {}, ""),
        (200, {}, "<html>"),
        (500, {}, "oops"),
    ]
    vlm.trouble = lambda n, body, key: troubles[n - 1] if n <= len(troubles) else None
    scores, _ = ask(samples[:1], vlm, tmp_path / "kept.jsonl")
    assert scores == {"0": 0.0} and len(vlm.requests) == 5


def test_lasting_trouble_stops_the_run_and_what_was_answered_stays(vlm, samples, tmp_path):
    vlm.trouble = lambda n, body, key: (503, {}, "") if n > 3 else None
    with pytest.raises(
        InfraError, match=r"failed 2 times for \d \(HTTP 503\); run again to continue"
    ):
        ask(samples, vlm, tmp_path / "kept.jsonl", tries=2, concurrent=1)
    vlm.trouble = lambda n, body, key: None
    before = len(vlm.requests)
    scores, _ = ask(samples, vlm, tmp_path / "kept.jsonl")
    assert len(scores) == 6 and len(vlm.requests) - before == 3


def test_a_refusal_is_the_users_to_mend_and_shows_no_key(vlm, samples, tmp_path):
    vlm.trouble = lambda n, body, key: (401, {}, "key secret-key is not known")
    with pytest.raises(
        UserError, match="refuses .HTTP 401.*check --endpoint, --model and the key"
    ) as error:
        ask(samples, vlm, tmp_path / "kept.jsonl")
    assert "secret-key" not in str(error.value)
    nobody = Endpoint("http://127.0.0.1:9", "m", tries=1, timeout_s=5)
    with pytest.raises(InfraError, match="failed 1 times"):
        asyncio.run(ask_all(samples, nobody, tmp_path / "k2.jsonl"))


def test_a_slow_endpoint_is_timed_out(vlm, samples, tmp_path):
    vlm.trouble = lambda n, body, key: ("hang", {}, "")
    with pytest.raises(InfraError, match="Timeout"):
        ask(samples[:1], vlm, tmp_path / "kept.jsonl", tries=1, timeout_s=0.3)


def test_an_answer_without_a_score_is_asked_for_again_and_then_left_open(vlm, samples, tmp_path):
    vlm.trouble = lambda n, body, key: (200, {}, said("I cannot tell")) if n <= 3 else None
    (tmp_path / "3.png").write_bytes(b"no image")
    scores, missing = ask(samples[:4], vlm, tmp_path / "kept.jsonl", concurrent=1)
    assert scores == {"1": 1.0, "2": 2.0}  # the second was asked twice
    assert "I cannot tell" in missing["0"] and "not a readable image" in missing["3"]


@pytest.mark.parametrize(("text", "score"), [
    ('{"score": 6.5}', 6.5), ('```json\n{"score": "7"}\n```', 7), ("8", 8), ("8/10", 8), (' 3. ', 3),
    ("I see 12 poles", None), ('{"score": 11}', None), ("-1", None), ("", None),
])  # fmt: skip
def test_scores_are_read_from_what_models_say(text, score):
    assert read_score(text) == score


def test_imported_scores(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("id,Locatability Score\n007,6.5\n8,0\n")
    assert read_scores(path) == {"007": 6.5, "8": 0.0}
    path.write_text("id,score\n7,high\n8,11\n")
    with pytest.raises(
        UserError, match=r"2 scores are not numbers from 0 to 10 \(first: 7: high\)"
    ):
        read_scores(path)
    path.write_text("name,x\n7,1\n")
    with pytest.raises(UserError, match="no column uid, score; its columns are name, x"):
        read_scores(path)
