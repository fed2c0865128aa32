"""Objects in S3, read as files are."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError

from pik import producer
from pik.errors import UsageError
from pik.pipeline.settings import Settings
from pik.producer import s3_files
from pik.runbooks.parameters import Parameter
from tests.unit.moto_workbench import MotoEnvironment

EVENTS = [{"n": n, "text": "x" * 50} for n in range(300)]


@pytest.fixture
def env(deployed: Settings, monkeypatch: pytest.MonkeyPatch) -> MotoEnvironment:
    monkeypatch.setattr(s3_files, "_PIECE", 1000)  # many requests an object
    return MotoEnvironment("dev", "us-east-1")


def put(key: str, body: bytes) -> None:
    boto3.client("s3").put_object(Bucket="raw", Key=key, Body=body)


def read(what: str, env: MotoEnvironment) -> list[Any]:
    return [json.loads(item.body) for item in producer.open_source(what, environment=env)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_object_is_read_in_pieces(env: MotoEnvironment, pack: Any) -> None:
    put("logs/a.jsonl", pack(b"\n".join(json.dumps(event).encode() for event in EVENTS)))
    source = producer.open_source("s3://raw/logs/a.jsonl", environment=env)
    assert [json.loads(item.body) for item in source] == EVENTS
    assert source.fraction == 1.0
    assert source.identity[0][0][0] == "s3://raw/logs/a.jsonl"


def test_a_prefix_and_a_pattern(env: MotoEnvironment) -> None:
    put("logs/", b"")
    put("logs/b.json", b'[{"n": 2}]')
    put("logs/a/a.jsonl", b'{"n": 1}')
    put("logs-other/c.jsonl", b'{"n": 3}')
    assert read("s3://raw/logs/", env) == [{"n": 1}, {"n": 2}]
    assert read("s3://raw/logs*.jsonl", env) == [{"n": 3}, {"n": 1}]
    found = producer.open_source("s3://raw/logs/", environment=env)
    assert [item.where for item in found] == ["s3://raw/logs/a/a.jsonl line 1", "s3://raw/logs/b.json element 1"]


def test_parquet_is_read_at_any_place(env: MotoEnvironment) -> None:
    file = io.BytesIO()
    names = {name: [name] * 3 for name in ("source", "event_type", "entity_id")}
    pq.write_table(pa.table({**names, "event_time": ["2026-11-20T10:00:00Z"] * 3, "payload": ["{}"] * 3}), file)
    put("a.parquet", file.getvalue())
    assert len(read("s3://raw/a.parquet", env)) == 3


def test_what_is_not_there_or_changes_meanwhile_is_said(env: MotoEnvironment) -> None:
    with pytest.raises(UsageError, match="no such object"):
        read("s3://raw/nothing.jsonl", env)
    with pytest.raises(UsageError, match="no environment is named"):
        producer.open_source("s3://raw/nothing.jsonl")
    put("a.jsonl", b'{"n": 1}\n' * 20_000)
    items = iter(producer.open_source("s3://raw/a.jsonl", environment=env))
    next(items)
    put("a.jsonl", b'{"n": 2}\n' * 20_000)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        list(items)


def test_the_rollouts_parameter_takes_an_address() -> None:
    assert Parameter(type="events").parse("events", "s3://raw/a.jsonl") == "s3://raw/a.jsonl"
