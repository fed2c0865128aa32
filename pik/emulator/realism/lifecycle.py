"""S3 deletes what a bucket's lifecycle rules let expire."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from .dice import Tally
from .settings import RealismSettings

SWEEP_SECONDS = 60.0


class Lifecycle:
    """Deletes expired objects now and then, through S3's own API, so that a versioned bucket gets delete markers.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html#intro-lifecycle-rules-actions:
    an object expires at the midnight (UTC) that follows its age in days, and is removed some time after. Compressed
    time shortens the days. Rules for versions, tags and transitions are left alone. (What DynamoDB's time to live lets
    expire, the emulator deletes by itself, once a minute.)

    ``clients`` gives an S3 client for each account.
    """

    def __init__(self, settings: RealismSettings, tally: Tally, clients: Callable[[], Iterable[Any]]) -> None:
        self._settings, self._tally, self._clients = settings, tally, clients
        self.every = max(1.0, settings.seconds(SWEEP_SECONDS))
        self._busy = threading.Lock()

    def sweep(self, now: datetime) -> int:
        """Delete what has expired; return how many objects that were."""
        if not self._busy.acquire(blocking=False):
            return 0
        try:
            return sum(self._sweep_account(client, now) for client in self._clients())
        finally:
            self._busy.release()

    def _sweep_account(self, client: Any, now: datetime) -> int:
        deleted = 0
        for bucket in client.list_buckets().get("Buckets", []):
            for prefix, days in expirations(client, bucket["Name"]):
                for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"], Prefix=prefix):
                    for item in page.get("Contents", []):
                        if self._expires(item["LastModified"], days) <= now:
                            client.delete_object(Bucket=bucket["Name"], Key=item["Key"])
                            self._tally.struck("lifecycle")
                            deleted += 1
        return deleted

    def _expires(self, modified: datetime, days: int) -> datetime:
        if self._settings.compress > 1:
            return modified + timedelta(days=days) / self._settings.compress
        midnight = (modified + timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight + timedelta(days=1)


def expirations(client: Any, bucket: str) -> Iterator[tuple[str, int]]:
    """Yield (prefix, days) of each enabled rule that lets current objects expire by age alone."""
    try:
        rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    except client.exceptions.ClientError:
        return  # it has none
    for rule in rules:
        where = rule.get("Filter") or {}
        days = (rule.get("Expiration") or {}).get("Days")
        if rule.get("Status") == "Enabled" and days and not where.keys() - {"Prefix"}:
            yield where.get("Prefix") or rule.get("Prefix") or "", int(days)
