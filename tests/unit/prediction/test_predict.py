"""Predicting a folder, and the page and endpoint that locate one photograph: resumable, bounded,
escaped.
"""

import csv
import hashlib
import http.client
import io
import json
import re
import socket
import threading
from base64 import b64encode
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cluster.cli.local import app
from geoagent_rl.config import load, to_yaml
from geoagent_rl.network import listen
from geoagent_rl.policy.export import export
from geoagent_rl.policy.model import adapter_state, load_policy, save_adapter
from geoagent_rl.prediction import server as predict_server
from geoagent_rl.prediction.folder import check_out, finished, predict_folder
from geoagent_rl.prediction.locator import Locator, show_prediction
from geoagent_rl.prediction.server import Server, http_server
from geoagent_rl.run.directory import MARK
from geoagent_rl.types import UserError
from tests.support import tiny_random

EVIL = '<script>alert("x")</script>'
STAGE = {
    "clues": [EVIL],
    "reasoning": f"White plates. {EVIL}",
    "conclusion": EVIL,
    "uncertainty": "Low",
}
ROW = {
    "text": f"<think>{EVIL}", "problem": EVIL, "stages": [STAGE] * 3, "answer": f"Germany; Bayern; {EVIL}", "lat": 48.1,
    "lon": 11.6, "level": "region", "name": EVIL, "admin1": "Bayern", "country_code": "DE", "provider": "gazetteer",
}  # fmt: skip


def jpeg(size=(64, 48)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, "green").save(data, "JPEG")
    return data.getvalue()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b, two.JPG", "c.jpg"):
        (folder / name).write_bytes(jpeg())
    (folder / "d.png").write_bytes(b"no image")
    (folder / ".hidden.jpg").write_bytes(jpeg())
    (folder / "notes.txt").write_text("no photograph")
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_folder_gets_a_row_for_each_photograph_and_a_stopped_one_goes_on(
    photos, tmp_path, suffix, capsys
):
    out, asked = check_out(tmp_path / f"out{suffix}"), []

    def locate(picture):
        asked.append(picture.size)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return ROW

    with pytest.raises(KeyboardInterrupt):
        predict_folder(photos, out, locate)
    with out.open("a") as file:
        file.write('{"image": "d.p' if suffix == ".jsonl" else "d.p")  # a kill cuts a line short
    assert predict_folder(photos, out, locate) == (1, 0)
    assert predict_folder(photos, out, locate) == (0, 0) and len(asked) == 4
    text = out.read_text()
    rows = (
        list(csv.DictReader(io.StringIO(text)))
        if suffix == ".csv"
        else [json.loads(x) for x in text.splitlines()]
    )
    assert [row["image"] for row in rows] == ["a.jpg", "c.jpg", "d.png", "sub/b, two.JPG"]
    assert (float(rows[0]["lat"]), rows[0]["level"], rows[0]["answer"]) == (
        48.1,
        "region",
        ROW["answer"],
    )
    assert not rows[2]["lat"] and "not a readable image" in rows[2]["problem"]
    said = capsys.readouterr().err
    assert (
        len(re.findall("d.png: .*not a readable image", said)) == 1
        and "3 of 4 photographs are in" in said
    )


def test_a_folders_mistakes_are_one_line(photos, tmp_path):
    wrong = (
        (None, "--out FILE.csv"),
        (tmp_path / "x.txt", "--out FILE.csv"),
        (photos / "a.jpg" / "x.csv", "cannot"),
    )
    for out, says in wrong:
        with pytest.raises(UserError, match=says):
            check_out(out)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not a file of predictions"):
        finished(tmp_path / "other.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no photographs"):
        predict_folder(tmp_path / "empty", check_out(tmp_path / "x.csv"), lambda picture: ROW)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_random.build(tmp_path_factory.mktemp("policy"))


def test_the_command_line_locates_a_folder_with_a_real_checkpoint(checkpoint, photos, tmp_path):
    words = [
        "predict",
        str(photos),
        "--model",
        checkpoint,
        "--out",
        str(tmp_path / "out.jsonl"),
        "--max-tokens",
        "8",
    ]
    done = CliRunner().invoke(app, words)
    assert (
        done.exit_code == 0
        and "4 rows written, 1 of them photographs that cannot be read" in done.stdout
    )
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows[0]["problem"] and rows[0]["text"] and rows[0]["lat"] is None


def test_a_checkpoints_adapter_its_run_and_the_exported_model_answer_alike(checkpoint, tmp_path):
    policy = load_policy(checkpoint, lora=(4, 12))
    with torch.no_grad():
        for name, weights in policy.named_parameters():
            if "lora_B" in name:
                weights.normal_(0, 0.2, generator=torch.Generator().manual_seed(len(name)))
    step = tmp_path / "run" / "checkpoints" / "step-000003"
    save_adapter(policy, adapter_state(policy), step / "adapter")
    (step / "state.json").write_text(json.dumps({"base": checkpoint, "dtype": "float32"}))
    export(tmp_path / "run", tmp_path / "exported")
    picture = Image.open(tiny_random.picture(tmp_path / "a.png", 1)).convert("RGB")
    models = (step, tmp_path / "run", tmp_path / "exported")
    texts = {Locator(model, 12).locate(picture)["text"] for model in models}
    assert len(texts) == 1 and texts != {Locator(Path(checkpoint), 12).locate(picture)["text"]}


def test_a_policy_is_asked_and_read_as_its_run_did(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "policy").symlink_to(checkpoint)
    settings = ["data.manifest=scenes", "policy.answer=lat_lon", "policy.user_prompt=Where?"]
    settings.append("reward.weights.consistency=0")
    (tmp_path / "run" / "config.yaml").write_text(MARK + to_yaml(load(None, settings)))
    heard = {}

    def generate(*given, **how):
        heard.update(how)
        return "<think>a port</think><answer>53.5, 10.0</answer>"

    monkeypatch.setattr("geoagent_rl.policy.generate.generate", generate)
    picture = Image.open(tiny_random.picture(tmp_path / "a.png", 1)).convert("RGB")
    found = Locator(tmp_path / "run", 12).locate(picture)
    assert heard["question"] == "Where?" and found["problem"] == ""
    assert (found["lat"], found["lon"], found["level"]) == (53.5, 10.0, "position")
    assert "Answer: 53.5000, 10.0000" in show_prediction(found)
    # a checkpoint of no run, asked as a configuration says
    elsewhere = Locator(Path(checkpoint), 12, load(None, settings).policy)
    assert elsewhere.locate(picture)["answer"] == "53.5000, 10.0000"
    assert Locator(Path(checkpoint), 12).locate(picture)["answer"] == ""


@pytest.fixture
def served(request, checkpoint, monkeypatch):
    """(port, Server): over a real socket, a fake model unless the test asks for the real one."""
    locate = (
        Locator(Path(checkpoint), 8).locate
        if getattr(request, "param", "")
        else lambda picture: ROW
    )
    for name in ("BODY_S", "HEADERS_S"):
        monkeypatch.setattr(predict_server, name, 2.0)
    server = Server(locate, f"runs/{EVIL}", max_bytes=100_000, max_megapixels=4)
    listening = listen("127.0.0.1", 0)
    ended = http_server(server.app(("127.0.0.1",)))
    thread = threading.Thread(target=ended.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()[1], server
    ended.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def ask(port, method, path, body=None, host="127.0.0.1", **headers):
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    link.request(method, path, body, {"Host": host, **headers})
    answer = link.getresponse()
    text = answer.read().decode()
    link.close()
    return answer.status, text, answer.headers


def form(data: bytes, field: str = "photo") -> tuple[bytes, str]:
    head = f'--cut\r\nContent-Disposition: form-data; name="{field}"; filename="x.jpg"\r\n\r\n'.encode()
    return head + data + b"\r\n--cut--\r\n", "multipart/form-data; boundary=cut"


@pytest.mark.parametrize("served", ["real"], indirect=True)
def test_the_endpoint_answers_json_from_a_real_checkpoint(served):
    status, text, _ = ask(served[0], "POST", "/api/predict", jpeg())
    row = json.loads(text)
    assert status == 200 and set(row) == {"model", *ROW} and row["text"]
    assert ask(served[0], "GET", "/health")[0] == 200


def test_the_page_takes_a_form_and_shows_what_the_model_wrote_as_text_only(served):
    body, kind = form(jpeg())
    status, text, headers = ask(served[0], "POST", "/", body, **{"Content-Type": kind})
    assert status == 200 and EVIL not in text and text.count("&lt;script&gt;") > 8
    assert (
        "data:image/jpeg;base64," in text and "48.1000, 11.6000 (region:" in text and "<svg" in text
    )
    scripts = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    (script,) = scripts  # the page's own, and the only one that its policy lets run
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = headers["Content-Security-Policy"]
    assert (
        f"'sha256-{digest}'" in policy and "default-src 'none'" in policy and "http" not in policy
    )
    assert not re.search(r"""(src|href|url\()\s*=?\s*["']?https?:""", text)  # offline


def test_uploads_are_bounded_and_checked(served):
    port = served[0]
    assert ask(port, "POST", "/api/predict", b"x" * 100_001)[0] == 413
    chunked = ask(port, "POST", "/api/predict", iter([b"x" * 60_000] * 3))  # no length given
    assert chunked[0] == 413 and "larger than 0.1 MB" in json.loads(chunked[1])["error"]
    for body, says, code in (
        (b"", "no photograph", 400),
        (b"no image", "this photograph: not a readable image", 422),
        (jpeg((2500, 2500)), "6 megapixels, limit 4", 422),  # small file, many pixels
    ):
        status, text, _ = ask(port, "POST", "/api/predict", body)
        assert status == code and says in json.loads(text)["error"]
    body, kind = form(jpeg(), field="other")
    assert ask(port, "POST", "/api/predict", body, **{"Content-Type": kind})[0] == 400
    assert (
        ask(
            port, "POST", "/", b"--broken", **{"Content-Type": "multipart/form-data; boundary=cut"}
        )[0]
        == 400
    )
    assert ask(port, "GET", "/etc/passwd")[0] == 404


def test_only_requests_that_name_this_machine_are_answered(served):
    assert ask(served[0], "GET", "/", host="evil.example")[0] == 400


def test_a_long_queue_is_refused_instead_of_growing(served):
    served[1].waiting = 9
    assert ask(served[0], "POST", "/api/predict", jpeg())[0] == 429


def test_a_page_of_another_site_cannot_run_the_model(served):
    """A browser sends plain posts of any page without asking; it names where they come from."""
    for headers in (
        {"Origin": "https://evil.example", "Content-Type": "text/plain"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert ask(served[0], "POST", "/api/predict", jpeg(), **headers)[0] == 403
    host = f"127.0.0.1:{served[0]}"
    own = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert ask(served[0], "POST", "/api/predict", jpeg(), host, **own)[0] == 200


def test_half_sent_connections_are_ended_and_others_answered(served):
    held = [socket.create_connection(("127.0.0.1", served[0]), timeout=20) for _ in range(200)]
    try:
        for connection in held:
            connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: 127")
        assert ask(served[0], "POST", "/api/predict", jpeg())[0] == 200
        answers = {connection.recv(100).split(b"\r\n")[0] for connection in held}
        assert answers == {b"HTTP/1.1 408 Request Timeout"}
    finally:
        for connection in held:
            connection.close()


def test_a_body_that_never_comes_is_given_up(served):
    with socket.create_connection(("127.0.0.1", served[0]), timeout=20) as connection:
        head = b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n\r\n"
        connection.sendall(head + b"half")
        assert b" 408 " in connection.recv(100).split(b"\r\n")[0]
    assert served[1].waiting == 0


def test_a_taken_port_is_a_one_line_error():
    taken = listen("127.0.0.1", 0)
    with pytest.raises(UserError, match="give another --port"):
        listen("127.0.0.1", taken.getsockname()[1])
    taken.close()


def test_a_prediction_without_a_place_says_so():
    assert "names no place that the gazetteer knows" in show_prediction({**ROW, "level": None})
