"""What the habits need of the emulator, and the only place that knows how ministack keeps it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from .arriving import Late
from .mappings import SlowInvocations
from .partition import PartitionHabit
from .reading_late import Counts


class World(Protocol):
    """The emulator as the habits see it."""

    def queue_counts(self) -> Mapping[str, Counts]:
        """The true numbers of messages by ``<account>/<queue>``: visible, not visible, delayed."""

    def table_keys(self, table: str) -> tuple[str, ...]:
        """The names of a table's key attributes; nothing when there is no such table."""

    def mappings(self) -> Mapping[str, dict[str, Any]]:
        """The live records of the event source mappings by UUID."""

    def apis(self) -> set[str]:
        """The ids of the REST APIs."""

    def s3_clients(self) -> Iterator[Any]:
        """An S3 client for the root of each account that has a bucket."""


class Ministack:
    """The emulator itself. Its modules are imported by now (see ``launcher.py``)."""

    def __init__(self, endpoint: str, region: str) -> None:
        from ministack.services import apigateway_v1, dynamodb, lambda_svc, s3, sqs

        self._endpoint, self._region = endpoint, region
        self._queues, self._tables, self._esms = sqs._queues, dynamodb._tables, lambda_svc._esms
        self._rest_apis, self._buckets = apigateway_v1._rest_apis, s3._buckets
        self._clients: dict[str, Any] = {}

    def queue_counts(self) -> Mapping[str, Counts]:
        """Count the messages of every queue."""
        now, counts = time.time(), {}
        for (account, *_), queue in list(self._queues.all_items()):
            messages = list(queue["messages"])
            visible = sum(message["visible_at"] <= now for message in messages)
            delayed = sum(message["visible_at"] > now and not message["receive_count"] for message in messages)
            counts[f"{account}/{queue['name']}"] = (visible, len(messages) - visible - delayed, delayed)
        return counts

    def table_keys(self, table: str) -> tuple[str, ...]:
        """Look the table up, in any account: the kit's tables are named after their environment."""
        for (*_, name), record in list(self._tables.all_items()):
            if name == table:
                return tuple(filter(None, (record.get("pk_name"), record.get("sk_name"))))
        return ()

    def mappings(self) -> Mapping[str, dict[str, Any]]:
        """Return the records that ministack's poller reads."""
        return {record["UUID"]: record for record in list(self._esms._data.values())}

    def apis(self) -> set[str]:
        """Return the ids of every account's APIs."""
        return {api for (*_, api), _ in list(self._rest_apis.all_items())}

    def s3_clients(self) -> Iterator[Any]:
        """Return clients of the root keys, which the emulator takes from any account's number."""
        import botocore.session

        for account in sorted({account for account, _ in list(self._buckets._data)}):
            if account not in self._clients:
                self._clients[account] = botocore.session.get_session().create_client(
                    "s3",
                    endpoint_url=self._endpoint,
                    region_name=self._region,
                    aws_access_key_id=account,
                    aws_secret_access_key=account,
                )
            yield self._clients[account]


class Connections:
    """The open connections of hypercorn, by their client's address, so that one can be cut."""

    def __init__(self) -> None:
        from hypercorn.asyncio import run

        transports: dict[tuple[str, int], Any] = {}
        self._transports = transports

        class Noted(run.TCPServer):  # type: ignore[misc]
            async def run(self) -> None:
                client = tuple(self.writer.get_extra_info("peername")[:2])
                transports[client] = self.writer.transport
                try:
                    await super().run()
                finally:
                    transports.pop(client, None)

        run.TCPServer = Noted

    def cut(self, scope: dict[str, Any]) -> None:
        """End the connection that a request came on, now: the client sees that it was reset."""
        transport = self._transports.get(tuple((scope.get("client") or ())[:2]))
        if transport is not None:
            transport.abort()


def delay_telemetry(telemetry: Any, metrics: Late | None, logs: Late | None) -> None:
    """Let data points and log lines arrive late."""
    if metrics:
        record, put_metric = telemetry.record, metrics.put

        def record_later(
            namespace: str,
            name: str,
            value: float,
            unit: str = "None",
            dimensions: Mapping[str, str] | None = None,
            timestamp: float | None = None,
        ) -> None:
            subject, at = f"{namespace} {name} {sorted((dimensions or {}).items())}", timestamp or time.time()
            put_metric(subject, lambda: record(namespace, name, value, unit, dimensions, at))

        telemetry.record = telemetry.cloudwatch.record_metric = record_later
    if logs:
        store, put_lines = telemetry._store_events, logs.put

        def store_later(stream: dict[str, Any], events: Any) -> None:
            put_lines(str(stream.get("arn") or stream.get("logStreamName")), lambda: store(stream, events))

        telemetry._store_events = store_later


def count_throttles(struck: Callable[[], None]) -> None:
    """Count the executions that the emulator refuses because too many run at once."""
    from ministack.services import lambda_svc

    note = lambda_svc._emit_lambda_metrics

    def note_and_count(function_name: str, duration_ms: float, error: bool, throttle: bool) -> None:
        if throttle and not duration_ms:
            struck()
        note(function_name, duration_ms, error, throttle)

    lambda_svc._emit_lambda_metrics = note_and_count


def delay_batches(slow: SlowInvocations) -> None:
    """Let some batches of a mapping be worked on later, their messages in flight."""
    from ministack.services import lambda_svc

    run = lambda_svc._run_sqs_batch

    def run_later(esm: dict[str, Any], *rest: Any) -> None:
        time.sleep(slow.seconds(esm["UUID"]))
        run(esm, *rest)

    lambda_svc._run_sqs_batch = run_later


def refuse_foreign(partition: PartitionHabit) -> None:
    """Let CloudFormation create and update no resource, and give no output, that names another partition."""
    from ministack.services.cloudformation import stacks

    provision, update, outputs = stacks._provision_resource, stacks._update_resource, stacks._resolve_stack_outputs

    def provision_checked(kind: str, logical_id: str, properties: Any, *rest: Any) -> Any:
        partition.check(properties)
        return provision(kind, logical_id, properties, *rest)

    def update_checked(kind: str, physical_id: str, old: Any, new: Any, *rest: Any) -> Any:
        partition.check(new)
        return update(kind, physical_id, old, new, *rest)

    def outputs_checked(*arguments: Any) -> Any:
        found = outputs(*arguments)
        partition.check(found)
        return found

    stacks._provision_resource, stacks._update_resource = provision_checked, update_checked
    stacks._resolve_stack_outputs = outputs_checked


def compress_second_tries(compress: float) -> None:
    """Let what is left of a batch's visibility timeout, once the batch is worked on, go by faster as well.

    What failed comes back when the queue's visibility timeout is over, minutes later on AWS:
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    from ministack.services import lambda_svc

    run = lambda_svc._run_sqs_batch

    def run_and_shorten(
        esm: dict[str, Any], function: Any, event: Any, batch: list[dict[str, Any]], *rest: Any
    ) -> None:
        run(esm, function, event, batch, *rest)
        now = time.time()
        for message in batch:  # those that worked are out of the queue
            if message["visible_at"] > now:
                message["visible_at"] = now + (message["visible_at"] - now) / compress

    lambda_svc._run_sqs_batch = run_and_shorten


def fail_resource(number: int, struck: Callable[[], None]) -> None:
    """Let the ``number``-th resource that CloudFormation creates from now on fail, once.

    What was created before it is deleted again, but for what says ``DeletionPolicy: Retain``, which stays behind
    without a stack (``RetainExceptOnCreate`` goes):
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-deletionpolicy.html
    """
    from ministack.services.cloudformation import stacks

    provision, seen = stacks._provision_resource, 0

    def provision_or_fail(kind: str, logical_id: str, *rest: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == number:
            struck()
            raise RuntimeError(
                f'Resource handler returned message: "Internal failure of {kind} (HandlerErrorCode: '
                f'ServiceInternalError)" for {logical_id}'
            )
        return provision(kind, logical_id, *rest)

    stacks._provision_resource = provision_or_fail
