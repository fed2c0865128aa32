"""What an operator's commands get: a connected environment whose calls, threads, files and clocks are the history's."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError, ReadTimeoutError

from pik import project
from pik.aws import batch, event_source_mapping, objects, queue_peek, reading, retry
from pik.aws.connection import Connection
from pik.aws.exchange import Exchange
from pik.aws.objects import Listed, Object
from pik.environments import as_aws_error
from pik.pipeline import parts
from pik.replays import following, manifest, outstanding, planning, running, sending
from pik.replays import reading as replays_reading
from pik.rollout.deploy import rollback
from pik.rollout.plan import prediction, records
from pik.workbench import messages
from pik.workbench.consistency import reconcile, reindex, snapshot
from tests.sim.client import Client
from tests.stores import SETTINGS

if TYPE_CHECKING:
    from tests.sim.scheduler import Scheduler
    from tests.sim.world import World

T = TypeVar("T")
ATTEMPTS = 8  # of a call: pik.aws.reading.ATTEMPTS
OUTPUTS = {
    "RawBucket": SETTINGS.raw_bucket,
    "EventsTable": SETTINGS.events_table,
    "DedupeTable": SETTINGS.dedupe_table,
    "AggregatesTable": SETTINGS.aggregates_table,
    "ReplaysTable": SETTINGS.replays_table,
    "QueueUrl": SETTINGS.queue_url,
    "QueueArn": "arn:x:queue",
    "ReplayUrl": "https://sim/replay",
    "DeadLetterQueueUrl": SETTINGS.dead_letter_queue_url,
    "ProcessorFunction": "processor",
    "Phase": "processor",
}
_FOLDER = Path(tempfile.mkdtemp(prefix="pik-sim-"))


class Where:
    """The environment: what the commands ask of :class:`pik.environments.Environment`."""

    name, stack, region, embedded, endpoint = "sim", "pik-sim", "us-east-1", False, None
    config = SimpleNamespace(protection="open")

    def __init__(self, world: World) -> None:
        self._clients: dict[str, Any] = {
            name: Client(name, backend, world.scheduler, world.faults, ATTEMPTS)
            for name, backend in (("s3", world.s3), ("dynamodb", world.dynamodb), ("sqs", world.sqs))
        }
        self._clients["lambda"] = Client("lambda", world.mapping, world.scheduler, world.faults, ATTEMPTS)
        parameters = [{"ParameterKey": "RetentionDays", "ParameterValue": str(SETTINGS.retention_days)}]
        self._clients["cloudformation"] = SimpleNamespace(
            describe_stacks=lambda StackName: {"Stacks": [{"Parameters": parameters}]}  # noqa: N803
        )
        self._clients["sts"] = SimpleNamespace(get_caller_identity=partial(_identity, world))

    def client(self, service: str, **_: Any) -> Any:
        """Return a service's client."""
        return self._clients[service]


class Objects:
    """The raw bucket: what the commands ask of :class:`pik.aws.objects.Objects`."""

    def __init__(self, world: World, client: Client) -> None:
        self._world, self._client = world, client

    def get(self, key: str) -> Object | None:
        """Return an object, or None when there is none."""
        try:
            found = self._asked(lambda: self._client.get_object(Bucket=SETTINGS.raw_bucket, Key=key))
        except ClientError:
            return None
        return Object(key, found["Body"].read(), found["ContentType"], found["Metadata"], "")

    def many(self, keys: Iterable[str], each: Callable[[str, Object | None], T]) -> Iterator[T]:
        """Yield ``each(key, object)`` for every key."""
        return objects.in_parallel(lambda key: each(key, self.get(key)), keys)

    def folders(self, prefix: str) -> tuple[list[str], list[Listed]]:
        """Return the folders just below a prefix, and the objects there."""
        found = self._listed(prefix, "/")
        return [one["Prefix"] for one in found["CommonPrefixes"]], _objects(found)

    def below(self, prefix: str) -> list[Listed]:
        """Return every object below a prefix."""
        return _objects(self._listed(prefix, ""))

    def _listed(self, prefix: str, delimiter: str) -> Any:
        return self._asked(
            lambda: self._client.list_objects_v2(Bucket=SETTINGS.raw_bucket, Prefix=prefix, Delimiter=delimiter)
        )

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (ClientError, ReadTimeoutError) as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"] == "NoSuchKey":
                raise
            raise as_aws_error(error) from error


def _identity(world: World) -> Any:
    """Who calls; the answer is dated by AWS's clock, whatever the operator's says."""
    dated = format_datetime(world.time(), usegmt=True)
    return {"Arn": "arn:x/operator", "ResponseMetadata": {"HTTPHeaders": {"date": dated}}}


def _asked(world: World, body: bytes) -> Exchange:
    """One request to the replay API, as :func:`pik.aws.exchange.tried` makes it."""
    ack = world.post("replay", body)
    return Exchange(body, ack.status, ack.answer) if ack else Exchange(body, 0, {"code": "no answer"})


def _objects(found: Any) -> list[Listed]:
    return [Listed(one["Key"], "", one["Size"]) for one in found["Contents"]]


def connection(world: World) -> Connection:
    """Return the connection that an operator's commands get."""
    where: Any = Where(world)
    found = Connection(where, "1", "processor", OUTPUTS)
    found.__dict__["objects"] = Objects(world, where.client("s3"))
    return found


class Pool:
    """Threads that are tasks of the history."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, work: Callable[..., T], *columns: Iterable[Any]) -> list[T]:
        """Return the results of all calls, made at once."""
        return self._scheduler.together([partial(work, *row) for row in zip(*columns, strict=False)])


def replaced(world: World) -> Iterator[tuple[Any, str, Any]]:
    """Yield what the commands find in place of threads, clocks and files: module, name, value."""

    class Now(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Now:
            return cls.fromisoformat(world.clock()).astimezone(tz or UTC)

    threaded = (batch, objects, reading, replays_reading, manifest, planning, running, prediction)
    for module in (*threaded, messages, reindex, snapshot):
        yield module, "ThreadPoolExecutor", lambda _=1: Pool(world.scheduler)
    for module in (outstanding, messages, records):
        yield module, "datetime", Now
    yield reindex, "now", world.clock
    seconds = lambda: world.scheduler.now  # noqa: E731
    yield queue_peek, "time", SimpleNamespace(time=seconds, monotonic=seconds)
    for module in (event_source_mapping, following, reconcile, retry, rollback, running, sending):
        yield module, "time", SimpleNamespace(monotonic=seconds, sleep=world.scheduler.pause)
    for module in (following, retry, sending):
        yield module, "random", world.chance
    for module in (following, sending):
        yield module, "tried", lambda _, __, body: _asked(world, body)
    yield manifest, "LINES", 4  # histories are small
    yield parts, "CHUNK", 3
    yield running, "new_replay_id", lambda: "rp-new"
    yield project, "STATE", _FOLDER / str(world.seed)


def forget(world: World) -> None:
    """Remove the files of a history."""
    shutil.rmtree(_FOLDER / str(world.seed), ignore_errors=True)
