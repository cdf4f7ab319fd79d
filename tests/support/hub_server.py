"""A server that plays the part of the Hugging Face Hub's documented HTTP API which an upload uses:
repositories, preupload, Git LFS in one PUT, commits. It keeps what it is given."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_stand_in"


class Hub:
    """What has arrived: repositories by name, files by (repository, path)."""

    def __init__(self) -> None:
        self.created: dict[str, dict[str, Any]] = {}
        self.blobs: dict[str, bytes] = {}
        self.files: dict[tuple[str, str], bytes] = {}
        self.address = ""

    def post(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            return 200, {"files": [self.mode(f) for f in json.loads(body)["files"]]}
        if re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            return 200, {"objects": [self.place(o) for o in json.loads(body)["objects"]]}
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            return self.commit(found[1], body)
        return 404, {"error": path}

    def create(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        status = 409 if name in self.created else 200
        self.created.setdefault(name, asked)
        return status, {"url": f"{self.address}/{name}"}

    def mode(self, file: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def place(self, wanted: dict[str, Any]) -> dict[str, Any]:
        href = f"{self.address}/blobs/{wanted['oid']}"
        return {**wanted, "actions": {"upload": {"href": href}}}

    def commit(self, repo: str, body: bytes) -> tuple[int, dict[str, Any]]:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.files[repo, value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[repo, value["path"]] = self.blobs[value["oid"]]
        commit = {"commitUrl": f"{self.address}/{repo}/commit/1", "commitOid": "1" * 40}
        return 200, {**commit, "success": True, "hookOutput": ""}


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def body(self) -> bytes:
            if length := self.headers.get("Content-Length"):
                return self.rfile.read(int(length))
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

        def do_POST(self) -> None:
            path, body = self.path.split("?")[0], self.body()
            allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            self.answer(*(hub.post(path, body) if allowed else (401, {"error": "who are you?"})))

        def do_PUT(self) -> None:
            data = self.body()
            hub.blobs[hashlib.sha256(data).hexdigest()] = data
            self.answer(200, {})

        def do_GET(self) -> None:
            self.answer(404, {"error": self.path})

        def answer(self, status: int, said: dict[str, Any]) -> None:
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextlib.contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub on loopback, in threads of this process."""
    hub = Hub()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(hub)) as server:
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
