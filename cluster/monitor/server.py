"""The monitor's HTTP side: the page, what it asks for, and the addresses that the Ray dashboard
expects of a Grafana.

Answers only requests that name a host it was told of (so that no other web page reaches it through
a made-up name), and lets no script run that is not its own. May know files and, when attached, a
live run (attached.py)."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from cluster.monitor.attached import Attached
from cluster.monitor.panels import described
from cluster.monitor.rollout_view import brief, view
from cluster.monitor.runs import SORTS, Run, Runs
from geoagent_rl.config import Config, flat, to_yaml
from geoagent_rl.data.images import BadImage
from geoagent_rl.metrics.table import is_metric
from geoagent_rl.network import LOOPBACK
from geoagent_rl.pages.page import ASSETS
from geoagent_rl.run.directory import CONFIG, RunDir
from geoagent_rl.run.start import settings_of
from geoagent_rl.types import UserError

STATIC = Path(__file__).parent / "static"
SHARED = (
    ASSETS / "pages" / "map.css",
    ASSETS / "pages" / "map.js",
    ASSETS / "natural_earth" / "world.json",
)
FILES = {path.name: path for path in (*STATIC.iterdir(), *SHARED)}
LONGEST = {"small": 240, "large": 1200}  # pixels
MOST_REPLICAS = 10_000
MOST = 10**12  # of a step, a page or a byte of a file: every file system takes it as a place
# What a body raises that is no JSON, or has not what is asked for.
NOT_AS_ASKED = (ValueError, RecursionError, KeyError, TypeError, OverflowError)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; "
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
# Only the plain curves may stand in another page's frame, as in the Ray dashboard: buttons there
# could be hidden.
FRAMED = HEADERS | {"Content-Security-Policy": POLICY}
UNFRAMED = HEADERS | {"Content-Security-Policy": POLICY + "frame-ancestors 'none'"}


class Pages:
    """The handlers, which run in threads: files are read and pictures decoded there."""

    def __init__(self, runs: Runs, attached: Attached | None) -> None:
        self.runs, self.attached = runs, attached
        self._picture = lru_cache(maxsize=512)(_picture)

    def routes(self) -> list[Route]:
        """Return every route."""
        get = {
            "/": self.index,
            "/static/{name}": self.static,
            "/api/panels": lambda _: answer(described(self.runs.parts())),
            "/api/runs": self.listed,
            "/api/series": self.series,
            "/api/rollouts": self.rollouts,
            "/api/rollout": self.rollout,
            "/api/group": self.group,
            "/api/image": self.image,
            "/api/alerts": lambda request: answer(self.run(request).checks()),
            "/api/log": lambda request: answer(self.run(request).log()),
            "/api/evaluation": lambda request: answer(RunDir(self.run(request).path).evaluations()),
            "/api/config": lambda request: answer(settings(self.run(request))),
            "/api/cluster": lambda _: answer(
                self.attached.seen if self.attached else {"attached": False}
            ),
            "/api/health": lambda _: answer({"database": "ok", "version": "geoagent-rl monitor"}),
            "/api/v1/query": self.query,
            "/d/{uid}/{rest:path}": self.dashboard,
            "/d-solo/{uid}/{rest:path}": self.dashboard,
        }
        routes = [Route(path, handler, methods=["GET"]) for path, handler in get.items()]
        changes = {"/api/scale": self.scale, "/api/note": self.note}
        return [*routes, *(Route(path, f, methods=["POST"]) for path, f in changes.items())]

    def listed(self, _: Request) -> Response:
        """Answer with the runs and the parts of their rewards: the page asks for the panels again
        when these change.
        """
        return answer(
            {
                "folder": str(self.runs.folder),
                "runs": self.runs.listed(),
                "parts": self.runs.parts(),
            }
        )

    def index(self, _: Request) -> Response:
        """Answer the page itself."""
        return FileResponse(STATIC / "index.html", headers=UNFRAMED)

    def static(self, request: Request) -> Response:
        """Answer a script or style sheet."""
        name = request.path_params["name"]
        if name not in FILES:
            raise HTTPException(404, "no such file")
        return FileResponse(FILES[name], headers=HEADERS)

    def dashboard(self, request: Request) -> Response:
        """Answer what the Ray dashboard frames as a Grafana dashboard (kiosk) or panel; who follows
        its link gets the page.
        """
        if request.url.path.startswith("/d/") and "kiosk" not in request.query_params:
            return RedirectResponse("/")
        return FileResponse(STATIC / "panels.html", headers=FRAMED)

    def query(self, request: Request) -> Response:
        """Answer Prometheus' instant query, as far as Ray's health check goes. The curves' data are
        not behind it."""
        if request.query_params.get("query") != "vector(1)":
            message = "this is geoagent-rl monitor, not a Prometheus: it answers only vector(1)"
            return answer({"status": "error", "errorType": "bad_data", "error": message}, 400)
        result = [{"metric": {}, "value": [time.time(), "1"]}]
        return answer({"status": "success", "data": {"resultType": "vector", "result": result}})

    def series(self, request: Request) -> Response:
        """Answer the curves that are asked for."""
        asked = request.query_params
        names = [name for name in asked.get("names", "").split(",") if is_metric(name)]
        return answer(
            self.run(request).series(names, number(asked.get("smooth"), 1), asked.get("known", ""))
        )

    def rollouts(self, request: Request) -> Response:
        """Answer one page of the list of rollouts."""
        asked = request.query_params
        sort = asked.get("sort", "") if asked.get("sort") in SORTS else SORTS[0]
        step = number(asked.get("step"), None)
        page = max(0, number(asked.get("page"), 0))
        return answer(
            self.run(request).page(
                sort, step, asked.get("uid", ""), asked.get("failed") == "1", page
            )
        )

    def rollout(self, request: Request) -> Response:
        """Answer one rollout in full."""
        run, at = self.run(request), number(request.query_params.get("at"), -1)
        try:
            row = run.rollouts.row(at)
        except IndexError:
            raise HTTPException(404, "no such rollout") from None
        return answer(view(row, run.weights, run.form))

    def group(self, request: Request) -> Response:
        """Answer the answers to one prompt, side by side."""
        run, at = self.run(request), number(request.query_params.get("at"), -1)
        try:
            rows = run.group(at)
        except IndexError:
            raise HTTPException(404, "no such rollout") from None
        return answer([brief(row, run.form) for row in rows])

    def image(self, request: Request) -> Response:
        """Answer a rollout's photograph as JPEG."""
        run, asked = self.run(request), request.query_params
        try:
            size = LONGEST.get(asked.get("size", ""), LONGEST["large"])
            picture = self._picture(run, run.rollouts.generation, number(asked.get("at"), -1), size)
        except (IndexError, BadImage) as error:
            raise HTTPException(404, getattr(error, "kind", "no such rollout")) from None
        return Response(
            picture,
            media_type="image/jpeg",
            headers=HEADERS | {"Cache-Control": "private, max-age=600"},
        )

    async def note(self, request: Request) -> Response:
        """Keep {run, text}: what somebody wants to remember of a run, kept in its directory."""
        own_page(request)
        try:
            asked = await request.json()
            run, text = self.runs.get(str(asked["run"])), str(asked["text"])
            text.encode()
        except NOT_AS_ASKED:
            raise HTTPException(400, "give run and text") from None
        try:
            await asyncio.to_thread(run.write_note, text)
        except OSError as error:
            raise HTTPException(409, f"the note was not kept: {error.strerror}") from None
        return answer({})

    async def scale(self, request: Request) -> Response:
        """Obey {run, service, replicas}."""
        own_page(request)
        try:
            asked = await request.json()
            run, service, replicas = (
                str(asked["run"]),
                str(asked["service"]),
                int(asked["replicas"]),
            )
        except NOT_AS_ASKED:
            raise HTTPException(400, "give run, service and replicas") from None
        attached = self.attached
        if (
            attached is None
            or run != attached.seen.get("run_id")
            or service not in attached.seen["services"]
            or not 1 <= replicas <= MOST_REPLICAS
        ):
            raise HTTPException(400, "no such run or service, or not a number of replicas")
        try:
            attached.scale(service, replicas)
        except UserError as error:
            raise HTTPException(409, str(error)) from None
        return answer({})

    def run(self, request: Request) -> Run:
        """Return the run that `run` names; without a name the newest."""
        try:
            name = request.query_params.get("run") or next(iter(self.runs.all()))
            return self.runs.get(name)
        except (KeyError, StopIteration):
            raise HTTPException(404, "no such run") from None


def application(
    runs: Runs, attached: Attached | None = None, hosts: tuple[str, ...] = LOOPBACK
) -> Starlette:
    """Return the application. hosts: names under which it may be asked."""
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    handlers: dict[Any, Callable[[Request, Any], Response]] = {HTTPException: refused}
    return Starlette(
        routes=Pages(runs, attached).routes(), middleware=[guard], exception_handlers=handlers
    )


def own_page(request: Request) -> None:
    """Refuse what a form of another page can send: the header is one that it cannot."""
    if request.headers.get("X-GeoAgent") != "monitor":
        raise HTTPException(403, "only the monitor's own page may change something")


def settings(run: Run) -> dict[str, Any]:
    """Return {settings, defaults} of a run, by dotted key."""
    default = flat(yaml.safe_load(to_yaml(Config())))
    found = settings_of(run.path / CONFIG)
    return {"settings": found, "defaults": {key: default.get(key) for key in found}}


def refused(_: Request, error: HTTPException) -> Response:
    """Answer an error in JSON, as the page's scripts expect it."""
    return answer({"error": error.detail}, error.status_code)


def _picture(run: Run, _generation: int, at: int, longest: int) -> bytes:
    # The generation is not read, but names the picture: a run that is begun anew has other
    # pictures.
    return run.image(at, longest)


def answer(content: Any, status: int = 200) -> Response:
    """Answer JSON that a browser reads: JSON has no NaN and UTF-8 no half characters; a model can
    produce both."""
    try:
        body = json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        body = json.dumps(_mended(content), ensure_ascii=False).encode()
    return Response(body, status, headers=HEADERS, media_type="application/json")


def _mended(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _mended(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_mended(value) for value in content]
    return (
        content.encode("utf-8", "replace").decode("utf-8") if isinstance(content, str) else content
    )


def number(text: str | None, otherwise: Any) -> Any:
    """Return a whole number, MOST at most, or `otherwise` where the text is none."""
    if text is None or not text.isdecimal():
        return otherwise
    return min(int(text[:13]), MOST)
