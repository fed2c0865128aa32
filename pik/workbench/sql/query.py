"""``wb.sql(query)``: SQL over the raw objects, table ``raw``, on DuckDB here or on Athena. Reads only.

=============================  ====================================================================================
column                         meaning
=============================  ====================================================================================
``source``, ``event_type``     names, from the key; decoded on DuckDB, percent-encoded on Athena (``a%2Fb``)
``event_date``, ``hour``       day (``YYYY-MM-DD``, text) and hour (integer) of the event, from the key
``body``                       the bytes received, as text, JSON or not; on Athena a line of them
``"$path"``                    ``s3://…``, where the object is
``event_id``, ``entity_id``,   DuckDB only: what the body says, whichever format it came in; ``event_time`` is a time,
``event_time``, ``payload``    ``payload`` JSON text
=============================  ====================================================================================

The same SQL runs on both as long as it keeps to the first four rows and to functions both have; ``json_extract_scalar``
is one. Conditions on the columns from the key decide what is read at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import pyarrow as pa

from pik import frames, units
from pik.errors import UsageError
from pik.text import named
from pik.workbench.sql import athena, layout
from pik.workbench.sql.cache import Cache
from pik.workbench.sql.layout import Part

if TYPE_CHECKING:
    from pik.aws.connection import Connection

ENGINES = ("duckdb", "athena")
MAX_BYTES = {"duckdb": 1 << 30, "athena": 10 << 30}
COLUMNS = "body, source, event_type, event_date, hour, event_id, entity_id, event_time, payload"
Say = Callable[[str], None]
_READS = re.compile(r"[\s(]*(select|with)\b", re.IGNORECASE)


def sql(
    aws: Connection,
    query: str,
    *,
    engine: str = "duckdb",
    max_bytes: int | None = None,
    progress: Say | None = print,
) -> pd.DataFrame:
    """Run one SELECT (or WITH … SELECT) over the table ``raw`` and return its rows.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.sql`.
    """
    if engine not in ENGINES:
        raise UsageError(f"no such engine: {named(engine)}", next_step=f"one of {', '.join(ENGINES)}")
    say = progress or _silent
    limit = MAX_BYTES[engine] if max_bytes is None else max_bytes
    only_reads(query, engine)
    if engine == "athena":
        return athena.run(aws, query, limit, say)
    return _duckdb(aws, query, limit, say)


def only_reads(query: str, engine: str = "duckdb") -> None:
    """Raise UsageError unless ``query`` is one SELECT."""
    do_this = "one SELECT, or WITH … SELECT, without a semicolon"
    if engine == "athena":  # it takes one statement, and nothing but a SELECT can follow a WITH
        if not _READS.match(query):
            raise UsageError("not a query that only reads", next_step=do_this)
        return
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise _wrong(error) from None
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise UsageError("not one query that only reads", next_step=do_this)


def _duckdb(aws: Connection, query: str, limit: int, say: Say) -> pd.DataFrame:
    objects, cache = aws.objects, Cache(aws.environment, aws.outputs["RawBucket"])
    _bind(query, cache, aws.outputs["RawBucket"])
    wanted = layout.parts(objects, layout.conditions(query))
    missing = cache.missing(wanted)
    size, to_fetch = _size(wanted), _size(missing)
    say(f"{len(wanted):,} objects, {units.size(size)}; to fetch: {len(missing):,}, {units.size(to_fetch)}")
    if to_fetch > limit:
        raise layout.too_much(to_fetch, limit, "fetch")
    cache.fetch(objects, missing, say)
    attrs = {"engine": "duckdb", "objects": len(wanted), "bytes": size, "fetched_bytes": to_fetch}
    with _sandbox(cache, wanted, aws.outputs["RawBucket"]) as engine:
        try:
            return frames.to_pandas(_plain(engine.sql(query).to_arrow_table()), **attrs)
        except duckdb.Error as error:
            raise _wrong(error) from None


def _bind(query: str, cache: Cache, bucket: str) -> None:
    """Raise UsageError for what is wrong with a query, found on an empty table before anything is listed or fetched."""
    with _sandbox(cache, [], bucket, files=()) as engine:
        try:
            engine.execute(f"EXPLAIN {query}")
        except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
            raise _wrong(error) from None
        except duckdb.Error:
            return  # something that only the rows can tell


def _size(parts: list[Part]) -> int:
    return sum(part.listed.size for part in parts)


def _sandbox(
    cache: Cache, wanted: list[Part], bucket: str, files: Sequence[Path] | None = None
) -> duckdb.DuckDBPyConnection:
    """Return an engine that holds the table ``raw``, reads the cache (or ``files`` of it), and can do nothing else."""
    engine = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",  # no Python variable becomes a table
        }
    )
    folder = _quoted(str(cache.folder))
    engine.execute(f"SET TimeZone = 'UTC'; SET allowed_directories = [{folder}]")
    engine.register("listed", _listed(wanted, bucket))
    engine.execute("CREATE TEMP TABLE wanted AS SELECT * FROM listed")
    engine.unregister("listed")
    # NULL of what is no JSON (a CloudEvent's text or bytes), as on Athena; DuckDB's own function ends the query there.
    scalar = "CASE WHEN json_valid(value) THEN json_extract_string(value, path) END"
    engine.execute(f"CREATE MACRO json_extract_scalar(value, path) AS {scalar}")
    kept = _files([str(file) for file in (cache.files if files is None else files)])
    view = f'SELECT {COLUMNS}, path AS "$path" FROM {kept} JOIN wanted USING (key, etag)'  # noqa: S608 - our own files
    engine.execute(f"CREATE TEMP VIEW raw AS {view}")
    engine.execute("SET enable_external_access = false; SET lock_configuration = true")
    return engine


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _files(files: list[str]) -> str:
    if not files:
        return (
            "(SELECT NULL::VARCHAR key, NULL::VARCHAR etag, NULL::VARCHAR body, NULL::VARCHAR event_id,"
            " NULL::VARCHAR entity_id, NULL::TIMESTAMPTZ event_time, NULL::VARCHAR payload WHERE false)"
        )
    return f"read_parquet([{', '.join(map(_quoted, files))}])"


def _listed(wanted: list[Part], bucket: str) -> pa.Table:
    columns = {
        "key": [part.listed.key for part in wanted],
        "etag": [part.listed.etag for part in wanted],
        "path": [f"s3://{bucket}/{part.listed.key}" for part in wanted],
        **{name: [getattr(part, name) for part in wanted] for name in ("source", "event_type", "event_date")},
    }
    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    return pa.table({**arrays, "hour": pa.array([part.hour for part in wanted], pa.int32())})


def _plain(table: pa.Table) -> pa.Table:
    """Return a table with the types that the workbench's frames have: whole numbers int64, times UTC microseconds."""
    for position, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_timestamp(kind) and kind.tz:
            kind = frames.TIME
        elif pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0):  # the sum of integers
            kind = pa.int64()
        if kind != field.type:
            try:
                column = table.column(position).cast(kind)
            except pa.ArrowInvalid:
                continue  # too long a number
            table = table.set_column(position, field.name, column)
    return table


def _wrong(error: duckdb.Error) -> UsageError:
    return UsageError(
        "DuckDB does not accept the query",
        reason=str(error),
        next_step=f"columns of raw: {COLUMNS}",
    )


def _silent(_: str) -> None:
    """Say nothing."""
