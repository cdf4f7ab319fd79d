"""A token for a page that other machines reach: in its address once, then in a cookie.

On loopback there is none: only this machine's people are there."""

from __future__ import annotations

import os
import secrets
from http.cookies import SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import URL
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

WRONG = "open the address that the program printed: it carries the token"


def new_token(variable: str) -> str:
    """Return the token to ask for: a fresh one, or that of an environment variable, which stays."""
    return os.environ.get(variable) or secrets.token_urlsafe(24)


class Guarded:
    """An application for those who show the token: ?token=, a cookie or a Bearer header."""

    def __init__(self, app: ASGIApp, token: str, cookie: str, free: tuple[str, ...] = ()) -> None:
        """cookie: its name; free: paths that need no token."""
        self.app, self.token, self.cookie, self.free = app, token, cookie, free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 401."""
        if scope["type"] != "http" or scope["path"] in self.free:
            await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if self._right(shown):
            bare = URL(scope=scope).remove_query_params("token")
            answer = RedirectResponse(f"{bare.path}?{bare.query}" if bare.query else bare.path)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            await answer(scope, receive, send)
            return
        cookies = SimpleCookie(headers.get("cookie", ""))
        kept = cookies[self.cookie].value if self.cookie in cookies else ""
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if self._right(kept) or self._right(bearer):
            await self.app(scope, receive, send)
        else:
            await JSONResponse({"error": WRONG}, 401)(scope, receive, send)

    def _right(self, shown: str) -> bool:
        return secrets.compare_digest(shown.encode(), self.token.encode())
