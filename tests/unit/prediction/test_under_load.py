"""serve-model's real server, in a process of its own, under half-sent requests and big pictures at
once: its memory stays bounded, every refusal is honest, and it still answers.
"""

import http.client
import io
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from starlette.testclient import TestClient

from geoagent_rl.prediction import locator
from geoagent_rl.prediction import server as predict_server

HALF_SENT, UPLOADS, SIDE = 200, 50, 6000  # pixels: 36 megapixels, in 110 KB of PNG
ROOM = 300 * 2**20  # bytes above what the idle server needs
SERVER = """
import time
from geoagent_rl.network import listen
from geoagent_rl.prediction import server

def locate(picture):
    time.sleep(0.05)
    return {"answer": str(picture.size)}

server.HEADERS_S = 3.0
listening = listen("127.0.0.1", 0)
print(listening.getsockname()[1], flush=True)
app = server.Server(locate, "stand-in", max_bytes=20_000_000, max_megapixels=80).app(("127.0.0.1",))
server.http_server(app).run(sockets=[listening])
"""


@pytest.fixture
def served():
    """(port, process) of a server with a stand-in for the model."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline()), process
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def upload(port: int, data: bytes) -> int:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=50)
    try:
        link.request("POST", "/api/predict", data)
        return link.getresponse().status
    finally:
        link.close()


def memory(process: subprocess.Popen, row: str) -> int:
    """VmRSS: of now; VmHWM: the most so far; in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if row in line))


def picture(side: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (side, side), "green").save(data, "PNG")
    return data.getvalue()


def test_memory_is_bounded_and_refusals_are_honest(served):
    port, process = served
    big = picture(SIDE)
    assert upload(port, picture(64)) == 200
    idle = memory(process, "VmRSS")
    held = [socket.create_connection(("127.0.0.1", port), timeout=50) for _ in range(HALF_SENT)]
    try:
        for connection in held:
            connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: 127")
        with ThreadPoolExecutor(UPLOADS) as crowd:
            codes = Counter(crowd.map(lambda _: upload(port, big), range(UPLOADS)))
        assert set(codes) == {200, 429} and codes[200] > predict_server.WAITING
        assert memory(process, "VmHWM") - idle < ROOM
        assert upload(port, bytes(20_000_001)) == 413
        assert {c.recv(100).split(b"\r\n")[0] for c in held} == {b"HTTP/1.1 408 Request Timeout"}
        assert upload(port, big) == 200
    finally:
        for connection in held:
            connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_other_machines_need_the_token_of_the_printed_address(host, monkeypatch, capsys):
    apps = []
    runner = SimpleNamespace(run=lambda sockets: sockets[0].close())
    monkeypatch.setattr(predict_server, "http_server", lambda app: apps.append(app) or runner)
    monkeypatch.setattr(predict_server, "stop_with_130", lambda: None)
    monkeypatch.setattr(locator, "Locator", lambda *_: SimpleNamespace(locate=lambda _: {}))
    monkeypatch.delenv(predict_server.VARIABLE, raising=False)
    predict_server.serve(Path("model"), host, 0, 1, 80, 8)
    printed = capsys.readouterr().out.split()[0]
    client = TestClient(apps[0], base_url="http://127.0.0.1")
    assert client.get("/health").status_code == 200
    assert client.get("/").status_code == (200 if host == "127.0.0.1" else 401)
    assert client.post("/api/predict", content=b"x").status_code in (
        (422,) if host == "127.0.0.1" else (401,)
    )
    token = printed.partition("?token=")[2]
    shown = {"authorization": f"Bearer {token}"}
    assert bool(token) == (host != "127.0.0.1")
    assert client.get("/", headers=shown).status_code == 200


def test_half_of_a_second_request_is_ended_too(served):
    with socket.create_connection(("127.0.0.1", served[0]), timeout=50) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /health HTTP/1.1\r\nHo")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))  # until it is closed
    assert answer.endswith(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
