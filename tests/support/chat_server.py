"""A local HTTP server that plays an OpenAI-style endpoint: documented answers over real sockets.

`answer` is a function of a request's body that returns the text of the answer. `trouble` is a
function of (number of the request, body, key) that may return (status, headers, text) to be sent
instead.
"""

from __future__ import annotations

import json
import threading

from geoagent_rl.rewards.consistency_prompt import answer as form
from tests.support.played import Answering, PlayedServer, playing


def said(text):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


class ChatServer(PlayedServer):
    def __init__(self, answer, trouble):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.trouble = answer, trouble
        self.requests = []  # (path, body, key)
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def bodies(self):
        return [body for _, body, _ in self.requests]


class _Handler(Answering):
    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        with server.lock:
            server.requests.append((self.path, body, key))
            number = len(server.requests)
        sent = server.trouble(number, body, key) if server.trouble else None
        self.answer(*(sent or (200, {}, said(server.answer(body)))))


def conclude(body):
    """As a judge: the last word of the reasoning."""
    reasoning = json.loads(body["messages"][-1]["content"])["reasoning"]
    return form((reasoning.split() or [""])[-1].rstrip("."))


def chatting(answer=conclude, trouble=None):
    return playing(ChatServer(answer, trouble))


def as_judge(server):
    """The settings of a run whose judge is the server: no engine has to start for it."""
    return [f"judge.endpoint.url={server.url}", "judge.endpoint.model=played"]
