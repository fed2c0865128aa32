"""The ASGI application around the emulator's, in which every habit sees every call before and after it is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .wire import Answer, Call

Scope = dict[str, Any]


class Cut:
    """What a habit returns in place of an answer to end the connection without one."""


CUT = Cut()


class Habit(Protocol):
    """One habit of AWS. ``after`` is asked about calls for which ``before`` returned nothing and ``wants`` is true."""

    def before(self, call: Call) -> Answer | Cut | None:
        """Return what is answered in the service's place, or None: the service shall see the call."""

    def wants(self, call: Call) -> bool:
        """Whether ``after`` may have something to say about the call's answer."""

    def after(self, call: Call, answer: Answer) -> Answer | Cut:
        """Return the answer, this or another one."""


class Quiet:
    """A habit that does nothing: what the others begin from."""

    def before(self, call: Call) -> Answer | Cut | None:
        """Let every call through."""
        return None

    def wants(self, call: Call) -> bool:
        """Look at no answer."""
        return False

    def after(self, call: Call, answer: Answer) -> Answer | Cut:
        """Leave every answer as it is."""
        return answer


class ConnectionCut(Exception):
    """Raised to the server once the connection is gone: there is nobody to answer."""


class Middleware:
    """Asks every habit about every HTTP request; other kinds of connections pass.

    ``cut`` ends the connection of a request (its ASGI scope): ASGI itself knows no way to, and an answer that breaks
    off will not do, as botocore takes what came of it for the whole.
    """

    def __init__(self, app: Any, habits: Sequence[Habit], cut: Callable[[Scope], None]) -> None:
        self.app = app
        self.habits = habits
        self.cut = cut

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http" or scope.get("path", "").startswith("/_ministack"):
            await self.app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return
        call = Call.of(scope, body)
        for habit in self.habits:
            refused = habit.before(call)
            if refused is not None:
                await self._send(refused, scope, send)
                return
        interested = [habit for habit in self.habits if habit.wants(call)]
        again = _replay(body, receive)
        if not interested:
            await self.app(scope, again, send)
            return
        answer: Answer | Cut = await _served(self.app, scope, again)
        for habit in interested:
            if isinstance(answer, Answer):
                answer = habit.after(call, answer)
        await self._send(answer, scope, send)

    async def _send(self, answer: Answer | Cut, scope: Scope, send: Any) -> None:
        if isinstance(answer, Cut):
            self.cut(scope)
            raise ConnectionCut
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})


async def _read(receive: Any) -> bytes | None:
    """Return the request's body; None when the client has gone."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _replay(body: bytes, receive: Any) -> Any:
    """Return a ``receive`` that gives the body once, and then whatever comes."""
    given = False

    async def again() -> dict[str, Any]:
        nonlocal given
        if given:
            following: dict[str, Any] = await receive()
            return following
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _served(app: Any, scope: Scope, receive: Any) -> Answer:
    """Return the whole answer of the application."""
    started: dict[str, Any] = {"status": 500, "headers": []}
    parts: list[bytes] = []

    async def collect(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    await app(scope, receive, collect)
    return Answer(started["status"], list(started["headers"]), b"".join(parts))
