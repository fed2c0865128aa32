"""SQL over the raw objects on Athena: the table and the workgroup of the stack, what it reads said before."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from pik import frames, units
from pik.aws.stack import aws_errors
from pik.errors import AwsError, UsageError
from pik.workbench.sql import layout
from pik.workbench.sql.layout import Conditions, Part

if TYPE_CHECKING:
    from pik.aws.connection import Connection

# https://aws.amazon.com/athena/pricing/ (us-east-1): by the terabyte read, at least 10 MB for each query.
DOLLARS_PER_TB = 5.0
LEAST_BILLED = 10_000_000
DAYS = ("1970-01-01", "2083-12-31")  # of the table: template.yaml, projection.event_date.range
_POLL = (0.1, 2.0)  # seconds between two looks, growing
_KINDS = {
    **dict.fromkeys(("tinyint", "smallint", "integer", "int", "bigint"), pa.int64()),
    **dict.fromkeys(("float", "real", "double", "decimal"), pa.float64()),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}


def run(aws: Connection, query: str, limit: int, say: Callable[[str], None]) -> pd.DataFrame:
    """Run a query that only reads, after saying what it reads; see :func:`pik.workbench.sql.query.sql`."""
    if "QueryWorkGroup" not in aws.outputs:
        raise AwsError(
            f"{aws.environment.name}: the stack has no workgroup for Athena",
            reason="it was deployed with a template that has none",
            next_step=f"pik deploy --env {aws.environment.name}\nor engine='duckdb'",
        )
    wanted = layout.conditions(query)
    _demand_names(wanted)
    _demand_dates(wanted)
    parts = layout.parts(aws.objects, wanted, decode=False)
    _refuse_dates_beyond(parts)
    size = sum(part.listed.size for part in parts)
    price = max(size, LEAST_BILLED) / 1e12 * DOLLARS_PER_TB
    most = "" if wanted.parsed else "at most "
    cost = f"about ${price:,.5f} at ${DOLLARS_PER_TB:g} per TB"
    say(f"Athena reads {most}{len(parts):,} objects, {units.size(size)}: {cost}")
    if size > limit:
        raise layout.too_much(size, limit, "read")
    with aws_errors(aws.environment, "ask Athena"):
        return _ask(aws, query, parts, size)


def _demand_names(wanted: Conditions) -> None:
    """Partition projection finds the objects of names that the query gives; Athena refuses others, less clearly."""
    for given in wanted.named:
        if lacking := [name for name in ("source", "event_type") if name not in given]:
            raise UsageError(
                f"on Athena the query must say which {lacking[0]} it is about",
                reason="Athena works the partitions out from the query; there is no list of names",
                next_step=f"WHERE {lacking[0]} = '…' or {lacking[0]} IN ('…', …); or engine='duckdb'",
            )


def _refuse_dates_beyond(parts: list[Part]) -> None:
    """Athena finds nothing outside the days of its table, and says nothing: a clock can be wrong by centuries."""
    beyond = sorted(part.event_date for part in parts if not DAYS[0] <= part.event_date <= DAYS[1])
    if beyond:
        raise UsageError(
            f"{len(beyond):,} objects are dated outside {DAYS[0]} to {DAYS[1]}, where Athena's table ends",
            reason=f"the first is dated {beyond[0]}, the last {beyond[-1]}",
            next_step="engine='duckdb' reads them; or restrict event_date to the days of the table",
        )


def _demand_dates(wanted: Conditions) -> None:
    """Without a date Athena looks into every hour of a century, which is more partitions than it takes (a million)."""
    for read in wanted.reads:
        if not any(columns == {"event_date"} for columns, _ in read):
            raise UsageError(
                "on Athena the query must say which days it is about",
                reason="Athena works the partitions out from the query: without a date, every hour from 1970 to 2083",
                next_step="WHERE event_date = '2013-01-01', or BETWEEN '2013-01-01' AND '2013-01-31'",
            )


def _ask(aws: Connection, query: str, parts: list[Part], size: int) -> pd.DataFrame:
    client = aws.environment.client("athena")
    query_id = client.start_query_execution(
        QueryString=query,
        QueryExecutionContext={"Database": aws.outputs["QueryDatabase"]},
        WorkGroup=aws.outputs["QueryWorkGroup"],
    )["QueryExecutionId"]
    execution = _finished(client, query_id)
    status = execution["Status"]
    if status["State"] != "SUCCEEDED":
        raise UsageError(
            f"Athena {status['State'].lower()} the query",
            reason=status.get("StateChangeReason", ""),
            next_step="correct it; columns: body, source, event_type, event_date, hour",
        )
    scanned = execution.get("Statistics", {}).get("DataScannedInBytes", 0)
    attrs = {"engine": "athena", "objects": len(parts), "bytes": size, "scanned_bytes": scanned, "query_id": query_id}
    return frames.to_pandas(_table(client, query_id), **attrs)


def _finished(client: Any, query_id: str) -> dict[str, Any]:
    """Wait until a query ends. When the wait is interrupted (Ctrl-C), stop the query: otherwise it would go on,
    billed."""
    pause, longest = _POLL
    try:
        while True:
            execution: dict[str, Any] = client.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]
            if execution["Status"]["State"] in {"SUCCEEDED", "FAILED", "CANCELLED"}:
                return execution
            time.sleep(pause)
            pause = min(longest, pause * 1.5)
    except BaseException:
        with suppress(Exception):  # what ended the waiting is what has to be told
            client.stop_query_execution(QueryExecutionId=query_id)
        raise


def _table(client: Any, query_id: str) -> pa.Table:
    rows: list[list[str | None]] = []
    columns: list[dict[str, Any]] = []
    for page in client.get_paginator("get_query_results").paginate(QueryExecutionId=query_id):
        found = page["ResultSet"]
        columns = columns or found["ResultSetMetadata"]["ColumnInfo"]
        rows += [[cell.get("VarCharValue") for cell in row["Data"]] for row in found["Rows"]]
    values = list(zip(*rows[1:], strict=True)) or [()] * len(columns)  # the first row repeats the names
    arrays = [_column(column["Type"], list(cells)) for column, cells in zip(columns, values, strict=True)]
    return pa.Table.from_arrays(arrays, names=[column["Name"] for column in columns])


def _column(kind: str, cells: list[str | None]) -> pa.Array:
    text = pa.array(cells, pa.string())
    try:
        return text.cast(_KINDS.get(kind, pa.string()))
    except pa.ArrowInvalid:
        return text
