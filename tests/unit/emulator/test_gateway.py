"""Whatever a browser sends to the embedded AWS is refused; what tools send is not."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from typing import Any

import pytest

from pik.emulator.gateway import Gateway, browser_request


def scope(**headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    return {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:43817", "origin": "https://evil.example"},
        {"host": "127.0.0.1:43817", "origin": "null"},
        {"host": "127.0.0.1:43817", "sec_fetch_site": "cross-site"},
        {"host": "127.0.0.1:43817", "sec_fetch_site": "same-site"},
        {"host": "evil.example:43817"},
        {"host": "127.0.0.1.evil.example:43817"},
        {"host": "evil.example"},
    ],
)
def test_a_web_page_is_recognised(headers: dict[str, str]) -> None:
    assert browser_request(scope(**headers))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:43817",
        "localhost:43817",
        "localhost",
        "[::1]:43817",
        "bucket.localhost:43817",
        "abc.execute-api.us-east-1.amazonaws.com",
    ],
)
def test_a_tool_is_not(host: str) -> None:
    assert browser_request(scope(host=host)) == ""
    assert browser_request(scope(host=host, sec_fetch_site="none")) == ""


class Samples:
    def sample(self) -> int:
        return 3

    def request_served(self, api: str, stage: str, status: int) -> None:
        raise AssertionError("nothing was served")


async def ask(gateway: Gateway, asked: dict[str, Any]) -> tuple[int, Any]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await gateway(asked, None, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


def gateway() -> Gateway:
    async def never(*_: Any) -> None:
        raise AssertionError("reached the emulator")

    return Gateway(never, "nonce", Samples(), lambda _: nullcontext())


def test_a_web_page_gets_403_as_json_and_reaches_nothing() -> None:
    status, body = asyncio.run(ask(gateway(), scope(host="127.0.0.1", origin="https://evil.example")))

    assert status == 403
    assert "Origin" in body["error"]


def test_only_the_right_nonce_is_answered() -> None:
    async def both() -> tuple[int, int]:
        ours = gateway()
        right, _ = await ask(ours, scope() | {"path": "/_pik/nonce"})
        wrong, _ = await ask(ours, scope() | {"path": "/_pik/other"})
        return right, wrong

    assert asyncio.run(both()) == (200, 404)


def test_sampling_is_a_post() -> None:
    async def both() -> tuple[tuple[int, Any], int]:
        ours = gateway()
        post = await ask(ours, scope() | {"path": "/_pik/sample", "method": "POST"})
        get, _ = await ask(ours, scope() | {"path": "/_pik/sample"})
        return post, get

    assert asyncio.run(both()) == ((200, {"points": 3}), 404)
