"""SQL over the raw objects: what is read, what is refused, what the engine cannot do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from pik import project
from pik.aws.objects import Listed, Object
from pik.aws.template import parse
from pik.errors import Refused, UsageError
from pik.pipeline.rows import Arrival
from pik.workbench.sql import athena, layout
from pik.workbench.sql import query as sql
from pik.workbench.sql.cache import Cache
from pik.workbench.sql.layout import Part

KEYS = [
    f"raw/source={source}/event_type={kind}/event_date={day}/hour={hour:02d}/event_id={n}.json"
    for n, (source, kind, day, hour) in enumerate(
        [
            ("UA", "departed", "2013-01-01", 9),
            ("UA", "departed", "2013-01-02", 10),
            ("UA", "cancelled", "2013-01-01", 11),
            ("a%2Fb", "departed", "2013-01-01", 9),
        ]
    )
]


class Bucket:
    """A bucket with KEYS; remembers which folders were listed."""

    def __init__(self) -> None:
        self.listed: list[str] = []

    def folders(self, prefix: str) -> tuple[list[str], list[Listed]]:
        self.listed.append(prefix)
        return sorted({prefix + k[len(prefix) :].split("/")[0] for k in KEYS if k.startswith(prefix)}), []

    def below(self, prefix: str) -> list[Listed]:
        self.listed.append(prefix)
        return [Listed(key, '"e"', 100) for key in KEYS if key.startswith(prefix)]


def read(query: str, **options: Any) -> tuple[set[int], list[str]]:
    bucket = Bucket()
    parts = layout.parts(bucket, layout.conditions(query), **options)  # type: ignore[arg-type]
    return {int(part.listed.key[-6]) for part in parts}, bucket.listed


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT * FROM raw", {0, 1, 2, 3}),
        ("SELECT * FROM raw WHERE source = 'UA'", {0, 1, 2}),
        ("SELECT * FROM raw WHERE source LIKE 'a/%'", {3}),
        ("SELECT * FROM raw r WHERE r.hour BETWEEN 10 AND 23 AND r.body LIKE '%x%'", {1, 2}),
        ("SELECT * FROM raw WHERE source = 'UA' AND (event_date = '2013-01-02' OR body = 'x')", {0, 1, 2}),
        ("WITH a AS (SELECT * FROM raw WHERE hour = 9) SELECT * FROM a WHERE source = 'UA'", {0, 3}),
        ("SELECT 1 FROM raw WHERE hour = 11 UNION ALL SELECT 2 FROM raw WHERE source = 'a/b'", {2, 3}),
        ("SELECT * FROM raw a JOIN raw b USING (source) WHERE a.source = 'UA'", {0, 1, 2, 3}),
        ("SELECT * FROM raw AS r (x, y) WHERE y = 'UA'", {0, 1, 2, 3}),
        (
            "SELECT * FROM (VALUES ('AA')) o (source) WHERE EXISTS (SELECT 1 FROM raw WHERE raw.source <> o.source)",
            {0, 1, 2, 3},
        ),
        ("SELECT * FROM raw WHERE hour = 9 AND random() < 2", {0, 3}),
        ("SELECT * FROM raw WHERE source IN (SELECT 'UA')", {0, 1, 2, 3}),
    ],
)
def test_what_may_be_read_is_never_less_than_what_the_query_is_about(query: str, expected: set[int]) -> None:
    assert read(query)[0] == expected


def test_folders_that_cannot_match_are_not_listed() -> None:
    _, listed = read("SELECT * FROM raw WHERE source = 'UA' AND event_date = '2013-01-02'")
    assert not [prefix for prefix in listed if "a%2Fb" in prefix or prefix.endswith("event_date=2013-01-01/")]


def test_on_athena_names_are_as_in_keys() -> None:
    assert read("SELECT * FROM raw WHERE source = 'a%2Fb'", decode=False)[0] == {3}


@pytest.mark.parametrize(
    ("where", "lacking"),
    [
        ("source = 'UA' AND event_type = 'departed'", None),
        ("source IN ('UA', 'AA') AND event_type = 'departed' AND hour > 3", None),
        ("source = 'UA'", "event_type"),
        ("source LIKE 'U%' AND event_type = 'departed'", "source"),
        ("true", "source"),
    ],
)
def test_athena_needs_names(where: str, lacking: str | None) -> None:
    found = layout.conditions(f"SELECT * FROM raw WHERE {where}")  # noqa: S608 - a test
    if lacking is None:
        athena._demand_names(found)
        return
    with pytest.raises(UsageError, match=lacking):
        athena._demand_names(found)


@pytest.mark.parametrize("engine", sql.ENGINES)
@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE raw",
        "INSERT INTO raw VALUES (1)",
        "COPY raw TO 'x'",
        "UNLOAD (SELECT 1) TO 's3://x'",
        "",
        "SET threads = 1",
    ],
)
def test_only_reads(query: str, engine: str) -> None:
    with pytest.raises(UsageError):
        sql.only_reads(query, engine)


def test_one_statement_only() -> None:
    sql.only_reads("WITH a AS (SELECT 1) SELECT * FROM a")
    with pytest.raises(UsageError):
        sql.only_reads("SELECT 1; SELECT 2")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setattr(project, "STATE", tmp_path)
    return Cache(SimpleNamespace(name="local"), "bucket")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_csv('https://example.org/x.csv')",
    ],
)
def test_the_engine_reads_nothing_but_the_cache(cache: Cache, query: str) -> None:
    with sql._sandbox(cache, [], "bucket") as engine, pytest.raises(duckdb.Error):
        engine.sql(query).fetchall()


def test_the_engine_cannot_be_unlocked_and_sees_no_python(cache: Cache) -> None:
    secret = pa.table({"a": [1]})
    with sql._sandbox(cache, [], "bucket") as engine:
        for query in ("SET enable_external_access = true", "INSTALL httpfs", "LOAD httpfs"):
            with pytest.raises(duckdb.Error):
                engine.execute(query)
        with pytest.raises(duckdb.Error):
            engine.sql("SELECT * FROM secret").fetchall()
    assert secret.num_rows == 1


def test_without_objects_the_table_has_its_columns(cache: Cache) -> None:
    with sql._sandbox(cache, [], "bucket") as engine:
        assert engine.sql("SELECT * FROM raw").columns == [*sql.COLUMNS.split(", "), "$path"]


def test_more_than_was_allowed_is_refused_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, cache: Cache
) -> None:
    part = Part(Listed(KEYS[0], '"e"', 2048), "UA", "departed", "2013-01-01", 9)
    monkeypatch.setattr(layout, "parts", lambda *_, **__: [part])
    said: list[str] = []
    wb: Any = SimpleNamespace(environment=SimpleNamespace(name="local"), outputs={"RawBucket": "bucket"}, objects=None)
    with pytest.raises(Refused, match=r"2\.0 KB, more than 10 B") as refused:
        sql.sql(wb, "SELECT * FROM raw", max_bytes=10, progress=said.append)
    assert "max_bytes=2_048" in refused.value.next_step
    assert said == ["1 objects, 2.0 KB; to fetch: 1, 2.0 KB"]
    assert cache.files == []


@pytest.mark.parametrize("wrong", ["SELECT sorce FROM raw", "SELECT * FROM rwa", "SELECT nofunction(body) FROM raw"])
def test_a_wrong_query_is_said_to_be_before_anything_is_listed(cache: Cache, wrong: str) -> None:
    wb: Any = SimpleNamespace(environment=SimpleNamespace(name="local"), outputs={"RawBucket": "bucket"}, objects=None)
    with pytest.raises(UsageError, match="does not accept") as error:
        sql.sql(wb, wrong, progress=pytest.fail)
    assert "columns of raw" in error.value.next_step


def test_what_only_the_rows_can_tell_is_no_mistake_yet(cache: Cache) -> None:
    for query in (
        "SELECT json_extract_scalar(body, '$.a') FROM raw",
        "SELECT CAST(body AS INTEGER) FROM raw",
        "PIVOT raw ON source",
    ):
        sql._bind(query, cache, "bucket")


def test_a_body_that_is_no_json_ends_no_query(cache: Cache) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "s",
        "ce-type": "t",
        "ce-time": "2013-01-01T09:00:00Z",
    }
    bodies = {b"hello": "text/plain", b"\xff\xd8": "image/jpeg", b"": "text/plain", b'{"n": 7}': "application/json"}
    wanted, found = [], {}
    for number, (body, kind) in enumerate(bodies.items()):
        arrival = Arrival.of(
            body,
            {**headers, "content-type": kind},
            ingest_time="2013-01-01T09:00:01.000000Z",
            request_id="r",
            producer="",
        )
        key = f"raw/source=s/event_type=t/event_date=2013-01-01/hour=09/event_id={number:064d}.json"
        found[key] = Object(key, body, kind, arrival.to_metadata(), '"e"')
        wanted.append(Part(Listed(key, '"e"', len(body)), "s", "t", "2013-01-01", 9))

    class Found:
        def many(self, keys: list[str], each: Any) -> Any:
            return [each(key, found[key]) for key in keys]

    cache.fetch(Found(), wanted, lambda _: None)  # type: ignore[arg-type]
    engine = sql._sandbox(cache, wanted, "bucket")
    query = "SELECT json_extract_scalar(body, '$.n'), payload, entity_id FROM raw ORDER BY event_id"
    assert engine.execute(query).fetchall() == [
        (None, '{"value": "hello"}', "s"),
        (None, '{"data_base64": "/9g="}', "s"),
        (None, "{}", "s"),
        ("7", '{"n": 7}', "s"),
    ]


@pytest.mark.parametrize("where", ["", "AND hour = 3", "AND body LIKE '%2013-01-01%'", "AND event_date = body"])
def test_athena_needs_a_date(where: str) -> None:
    named = f"SELECT * FROM raw WHERE source = 'a' AND event_type = 'b' {where}"  # noqa: S608 - a test
    with pytest.raises(UsageError, match="which days"):
        athena._demand_dates(layout.conditions(named))


@pytest.mark.parametrize("where", ["event_date = '2013-01-01'", "event_date >= '2013-01-01' AND hour < 3"])
def test_athena_takes_any_condition_on_the_date(where: str) -> None:
    athena._demand_dates(layout.conditions(f"SELECT * FROM raw WHERE {where}"))  # noqa: S608 - a test
    athena._demand_dates(layout.conditions("this is not DuckDB's SQL"))


@pytest.mark.parametrize("ended", [KeyboardInterrupt(), RuntimeError("throttled")])
@pytest.mark.parametrize("stops", [True, False])
def test_a_query_that_nobody_waits_for_is_stopped(ended: BaseException, stops: bool) -> None:
    stopped: list[str] = []

    class Client:
        looks = 0

        def get_query_execution(self, **_: Any) -> dict[str, Any]:
            self.looks += 1
            if self.looks == 2:
                raise ended
            return {"QueryExecution": {"Status": {"State": "RUNNING"}}}

        def stop_query_execution(self, QueryExecutionId: str) -> None:  # noqa: N803
            stopped.append(QueryExecutionId)
            if not stops:
                raise RuntimeError("it has ended")

    with pytest.raises(type(ended)) as raised:
        athena._finished(Client(), "q-1")
    assert raised.value is ended
    assert stopped == ["q-1"]


def test_what_athenas_table_leaves_out_is_said() -> None:
    """Athena would find nothing there, and say nothing."""
    resources = parse(project.TEMPLATE.read_text(encoding="utf-8"))["Resources"]
    table = resources["RawTable"]["Properties"]["TableInput"]["Parameters"]
    assert ",".join(athena.DAYS) == table["projection.event_date.range"]

    def dated(*days: str) -> list[layout.Part]:
        return [layout.Part(Listed("k", "", 1), "s", "t", day, 0) for day in days]

    athena._refuse_dates_beyond(dated("1970-01-01", "2025-01-01", "2083-12-31"))
    with pytest.raises(UsageError, match="2 objects are dated outside"):
        athena._refuse_dates_beyond(dated("1969-12-31", "2025-01-01", "9999-12-31"))
