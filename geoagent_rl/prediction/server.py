"""A page and a JSON endpoint that locate one photograph at a time, for people and programs on this
machine.

    GET  /             the page: choose or drop a photograph
    POST /             the same with the result (multipart form, field "photo"); no scripts
    POST /api/predict  the bytes of a photograph, or the same form -> JSON; an error is
                       {"error": ...} with 4xx or 5xx
    GET  /health       {"status": "ok", "model": ...}

Nothing that is uploaded is kept. Uploads are untrusted: their size is limited while they arrive,
pictures are checked before they are decoded, and everything the model writes is escaped. On
loopback only requests that name this machine are answered (so no foreign web page can reach it by a
name of its own); elsewhere only those with the token of the printed address. Requests that another
site's page makes a browser send are refused. A photograph waits as bytes and is decoded when it is
its turn."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from geoagent_rl.access import Guarded, new_token
from geoagent_rl.config import PolicyConfig
from geoagent_rl.data.images import BadImage, open_image
from geoagent_rl.network import hosts_answered, is_loopback, listen, url_of
from geoagent_rl.pages.page import script_hash
from geoagent_rl.prediction.page import page, script
from geoagent_rl.terminal import phase, say, stop_with_130

VARIABLE, COOKIE = "GEOAGENT_SERVE_TOKEN", "geoagent-serve"
WAITING = 8  # photographs that may wait for the one that is being located; more are refused
DRAINED = 10
DRAIN_S = 5.0  # for the rest of one that is refused
BODY_S = 60.0  # for one upload to arrive
HEADERS_S = 10.0  # for the head of a connection's first request
CONNECTIONS = 512  # at once, half-sent ones included; more get 503
THUMBNAIL = 900  # pixels, longest side, of what the page shows
Locate = Callable[[Image.Image], Mapping[str, Any]]


class Server:
    """The web application around one `locate` function, which is called by one thread at a time."""

    def __init__(self, locate: Locate, model: str, max_bytes: int, max_megapixels: float) -> None:
        self.locate, self.model = locate, model
        self.max_bytes, self.max_megapixels = max_bytes, max_megapixels
        self.one_at_a_time, self.waiting = asyncio.Lock(), 0

    def app(self, hosts: tuple[str, ...]) -> Starlette:
        """Return the application. hosts: names under which requests may come in; ("*",) for all."""
        routes = [
            Route("/", self.empty_page, methods=["GET"]),
            Route("/", self.result_page, methods=["POST"]),
            Route("/api/predict", self.predict, methods=["POST"]),
            Route("/health", self.health),
        ]
        guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
        handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
            HTTPException: self.refused,
            ClientDisconnect: self.gone,
        }
        return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)

    async def health(self, _: Request) -> Response:
        """Answer that the server lives, and with which model."""
        return JSONResponse({"status": "ok", "model": self.model})

    async def empty_page(self, _: Request) -> Response:
        """Answer the page without a result."""
        return self.html(page(self.model))

    async def result_page(self, request: Request) -> Response:
        """Locate the photograph of the form; answer the page with the result."""
        picture, row = await self.located(request)
        return self.html(page(self.model, row, data_uri(picture)))

    async def predict(self, request: Request) -> Response:
        """Locate the photograph; answer JSON."""
        _, row = await self.located(request)
        return JSONResponse({"model": self.model, **row}, headers={"Cache-Control": "no-store"})

    async def refused(self, request: Request, error: HTTPException) -> Response:
        """Answer an error: JSON below /api/, else the page."""
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": error.detail}, error.status_code, error.headers)
        return self.html(page(self.model, problem=error.detail), error.status_code)

    async def gone(self, _: Request, _error: ClientDisconnect) -> Response:
        """Answer a client that went away."""
        return Response(status_code=400)  # nobody is there to read it

    def html(self, text: str, status: int = 200) -> Response:
        """Return a page with headers that forbid everything it does not need."""
        policy = (
            f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {script_hash(script())}; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(
            text, status, headers | {"Cache-Control": "no-store", "Referrer-Policy": "same-origin"}
        )

    async def located(self, request: Request) -> tuple[Image.Image, Mapping[str, Any]]:
        """Return the photograph and what the model said about it."""
        check_origin(request)
        if self.waiting > WAITING:  # nothing of the body is kept, let alone decoded
            await drained(request)
            busy = f"{self.waiting} photographs are waiting; try again later"
            raise HTTPException(429, busy, {"Connection": "close", "Retry-After": "5"})
        self.waiting += 1
        try:
            try:
                async with asyncio.timeout(BODY_S):
                    data = await self.photograph(request)
            except TimeoutError:
                late = f"the upload took more than {BODY_S:g} s"
                raise HTTPException(408, late, {"Connection": "close"}) from None
            async with self.one_at_a_time:  # one decoded picture in memory at a time
                picture = await asyncio.to_thread(self.opened, data)
                row = await asyncio.to_thread(self.locate, picture)
                picture.thumbnail((THUMBNAIL, THUMBNAIL))
                return picture, row
        finally:
            self.waiting -= 1

    def opened(self, data: bytes) -> Image.Image:
        """Return the picture, checked before it is decoded."""
        with tempfile.NamedTemporaryFile(
            prefix="geoagent-photo-"
        ) as file:  # the safe reader looks at files
            file.write(data)
            file.flush()
            try:
                return open_image(file.name, self.max_megapixels)
            except BadImage as error:
                raise HTTPException(422, str(error).replace(file.name, "this photograph")) from None

    async def photograph(self, request: Request) -> bytes:
        """Return the uploaded bytes, from a form's field "photo" or as the whole body. Stops
        reading above the limit.
        """
        body = await self.limited(request)
        if request.headers.get("content-type", "").startswith("multipart/form-data"):

            async def once() -> AsyncGenerator[bytes, None]:
                yield body

            try:
                form = await MultiPartParser(
                    request.headers, once(), max_files=1, max_fields=4
                ).parse()
            except MultiPartException as error:
                raise HTTPException(400, f"the form cannot be read: {error.message}") from None
            photo = form.get("photo")
            body = await photo.read() if isinstance(photo, UploadFile) else b""
            await form.close()
        if not body:
            raise HTTPException(
                400, "no photograph: send its bytes, or a form with the file field photo"
            )
        return body

    async def limited(self, request: Request) -> bytes:
        """Return the body. What is beyond the limit is read (up to DRAINED times it, so that a
        browser sees the answer and not a broken connection) but not kept.
        """
        body, size = io.BytesIO(), int(request.headers.get("content-length", 0))
        if size <= DRAINED * self.max_bytes:
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > DRAINED * self.max_bytes:
                    break
                if size <= self.max_bytes:
                    body.write(chunk)
        if size > self.max_bytes:
            limit = f"the upload is larger than {self.max_bytes / 1e6:g} MB"
            raise HTTPException(413, limit, {"Connection": "close"})
        return body.getvalue()


async def drained(request: Request) -> None:
    """Read on for a moment, so that the client sees the answer and not a broken connection."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in request.stream():
                pass


def check_origin(request: Request) -> None:
    """Refuse what a page of another site makes a browser send: it needs no permission for plain
    posts, and would run the model. HTTPException 403."""
    origin = request.headers.get("origin", "")
    foreign = origin and origin.partition("://")[2] != request.headers.get("host", "")
    if foreign or request.headers.get("sec-fetch-site", "same-origin") in (
        "cross-site",
        "same-site",
    ):
        raise HTTPException(403, "a page of another site may not use this")


def data_uri(picture: Image.Image) -> str:
    """Return a thumbnail as a data URI."""
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def serve(
    model: Path,
    host: str,
    port: int,
    max_upload_mb: float,
    max_megapixels: float,
    max_tokens: int,
    asked: PolicyConfig | None = None,
) -> None:
    """Load the model, print the address and serve until SIGINT (Ctrl-C) or SIGTERM.

    port: 0 for any free one. asked: see Locator.
    """
    from geoagent_rl.prediction.locator import Locator

    stop_with_130()
    listener = listen(host, port)
    with phase(f"loading {model}"):
        locator = Locator(model, max_tokens, asked)
    server = Server(locator.locate, str(model), int(max_upload_mb * 1e6), max_megapixels)
    app: ASGIApp = server.app(hosts_answered(host))
    url = f"{url_of(host, listener)}/"
    if not is_loopback(host):
        token = new_token(VARIABLE)
        app, url = Guarded(app, token, COOKIE, ("/health",)), f"{url}?token={token}"
        say("warning: other machines reach this, without encryption; the address carries its token")
    print(f"{url}  (model {model}; Ctrl-C ends it)", flush=True)
    http_server(app).run(sockets=[listener])


class Impatient(H11Protocol):
    """Closes a connection whose next request has not come whole after HEADERS_S: uvicorn itself
    would hold half of one for ever."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.loop.call_later(HEADERS_S, self.end_if_silent, None)

    def on_response_complete(self) -> None:
        """Begin to wait for the next one."""
        answered = self.cycle
        super().on_response_complete()
        self.loop.call_later(HEADERS_S, self.end_if_silent, answered)

    def end_if_silent(self, answered: Any) -> None:
        """Say 408 and close, where no request has begun since the one that was `answered`."""
        begun: Any = self.cycle  # None at first, whatever its declared type says
        if begun is answered and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
            self.transport.close()


def http_server(app: ASGIApp) -> uvicorn.Server:
    """Return the server of the application, with its limits on connections."""
    config = uvicorn.Config(
        app,
        http=Impatient,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=5,
        limit_concurrency=CONNECTIONS,
    )
    return uvicorn.Server(config)
