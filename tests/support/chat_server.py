"""A local HTTP server that plays an OpenAI-style endpoint: documented answers over real sockets.

`answer` is a function of a request's body that returns the text of the answer. `trouble` is a
function of (number of the request, body, key) that may return (status, headers, text) to be sent
instead.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def said(text):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


class ChatServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, answer, trouble):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.trouble = answer, trouble
        self.requests = []  # (path, body, key)
        self.lock = threading.Lock()
        self.release = threading.Event()  # ends answers that hang
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def bodies(self):
        return [body for _, body, _ in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        with server.lock:
            server.requests.append((self.path, body, key))
            number = len(server.requests)
        sent = server.trouble(number, body, key) if server.trouble else None
        status, headers, text = sent or (200, {}, said(server.answer(body)))
        if status == "hang":
            server.release.wait(30)
            status = 200
        data = text.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass  # the client gave up


@contextmanager
def chatting(answer, trouble=None):
    server = ChatServer(answer, trouble)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
