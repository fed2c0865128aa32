"""A ledger to test with: chains made in memory, and an environment whose evidence bucket is in moto."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from pik.aws import guard, objects
from pik.aws.objects import Object
from pik.aws.stack import Stack
from pik.config import EnvironmentConfig
from pik.environments import Environment
from pik.events import format_time
from pik.ledger import Kind, subjects
from pik.ledger.entry import FIRST, Entry
from pik.ledger.problems import LedgerPlace, StoredRecord
from pik.ledger.statement import statement

ACCOUNT, CALLER = "111122223333", "arn:aws:iam::111122223333:user/ana"
PLACE = LedgerPlace("dev", "pik-dev", ACCOUNT)
BUCKET = "evidence"
START = datetime(2026, 11, 23, 8, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ABOUT = subjects(template="1" * 64, code="2" * 64, parameters="3" * 64, commit="4" * 40)


def entry(number: int, previous: str = FIRST, kind: Kind = Kind.DEPLOY, **predicate: Any) -> Entry:
    """Return an entry, properly hashed, a minute after the one of the number before."""
    made = Entry(
        number=number,
        time=format_time(START + number * MINUTE),
        kind=kind,
        environment=PLACE.environment,
        stack=PLACE.stack,
        account=PLACE.account,
        by=CALLER,
        user="ana",
        host="desk",
        previous=previous,
        statement=statement(kind, ABOUT, {"sentence": f"number {number}", "phase": "replay", **predicate}),
    )
    return hashed(made)


def hashed(made: Entry) -> Entry:
    """Return an entry with the hash of its content, as whoever writes it anew would."""
    return replace(made, hash=made.computed_hash())


def chain(length: int) -> list[Entry]:
    """Return entries, each chained to the one before."""
    found: list[Entry] = []
    for number in range(1, length + 1):
        kind = list(Kind)[number % len(Kind)]
        found.append(entry(number, found[-1].hash if found else FIRST, kind, verdict="passed", checks=[{"n": number}]))
    return found


def stored(entries: Iterable[Entry]) -> list[StoredRecord]:
    """Return entries as they lie in the bucket."""
    return [StoredRecord(made.number, made.to_bytes(), START + made.number * MINUTE) for made in entries]


class MotoObjects:
    """Reads objects as :class:`pik.aws.objects.Objects` does, through boto3, which moto answers."""

    def __init__(self, environment: Environment, bucket: str) -> None:
        self.client, self.bucket = environment.client("s3"), bucket

    def get(self, key: str) -> Object | None:
        try:
            body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None
        return Object(key, body, "", {}, "")

    def many(self, keys: Iterable[str], each: Any) -> Any:
        return [each(key, self.get(key)) for key in keys]


def environment(patch: pytest.MonkeyPatch, **outputs: str) -> Environment:
    """Return an environment in moto (which must be active); ``outputs`` are its stack's."""
    for name, value in {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}.items():
        patch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        patch.delenv(name, raising=False)
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    stack = Stack(PLACE.stack, "UPDATE_COMPLETE", "", START, outputs=outputs or {"EvidenceBucket": BUCKET})
    patch.setattr(guard, "guard", lambda env, url="": guard.Place(ACCOUNT, CALLER, stack))
    patch.setattr(objects, "Objects", MotoObjects)
    return Environment("dev", "us-east-1", config=EnvironmentConfig(stack=PLACE.stack))
