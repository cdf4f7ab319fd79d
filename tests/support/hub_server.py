"""A server that plays the part of the Hugging Face Hub's documented HTTP API which an upload uses,
repositories, preupload, Git LFS in one PUT, commits; and which a download uses. It keeps what it
is given."""

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
        self.given: list[str] = []  # what was asked for, in order
        self.address = ""

    def info(self, repo: str) -> tuple[int, dict[str, Any]]:
        files = {path: data for (name, path), data in self.files.items() if name == repo}
        siblings = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
        found = {"id": repo, "modelId": repo, "sha": "1" * 40, "siblings": siblings}
        return (200, found) if files else (404, {"error": repo})

    def tree(self, repo: str) -> list[dict[str, Any]]:
        files = {path: data for (name, path), data in self.files.items() if name == repo}
        oid = {path: hashlib.sha1(data).hexdigest() for path, data in files.items()}
        row = {"type": "file"}
        return [row | {"path": p, "size": len(d), "oid": oid[p]} for p, d in files.items()]

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
            path = self.path.split("?")[0]
            if found := re.fullmatch(r"/api/models/(.+)/tree/[^/]+", path):
                self.answer(200, hub.tree(found[1]))
            elif found := re.fullmatch(r"/api/models/(.+?)(/revision/[^/]+)?", path):
                self.answer(*hub.info(found[1]))
            else:
                self.give(path, with_bytes=True)

        def do_HEAD(self) -> None:
            self.give(self.path, with_bytes=False)

        def give(self, path: str, with_bytes: bool) -> None:
            found = re.fullmatch(r"/(.+)/resolve/[^/]+/(.+)", path)
            data = hub.files.get((found[1], found[2])) if found else None
            if data is None:
                return self.answer(404, {"error": path})
            hub.given.append(path)
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", "1" * 40)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if with_bytes:
                self.wfile.write(data)
            return None

        def answer(self, status: int, said: Any) -> None:
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
