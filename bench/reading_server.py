"""A stand-in for S3 and DynamoDB that only hands out prepared answers, so that the client is what is measured.

``python -m bench.reading_server ROWS OBJECTS`` prints its port, then serves until its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from boto3.dynamodb.types import TypeSerializer

from pik import events
from pik.events import Event
from pik.pipeline.rows import Arrival, first_rows

PAGE_BYTES = 1_000_000  # what DynamoDB puts into one answer
_serialize = TypeSerializer().serialize


def make(number: int) -> tuple[Event, Arrival, bytes]:
    """Return the event, arrival and bytes of one made-up flight."""
    moment = f"2013-01-01T{number % 24:02d}:{number // 24 % 60:02d}:00.{number % 1_000_000:06d}Z"
    payload = {"flight": str(number), "origin": "EWR", "dest": "IAH", "distance_miles": 1400, "delay_min": number % 97}
    names = ("UA", "flight.departed", f"N{number % 4000:05d}")
    body = json.dumps(
        dict(zip(("source", "event_type", "entity_id"), names, strict=True))
        | {"event_time": moment, "payload": payload}
    ).encode()
    arrival = Arrival.of(
        body,
        {"x-request-id": f"client-{number:032d}"},
        ingest_time="2026-01-01T00:00:00.000000Z",
        request_id=f"gateway-{number:028d}",
        producer="arn:aws:iam::111122223333:role/producer",
    )
    return Event(*names, moment, moment, payload), arrival, body


def pages(rows: int) -> list[list[bytes]]:
    """Return the items of a table, in pages."""
    found: list[list[bytes]] = [[]]
    size = 0
    for number in range(rows):
        event, arrival, _ = make(number)
        item = json.dumps({k: _serialize(v) for k, v in first_rows(event, arrival, 3650)[1].items()}).encode()
        if size + len(item) > PAGE_BYTES:
            found.append([])
            size = 0
        found[-1].append(item)
        size += len(item)
    return found


def objects(count: int) -> dict[bytes, bytes]:
    """Return the answers to a GET of each raw object, by key."""
    found = {}
    for number in range(count):
        event, arrival, body = make(number)
        about = "".join(f"x-amz-meta-{k}: {v}\r\n" for k, v in arrival.to_metadata().items())
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nContent-Type: application/json\r\n"
            f'ETag: "{arrival.body_sha256[:32]}"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n{about}\r\n'
        )
        found[events.raw_key(event).encode()] = head.encode() + body
    return found


class Table:
    """Answers Scan: the same pages whether read by one reader or in segments."""

    def __init__(self, content: list[list[bytes]]) -> None:
        self.bodies = [b",".join(items) for items in content]
        self.counts = [len(items) for items in content]

    def answer(self, request: dict[str, Any]) -> bytes:
        """Return one page as an HTTP answer."""
        segment, of = request.get("Segment", 0), request.get("TotalSegments", 1)
        first, last = (len(self.bodies) * n // of for n in (segment, segment + 1))
        if start := request.get("ExclusiveStartKey"):
            first = int(start["PK"]["S"])
        more = b""
        if first + 1 < last:
            more = b',"LastEvaluatedKey":{"PK":{"S":"%d"},"SK":{"S":"s"}}' % (first + 1)
        there = first < last
        count, items = (self.counts[first], self.bodies[first]) if there else (0, b"")
        body = b'{"Items":[%s],"Count":%d,"ScannedCount":%d,' % (items, count, count)
        body += b'"ConsumedCapacity":{"CapacityUnits":128.0,"TableName":"events"}%s}' % more
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
        return head + body


class Server(asyncio.Protocol):
    """As little HTTP as boto3 and obstore need."""

    table: Table
    objects: dict[bytes, bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end]
            length = 0
            if (at := head.lower().find(b"content-length:")) >= 0:
                length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self.received) < end + 4 + length:
                return
            body, self.received = self.received[end + 4 : end + 4 + length], self.received[end + 4 + length :]
            self.transport.write(self.answer(head, body))

    def answer(self, head: bytes, body: bytes) -> bytes:
        """Return the answer to one request."""
        if head.startswith(b"POST"):
            return self.table.answer(json.loads(body))
        key = head.split(b" ", 2)[1].split(b"?", 1)[0].split(b"/", 2)[2].replace(b"%3D", b"=")
        return self.objects.get(key, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


async def serve(rows: int, count: int) -> None:
    """Serve until standard input is closed."""
    Server.table, Server.objects = Table(pages(rows)), objects(count)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
