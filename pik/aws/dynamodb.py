"""DynamoDB to Arrow columns: botocore signs, sends and retries; what comes back is read by Arrow, many at a time.

botocore's parser and boto3's TypeDeserializer build a dict, several strings and a Decimal for every value. A page of a
megabyte costs them half a second of one core; Arrow reads the same bytes into columns outside the interpreter lock, so
pages are parsed in parallel too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.json as arrow_json

from pik.environments import Environment
from pik.errors import Refused

PARALLEL = 16
Progress = Callable[[str], None]
Request = tuple[str, dict[str, Any]]  # operation, such as "query", and its arguments
_BODY = "pik_body"


@dataclass
class Consumed:
    """What reading cost: requests, rows that came back, read capacity units."""

    requests: int = 0
    rows: int = 0
    capacity: float = 0.0
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def add(self, rows: int, capacity: float) -> None:
        """Count one answer."""
        with self._lock:
            self.requests += 1
            self.rows += rows
            self.capacity += capacity


@dataclass(frozen=True)
class Page:
    """One answer: its rows as an Arrow table of the columns asked for, and where the next one begins."""

    rows: pa.Table
    last_key: dict[str, Any] | None
    capacity: float


class Reader:
    """Reads items of one table as columns.

    ``columns`` names the attributes to keep and their DynamoDB types (``S``, ``N`` or ``BOOL``); others are not asked
    for. ``limit``: how many rows may come back.
    """

    def __init__(self, environment: Environment, columns: Mapping[str, str], limit: int | None = None) -> None:
        self.columns = dict(columns)
        self.limit = limit
        names = {f"#{number}": name for number, name in enumerate(self.columns)}
        self._projection = {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
        self.consumed = Consumed()
        # Its own client: the hook below must not change the answers of anybody else's.
        self._client = environment.client(
            "dynamodb", max_pool_connections=PARALLEL, user_agent_extra="pik-columns", tcp_keepalive=True
        )
        self._client.meta.events.register("before-parse.dynamodb", _keep_body, unique_id="pik-keep-body")
        self._item = pa.struct([(name, pa.struct([(kind, _ARROW[kind])])) for name, kind in self.columns.items()])

    def read(self, requests: Sequence[Request], progress: Progress | None = None) -> pa.Table:
        """Send requests (``query``, ``scan``) in parallel, each to its last page, and return all rows as one table.

        Raises:
            Refused: more than ``limit`` rows come back; reading stops there.
        """
        tables = list(self._pages(requests, progress))
        return pa.concat_tables(tables) if tables else self._empty()

    def _pages(self, requests: Sequence[Request], progress: Progress | None) -> Iterator[pa.Table]:
        with ThreadPoolExecutor(min(PARALLEL, max(1, len(requests)))) as pool:
            running: dict[Future[Page], Request] = {pool.submit(self._page, *r): r for r in requests}
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    operation, arguments = running.pop(future)
                    page = future.result()
                    if page.last_key:
                        following = (operation, {**arguments, "ExclusiveStartKey": page.last_key})
                        running[pool.submit(self._page, *following)] = following
                    yield page.rows
                if self.limit is not None and self.consumed.rows > self.limit:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise Refused(
                        f"more than {self.limit:,} rows answer this",
                        reason="they would not fit into memory, or take long",
                        next_step=f"a shorter window, fewer columns=, or limit={10 * self.limit:_}",
                    )
                if progress:
                    seen = self.consumed
                    progress(f"{seen.rows:,} rows, {seen.requests:,} pages, {seen.capacity:,.1f} capacity units")

    def _page(self, operation: str, arguments: dict[str, Any]) -> Page:
        answer = getattr(self._client, operation)(ReturnConsumedCapacity="TOTAL", **self._projection, **arguments)
        page = self._parse(answer[_BODY])
        self.consumed.add(page.rows.num_rows, page.capacity)
        return page

    def _parse(self, body: bytes) -> Page:
        schema = pa.schema(
            [
                ("Items", pa.list_(self._item)),
                ("LastEvaluatedKey", pa.struct([(name, pa.struct([("S", pa.string())])) for name in _KEYS])),
                ("ConsumedCapacity", pa.struct([("CapacityUnits", pa.float64())])),
            ]
        )
        (answer,) = _read_json(body, schema).to_batches() or [None]
        if answer is None:
            return Page(self._empty(), None, 0.0)
        last = answer.column("LastEvaluatedKey")[0].as_py()
        capacity = answer.column("ConsumedCapacity")[0].as_py()
        items = answer.column("Items").flatten()
        return Page(
            self._columns(items),
            {name: value for name, value in last.items() if value} if last else None,
            (capacity or {}).get("CapacityUnits") or 0.0,
        )

    def _columns(self, items: pa.StructArray) -> pa.Table:
        arrays = [_unwrap(items.field(name), items, kind) for name, kind in self.columns.items()]
        return pa.Table.from_arrays(arrays, names=list(self.columns))

    def _empty(self) -> pa.Table:
        kinds = [(name, _COLUMN[kind]) for name, kind in self.columns.items()]
        return pa.schema(kinds).empty_table()


_KEYS = ("PK", "SK", "GSI1PK", "GSI1SK", "GSI2PK", "GSI2SK", "event_id")
_ARROW = {"S": pa.string(), "N": pa.string(), "BOOL": pa.bool_()}  # DynamoDB writes numbers as text
_COLUMN = {"S": pa.string(), "N": pa.int64(), "BOOL": pa.bool_()}


def _read_json(body: bytes, schema: pa.Schema) -> pa.Table:
    return arrow_json.read_json(
        pa.BufferReader(body),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(body) + 1),
        parse_options=arrow_json.ParseOptions(
            explicit_schema=schema, newlines_in_values=True, unexpected_field_behavior="ignore"
        ),
    )


def _unwrap(values: pa.StructArray, items: pa.StructArray, kind: str) -> pa.Array:
    (inner,) = values.flatten()  # null where the attribute is not there
    assert len(inner) == len(items)  # noqa: S101 - flatten keeps the length of a struct
    return inner.cast(pa.int64()) if kind == "N" else inner


def _keep_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Take a good answer's bytes away before botocore parses them; errors are left for it."""
    if response_dict["status_code"] == 200:
        customized_response_dict[_BODY] = response_dict["body"]
        response_dict["body"] = b"{}"
