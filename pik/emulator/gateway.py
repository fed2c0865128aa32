"""The door of the embedded AWS: who gets in, who it is, and when it is quiet.

Runs inside the emulator's process (see ``launcher.py``), so it imports nothing of ``pik``.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

Scope = dict[str, Any]
Home = Callable[[str], AbstractContextManager[None]]

QUIET_SECONDS = 1.0  # no request for so long: a good moment to save
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
# Names that a stranger's DNS cannot point at this machine (against DNS rebinding).
SAFE_SUFFIXES = (".localhost", ".127.0.0.1", ".amazonaws.com")
_API_REQUEST = re.compile(r"/restapis/([^/]+)/([^/]+)/_user_request_(/|$)")


class Gateway:
    """ASGI application around ministack's: refuses browsers, answers for its identity, knows when it is quiet."""

    def __init__(
        self,
        app: Any,
        nonce: str,
        telemetry: Any,
        home: Home,
        realism: Callable[[], dict[str, Any] | None] | None = None,
    ) -> None:
        self.app = app
        self.telemetry = telemetry
        self.home = home
        self.realism = realism or (lambda: None)
        self.identity_path = f"/_pik/{nonce}"
        self.started = asyncio.Event()
        self.in_flight = 0
        self.unsaved_since: float | None = None
        self.last_request = 0.0

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._watch_startup(send))
            return
        refusal = browser_request(scope)
        if refusal:
            await _refuse(scope, receive, send, refusal)
        elif scope.get("path", "").startswith("/_pik/"):
            await self._answer_ours(scope, send)
        else:
            await self._serve(scope, receive, send)

    async def _answer_ours(self, scope: Scope, send: Any) -> None:
        if scope["path"] == self.identity_path:
            await _answer(send, 200, {"pid": os.getpid(), "realism": self.realism()})
        elif scope["path"] == "/_pik/sample" and scope.get("method") == "POST":
            await _answer(send, 200, {"points": self.telemetry.sample()})
            self.touch()
        else:
            await _answer(send, 404, {"error": "this instance has no such path"})

    def _watch_startup(self, send: Any) -> Any:
        async def watched(message: dict[str, Any]) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self.started.set()

        return watched

    async def _serve(self, scope: Scope, receive: Any, send: Any) -> None:
        self.in_flight += 1
        to_api = _API_REQUEST.match(scope.get("path", ""))

        async def counted(message: dict[str, Any]) -> None:
            await send(message)
            if to_api and message["type"] == "http.response.start":
                self.telemetry.request_served(to_api[1], to_api[2], message["status"])

        try:
            with self.home(to_api[1]) if to_api else nullcontext():
                await self.app(scope, receive, counted)
        finally:
            self.in_flight -= 1
            self.last_request = time.monotonic()
            self.touch()

    def touch(self) -> None:
        """Note that there is something to save."""
        if self.unsaved_since is None:
            self.unsaved_since = time.monotonic()

    @property
    def quiet(self) -> bool:
        """Whether nobody is being served and nobody was just now."""
        return self.in_flight == 0 and time.monotonic() - self.last_request >= QUIET_SECONDS


def browser_request(scope: Scope) -> str:
    """Return why a request is taken for a web page's, or nothing."""
    headers = {name.lower(): value for name, value in scope.get("headers", [])}
    if b"origin" in headers:
        return "it carries an Origin header"
    if headers.get(b"sec-fetch-site", b"none") != b"none":
        return "it carries a Sec-Fetch-Site header"
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name = host if host.endswith("]") else host.rsplit(":", 1)[0]
    if name and name not in LOOPBACK_NAMES and not name.endswith(SAFE_SUFFIXES):
        return f"its Host is {name[:100]}"
    return ""


async def _refuse(scope: Scope, receive: Any, send: Any, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    error = f"the embedded AWS does not serve web pages; this request looks like one: {reason}"
    await _answer(send, 403, {"error": error})


async def _answer(send: Any, status: int, body: dict[str, Any]) -> None:
    payload = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})
