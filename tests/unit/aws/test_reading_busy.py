"""A read of a step outlasts a busy moment of a store."""

from __future__ import annotations

import io
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from pik.aws.reading import StoreReader
from pik.environments import Environment

LOCAL = Environment("local", "us-east-1", "http://127.0.0.1:9")


class _Body(io.BytesIO):
    def stream(self, **_: Any) -> Any:
        yield self.read()


def busy(stores: StoreReader, times: int) -> list[int]:
    """Have S3 ask for fewer requests so many times; return how often it was asked."""
    asked = [0]

    def answer(request: Any, **_: Any) -> AWSResponse:
        asked[0] += 1
        if asked[0] <= times:
            return AWSResponse(request.url, 503, {}, _Body(b"<Error><Code>SlowDown</Code></Error>"))
        return AWSResponse(request.url, 200, {"content-length": "2"}, _Body(b"{}"))

    stores.client("s3").meta.events.register("before-send.s3.GetObject", answer)
    return asked


def test_a_read_outlasts_seven_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    stores = StoreReader(LOCAL, {"RawBucket": "raw"})
    asked = busy(stores, 7)
    found = stores.raw("raw/a.json")
    assert found is not None
    assert (found.body, asked[0]) == (b"{}", 8)


def test_a_store_that_stays_busy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    stores = StoreReader(Environment("local", "us-east-1", "http://127.0.0.1:9"), {"RawBucket": "raw"})
    asked = busy(stores, 100)
    with pytest.raises(ClientError, match="SlowDown"):
        stores.raw("raw/a.json")
    assert asked[0] == 9
