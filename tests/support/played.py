"""A local HTTP server that plays a service: what such servers of the tests have in common."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

PATIENCE_S = 30  # of an answer that hangs


class PlayedServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: type[Answering]) -> None:
        super().__init__(address, handler)
        self.release = threading.Event()  # ends answers that hang


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PlayedServer

    def answer(self, status: int | str, headers: Mapping[str, str], body: str | bytes) -> None:
        """Send an answer; status "hang" waits before. headers go before our own."""
        if status == "hang":
            self.server.release.wait(PATIENCE_S)
        data = body.encode() if isinstance(body, str) else body
        own = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        self.send_response(200 if isinstance(status, str) else status)
        for name, value in {**own, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            pass  # the client gave up


Server = TypeVar("Server", bound=PlayedServer)


@contextmanager
def playing(server: Server) -> Iterator[Server]:
    """Serve while the block runs."""
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
