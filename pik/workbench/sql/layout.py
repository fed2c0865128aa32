"""Which raw objects a query can be about: its conditions on the key's parts, applied folder by folder.

DuckDB itself parses the query and evaluates the conditions, so whatever it understands (``IN``, ``BETWEEN``, ``LIKE``,
functions) prunes; what cannot be told from a key alone does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

import duckdb

from pik import units
from pik.aws.objects import Listed, Objects, in_parallel
from pik.errors import Refused
from pik.events import encode

Folder = tuple[str, tuple[str, ...]]  # its path, and what each part of it says
LEVELS = ("source", "event_type", "event_date", "hour")
_VOLATILE = ("random", "uuid", "gen_random_uuid", "nextval")


class Part(NamedTuple):
    """A raw object and what its key says of it."""

    listed: Listed
    source: str
    event_type: str
    event_date: str
    hour: int


@dataclass
class Conditions:
    """What a query demands of the parts of a key.

    ``reads``: for each place that reads the table, its conditions as (columns, SQL). ``named``: for each place, the
    columns that are compared with given values (``=`` or ``IN``). ``parsed`` is False when the query is not DuckDB's
    SQL; then nothing is known and everything may be read.
    """

    parsed: bool = True
    reads: list[list[tuple[frozenset[str], str]]] = field(default_factory=list)
    named: list[set[str]] = field(default_factory=list)

    def where(self, known: Sequence[str]) -> str:
        """Return SQL that is true for what may be read, as far as the ``known`` columns tell."""
        alternatives = [
            " AND ".join(f"({sql})" for columns, sql in read if columns <= set(known)) or "true" for read in self.reads
        ]
        return " OR ".join(f"({alternative})" for alternative in alternatives) or "true"


def conditions(query: str) -> Conditions:
    """Return what ``query`` demands of the keys of table ``raw``."""
    with duckdb.connect() as parser:
        tree = json.loads(_one(parser, "SELECT json_serialize_sql(?)", query))
        if tree["error"]:
            return Conditions(parsed=False)
        found = Conditions()
        for node in _nodes(tree):
            for alias in _readings(node.get("from_table")):
                read = list(_conjuncts(parser, node, alias)) if alias else []
                found.reads.append([(columns, sql) for columns, sql, _ in read])
                found.named.append({name for columns, _, given in read if given for name in columns})
        return found


def _one(connection: duckdb.DuckDBPyConnection, sql: str, argument: str) -> str:
    row = connection.execute(sql, [argument]).fetchone()
    return str(row[0]) if row else ""


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every SELECT of a parsed query, subqueries and CTEs included."""
    if isinstance(value, dict):
        if value.get("type") == "SELECT_NODE":
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)


def _readings(table: Any) -> Iterator[str]:
    """For each time ``raw`` is read here: the name it goes by, or "" where conditions cannot be told to be its own."""
    if not isinstance(table, dict):
        return
    if table.get("type") == "BASE_TABLE" and table["table_name"].lower() == "raw":
        yield "" if table["column_name_alias"] else (table["alias"] or "raw").lower()
    elif table.get("type") == "JOIN":
        for side in ("left", "right"):
            yield from ("" for _ in _readings(table.get(side)))


def _conjuncts(
    parser: duckdb.DuckDBPyConnection, node: dict[str, Any], alias: str
) -> Iterator[tuple[frozenset[str], str, bool]]:
    where = node["where_clause"]
    parts = where["children"] if where and where["type"] == "CONJUNCTION_AND" else [where] if where else []
    for part in parts:
        columns = _columns(part, alias)
        if columns and columns <= set(LEVELS):
            yield columns, _sql(parser, part), len(columns) == 1 and _is_given(part)


def _columns(expression: Any, alias: str) -> frozenset[str]:
    """Columns of ``raw`` that an expression is about; with a "?" among them when it is about something else as well."""
    if isinstance(expression, list):
        return frozenset().union(*(_columns(inner, alias) for inner in expression))
    if not isinstance(expression, dict):
        return frozenset()
    kind = expression.get("class")
    if kind == "COLUMN_REF":
        *qualifier, name = (part.lower() for part in expression["column_names"])
        expression["column_names"] = [name]
        return frozenset([name if qualifier in ([], [alias]) else "?"])
    if kind in {"SUBQUERY", "PARAMETER", "WINDOW", "LAMBDA"}:
        return frozenset("?")
    if kind == "FUNCTION" and expression["function_name"].lower() in _VOLATILE:
        return frozenset("?")
    return _columns(list(expression.values()), alias)


def _is_given(part: dict[str, Any]) -> bool:
    if part["type"] == "COMPARE_EQUAL":
        kinds = {part["left"]["class"], part["right"]["class"]}
        return kinds == {"COLUMN_REF", "CONSTANT"}
    if part["type"] == "COMPARE_IN":
        first, *values = part["children"]
        return first["class"] == "COLUMN_REF" and {value["class"] for value in values} == {"CONSTANT"}
    return False


def _sql(parser: duckdb.DuckDBPyConnection, expression: dict[str, Any]) -> str:
    tree = json.loads(_one(parser, "SELECT json_serialize_sql(?)", "SELECT true WHERE true"))
    tree["statements"][0]["node"]["where_clause"] = expression
    return _one(parser, "SELECT json_deserialize_sql(?)", json.dumps(tree)).partition(" WHERE ")[2]


@dataclass
class Names:
    """Names as people write them, of folders. One too long for a key is cut there; its objects tell the whole."""

    objects: Objects
    decode: bool  # or leave them percent-encoded, as Athena has them
    known: dict[tuple[str, int], str] = field(default_factory=dict)

    def of(self, path: str, values: Sequence[str]) -> list[str]:
        """Return what the parts of a folder's path say: source, type, day, hour, as far as it goes."""
        if not self.decode:
            return list(values)
        return [self._name(path, level, value) if level < 2 else value for level, value in enumerate(values)]

    def _name(self, path: str, level: int, value: str) -> str:
        if "~" not in value:  # which a whole name has as %7E
            return unquote(value)
        folder = "/".join(path.split("/")[: level + 2])
        if (folder, level) not in self.known:
            self.known[folder, level] = self._read(folder, level, value)
        return self.known[folder, level]

    def _read(self, folder: str, level: int, value: str) -> str:
        listed = self.objects.first(f"{folder}/")
        found = self.objects.get(listed.key) if listed else None
        try:
            event = found.event() if found else None
        except ValueError:
            event = None
        whole = getattr(event, LEVELS[level]) if event else ""
        return whole if encode(whole) == value else unquote(value)


def sources(objects: Objects) -> list[str]:
    """Return every source of which the raw bucket keeps an object, as people write it."""
    folders, _ = objects.folders("raw/")
    names = Names(objects, decode=True)
    return sorted(names.of(path.rstrip("/"), _values(path.rstrip("/")))[0] for path in folders)


def parts(objects: Objects, wanted: Conditions, *, decode: bool = True) -> list[Part]:
    """Return every raw object that a query may be about, from listings of no more folders than need be.

    ``decode``: whether the query writes names as people do, or percent-encoded, as they are in keys (Athena).
    """
    names = Names(objects, decode)
    folders: list[Folder] = [("raw", ())]
    for depth in range(3):
        below = [
            folder for found, _ in in_parallel(objects.folders, [f"{path}/" for path, _ in folders]) for folder in found
        ]
        folders = _matching([(path, _values(path)) for path in below], LEVELS[: depth + 1], wanted, names)
    listed = [item for found in in_parallel(objects.below, [f"{path}/" for path, _ in folders]) for item in found]
    by_hour: dict[str, list[Listed]] = {}
    for item in listed:
        by_hour.setdefault(item.key.rpartition("/")[0], []).append(item)
    hours = _matching([(path, _values(path)) for path in by_hour], LEVELS, wanted, names)
    found = [(names.of(path, values), by_hour[path]) for path, values in hours]
    return [Part(item, parts[0], parts[1], parts[2], int(parts[3])) for parts, items in found for item in items]


def _values(path: str) -> tuple[str, ...]:
    return tuple(folder.partition("=")[2] for folder in path.split("/")[1:])


def _matching(folders: list[Folder], known: Sequence[str], wanted: Conditions, names: Names) -> list[Folder]:
    if not folders:
        return []
    with duckdb.connect() as engine:
        kinds = ", ".join(f"{name} {'INTEGER' if name == 'hour' else 'VARCHAR'}" for name in known)
        engine.execute(f"CREATE TABLE folders (position INTEGER, {kinds})")
        rows = [[n, *names.of(path, values)] for n, (path, values) in enumerate(folders)]
        marks = ", ".join("?" for _ in rows[0])
        engine.executemany(f"INSERT INTO folders VALUES ({marks})", rows)  # noqa: S608 - question marks
        where = wanted.where(known)
        found = engine.execute(f"SELECT position FROM folders WHERE {where} ORDER BY 1").fetchall()  # noqa: S608 - above
    return [folders[position] for (position,) in found]


def too_much(size: int, limit: int, doing: str) -> Refused:
    """Return the refusal to read more than was allowed."""
    return Refused(
        f"the query would {doing} {units.size(size)}, more than {units.size(limit)}",
        next_step=f"restrict source, event_type, event_date or hour; or pass max_bytes={size:_}",
    )
