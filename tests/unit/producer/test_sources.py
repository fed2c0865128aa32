from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tracemalloc
from pathlib import Path

import pytest

from pik import producer
from pik.errors import UsageError
from pik.events import Event
from pik.pipeline.parsing import Rejected, parse_event
from pik.producer import Item


def bodies(what: str | Path) -> list[bytes]:
    return [item.body for item in producer.open_source(str(what))]


def test_json_lines_are_handed_on_byte_for_byte(tmp_path: Path) -> None:
    lines = [b'{ "a" : 1.50 }', b"not json", b"\xff\xfe", b' {"b":2}\t']
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\r\n\n")
    assert bodies(path) == lines
    packed = tmp_path / "events.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert bodies(packed) == lines


def test_numbers_are_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(b"{}\n\n{}\n")
    assert [item.number for item in producer.open_source(str(path))] == [1, 3]


def test_reading_is_lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            buffer[:3] = b"{}\n"
            return 3

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    source = producer.open_source("-")
    assert next(iter(source)).body == b"{}"
    assert source.fraction is None


def test_csv_of_events(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(
        "source,event_type,entity_id,event_time,payload,idempotency_key\n"
        'a,t,"e ""1""\nx",2013-01-01T00:00:00Z,"{""n"": 1}",k\n'
        "a,t,e,2013-01-01T00:00:00Z,{oops,\n"
        "too,few\n",
        encoding="utf-8-sig",
    )
    good, bad_payload, ragged = bodies(path)
    assert json.loads(good) == {
        "source": "a",
        "event_type": "t",
        "entity_id": 'e "1"\nx',
        "event_time": "2013-01-01T00:00:00Z",
        "payload": {"n": 1},
        "idempotency_key": "k",
    }
    assert json.loads(bad_payload)["payload"] == "{oops"
    assert "idempotency_key" not in json.loads(bad_payload)
    assert ragged == b"too,few"  # not lost: the pipeline keeps it aside


def test_a_csv_cell_reaches_the_pipeline_character_for_character(tmp_path: Path) -> None:
    cells = [
        '{"eth": 1.000000000000000001}',
        '{"eth": 1e400}',
        '{"qty":1,"qty":2}',
        '{"a": "\\ud800"}',
        '{"a": NaN}',
        "[" * 100_000,
        '{},"idempotency_key":"k"',
    ]
    path = tmp_path / "events.csv"
    with path.open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["source", "event_type", "entity_id", "event_time", "payload"])
        rows.writerows(["s", "t", "e", "2026-11-20T10:00:00Z", cell] for cell in [*cells, '{"a": 1}'])
    sent, codes = bodies(path), []
    assert [body.partition(b'"payload":')[2] for body in sent[:4]] == [f"{cell}}}".encode() for cell in cells[:4]]
    for body in sent[:-1]:
        with pytest.raises(Rejected) as caught:
            parse_event(body, {}, new=True)
        codes.append(caught.value.code)
    wanted = ["number_out_of_range"] * 2 + ["repeated_name", "bad_unicode", "payload_type", "too_deep", "payload_type"]
    assert codes == wanted
    assert parse_event(sent[-1], {}, new=True).payload == {"a": 1}


@pytest.mark.parametrize(
    ("more", "hint"),
    [("idempotencyKey", "did you mean idempotency_key?"), ("amount", "put them into payload"), ("source", "once")],
)
def test_a_csv_column_that_would_be_dropped_is_refused(tmp_path: Path, more: str, hint: str) -> None:
    path = tmp_path / "events.csv"
    path.write_text(f"source,event_type,entity_id,event_time,payload,{more}\n")
    with pytest.raises(UsageError) as error:
        bodies(path)
    assert hint in error.value.next_step


def test_blank_rows_and_the_files_byte_order_mark_are_not_events(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("\ufeffsource,event_type,entity_id,event_time,payload\n,,,,\n\n,,,,\n")
    assert bodies(path) == []
    lines = tmp_path / "events.jsonl"
    lines.write_bytes(b'\xef\xbb\xbf{"n": 1}\n{"n": 2}\n')
    assert bodies(lines) == [b'{"n": 1}', b'{"n": 2}']


def test_csv_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("source,when\n1,2\n")
    with pytest.raises(UsageError, match="event_type, entity_id, event_time, payload"):
        bodies(path)


@pytest.mark.parametrize(
    ("what", "hint"),
    [
        ("fligths", "did you mean flights"),
        ("flights:2013-13-01", "flights:2013-01-01"),
        ("flights:2014-01-01", "2013-01-15"),
        ("nothing.jsonl", "give a file"),
    ],
)
def test_what_cannot_be_opened_says_what_to_do(what: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        producer.open_source(what)
    assert hint in error.value.next_step


def test_an_endless_line_is_cut_and_the_next_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"n": 1}\n{"x": "' + b"a" * 50_000_000 + b'"}\n{"n": 3}'))
    tracemalloc.start()
    first, long, last = producer.open_source(str(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (first, last) == (Item(1, b'{"n": 1}'), Item(3, b'{"n": 3}'))
    assert (long.number, long.cut, len(long.body)) == (2, True, 5_000_000)
    assert peak < 50_000_000


def test_a_torn_archive_is_an_error_after_its_good_lines(tmp_path: Path) -> None:
    path = tmp_path / "torn.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"n": 1}\n' * 50_000)[:-20])
    with pytest.raises(UsageError, match="cannot be read to its end"):
        bodies(path)


def test_load_yields_dictionaries_and_refuses_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"n": 1}\n[]\n')
    events = producer.load(str(path))
    assert next(events) == {"n": 1}
    with pytest.raises(UsageError, match="line 2"):
        next(events)


def test_flights_are_distinct_events() -> None:
    events = [_parsed(body) for body in bodies("flights")]
    assert len(events) == 12_208
    assert len({event.event_id for event in events}) == 12_208
    kinds = [event.event_type for event in events]
    assert kinds.count("flight.cancelled") == 82
    assert kinds.count("flight.departed") == 12_208 - 82
    assert sum(event.entity_id.startswith("unassigned-") for event in events) == 24
    assert {event.date for event in events} == {f"2013-01-{day:02}" for day in range(1, 16)}
    assert not any(event.assumed_utc for event in events)


def test_a_departure_and_a_cancellation() -> None:
    events = list(producer.load("flights:2013-01-01"))
    assert len(events) == 697
    assert events[0] == {
        "source": "UA",
        "event_type": "flight.departed",
        "entity_id": "N14228",
        "event_time": "2013-01-01T10:17:00Z",
        "payload": {
            "flight": "1545",
            "origin": "EWR",
            "dest": "IAH",
            "scheduled_departure": "2013-01-01T10:15Z",
            "departure_delay_min": 2,
            "arrival_delay_min": 11,
            "air_time_min": 227,
            "distance_miles": 1400,
        },
    }
    cancelled = next(event for event in events if event["event_type"] == "flight.cancelled")
    assert cancelled["event_time"] == "2013-01-01T21:30:00Z"
    assert "departure_delay_min" not in cancelled["payload"]


def test_not_a_number_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        producer.encode({"x": float("nan")})


def test_fraction_reaches_one() -> None:
    source = producer.open_source("flights:2013-01-01")
    assert source.fraction == 0.0
    assert len(list(source)) == 697
    assert source.fraction == 1.0


def _parsed(body: bytes) -> Event:
    return parse_event(body, {})
