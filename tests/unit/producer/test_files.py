"""Every kind of file that people have, read through one door."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pik import producer
from pik.errors import UsageError
from pik.producer import Item, Reading, json_text
from pik.runbooks.parameters import Parameter

EVENTS = [{"n": n, "text": 'a "quoted" \\ [bracket}'} for n in range(50)]
LINES = [json.dumps(event).encode() for event in EVENTS]
HEADER = "source,event_type,entity_id,event_time,payload"
ROW = 's,t,e-{},2026-11-20T10:00:00Z,"{{""n"": {}}}"'


def read(what: Any, **how: str) -> list[Item]:
    return list(producer.open_source(str(what) if isinstance(what, Path) else what, Reading(**how)))


def events(what: Any, **how: str) -> list[Any]:
    return [json.loads(item.body) for item in read(what, **how)]


def zstd(text: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(text, asbytes=True)
    return packed


@pytest.mark.parametrize("name", ["a.jsonl", "A.JSONL", "a.NdJson", "a.json", "a.log", "events"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_an_event_a_line(tmp_path: Path, name: str, pack: Any) -> None:
    suffix = {bytes: "", gzip.compress: ".GZ", zstd: ".zst"}[pack]
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(pack(b"\n".join(LINES)))
    found = read(path)
    assert [item.body for item in found] == LINES
    assert [item.where for item in found[:2]] == ["line 1", "line 2"]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_an_archive_of_several_members(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b"".join(pack(line + b"\n") for line in LINES))
    assert [item.body for item in read(path)] == LINES


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_torn_archive_gives_its_good_lines(tmp_path: Path, pack: Any) -> None:
    whole = tmp_path / "b.jsonl"
    whole.write_bytes(LINES[0])
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(pack(b"".join(b'{"n": %d}\n' % n for n in range(100_000)))[:-30])
    found: list[bytes] = []

    def each() -> None:
        for item in producer.open_source([str(path), str(whole)]):
            found.append(item.body)

    with pytest.raises(UsageError, match=r"a\.jsonl\.gz cannot be read to its end"):
        each()
    assert len(found) > 50_000
    assert found[-1] == LINES[0]  # the other file is read all the same


@pytest.mark.parametrize("name", ["a.json", "a.JSON.gz", "a.txt", "-"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array(tmp_path: Path, name: str, indent: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(EVENTS, indent=indent).encode()
    if name == "-":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        found = events("-")
    else:
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
        found = events(tmp_path / name)
        assert [item.where for item in read(tmp_path / name)[:2]] == ["element 1", "element 2"]
    assert found == EVENTS


def test_values_over_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("\n".join(json.dumps(event, indent=1) for event in EVENTS[:3]))
    assert events(path) == EVENTS[:3]
    assert [item.number for item in read(path)] == [1, 5, 9]


@pytest.mark.parametrize(
    ("text", "bodies"),
    [
        ('[{"a":1},{"b":oops},{"c":3}]', ['{"a":1}', '{"b":oops}', '{"c":3}']),
        ('[{"a":1},{"b":[1},{"c":3}]', ['{"a":1}', '{"b":[1}', '{"c":3}']),
        ('[{"a":1},\n{"b":"open},\n{"c":3}]', ['{"a":1}', '{"b":"open},', '{"c":3}']),
        ('[{"a":1},7,"x",{"c":3}', ['{"a":1}', "7", '"x"', '{"c":3}']),
        ('[{"a":1},{"c":', ['{"a":1}', '{"c":']),
        ("[]", []),
        ("", []),
        ("  \n ", []),
    ],
)
def test_a_bad_element_costs_itself_alone(tmp_path: Path, text: str, bodies: list[str]) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert [item.body.strip().decode() for item in read(path)] == bodies


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.dictionaries(st.text(), _json, max_size=3), max_size=5),
    st.integers(1, 40),
    st.sampled_from([0, 1, None]),
)
def test_elements_are_found_wherever_the_chunks_end(value: list[Any], chunk: int, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    before, json_text._CHUNK = json_text._CHUNK, chunk
    try:
        found = [record.text for record in json_text.values(io.BytesIO(text))]
    finally:
        json_text._CHUNK = before
    assert [json.loads(one.decode("utf-8", "surrogatepass")) for one in found] == value


def test_a_huge_element_is_cut_and_the_next_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    text = b'[{"a":1},{"x":"' + b'a\\"' * 4_000_000 + b'"},{"y":[' + b"1," * 4_000_000 + b'1]},{"c":3}]'
    path.write_bytes(gzip.compress(text))
    del text
    tracemalloc.start()
    first, long, wide, last = read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (first.body, last.body) == (b'{"a":1}', b'{"c":3}')
    assert (long.cut, wide.cut) == (True, True)
    assert peak < 40_000_000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_in_its_dialects(tmp_path: Path, encoding: str, delimiter: str) -> None:
    rows = [HEADER.replace(",", delimiter)]
    rows += [f's{delimiter}t{delimiter}Gerät {n}{delimiter}2026-11-20T10:00:00Z{delimiter}"{{}}"' for n in range(3)]
    path = tmp_path / "a.CSV"
    path.write_bytes("\r\n".join(rows).encode(encoding))
    assert [event["entity_id"] for event in events(path)] == ["Gerät 0", "Gerät 1", "Gerät 2"]
    source = producer.open_source(str(path))
    list(source)
    usual = delimiter == "," and encoding.startswith("utf-8")
    assert bool(source.notes) != usual  # what was found out is said
    assert events(path, delimiter=delimiter, encoding=encoding)[0]["entity_id"] == "Gerät 0"


def test_a_bad_row_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [HEADER, ROW.format(1, 1), "too,few", ROW.format(2, 2), "s,t,\ud800,x,{}".replace("\ud800", "\xff")]
    rows += [ROW.format(3, 3), 's,t,"e"x,2026-11-20T10:00:00Z,{}', ROW.format(4, 4), 's,t,"open', ROW.format(5, 5)]
    path.write_bytes("\n".join(rows).encode("latin-1"))
    found = read(path, encoding="utf-8")
    good = [json.loads(item.body)["entity_id"] for item in found if item.body.startswith(b"{")]
    assert good[:4] == ["e-1", "e-2", "e-3", "e-4"]
    bad = {item.number: item.where for item in found if not item.body.startswith(b"{")}
    assert list(bad) == [3, 5, 7, 9]
    assert bad[9] == "lines 9 to 10"
    assert found[1].original == b"too,few"


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    when = datetime(2026, 11, 20, 10, tzinfo=UTC)
    table = {"source": ["s"], "event_type": ["t"], "entity_id": ["e"]}
    nanoseconds = pa.array([int(when.timestamp()) * 10**9 + 123456789], pa.timestamp("ns", "Europe/Berlin"))
    payload = [{"n": 1, "list": [1.5, None], "missing": float("nan"), "bytes": b"x"}]
    pq.write_table(pa.table({**table, "event_time": nanoseconds, "payload": payload}), path)
    (event,) = events(path)
    assert event["event_time"] == "2026-11-20T10:00:00.123456789Z"
    assert event["payload"] == {"n": 1, "list": [1.5, None], "missing": None, "bytes": "eA=="}
    (item,) = read(path.rename(tmp_path / "no-name"))
    assert item.where == "row 1"


def test_parquet_that_is_none_or_comes_on_standard_input_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match="not a Parquet file"):
        read(tmp_path / "a.parquet")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"PAR1...")))
    with pytest.raises(UsageError, match="not read from standard input"):
        read("-")


@pytest.mark.parametrize("name", ["UPPER.jsonl", "a.json"])
def test_utf_16_as_windows_writes_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\n".join(LINES).decode().encode("utf-16"))
    assert events(tmp_path / name) == EVENTS


def test_a_folder_and_a_pattern(tmp_path: Path) -> None:
    below = tmp_path / "logs" / "day 1"
    below.mkdir(parents=True)
    (below / "b.jsonl").write_bytes(b'{"n": 2}')
    (below / "a.json.gz").write_bytes(gzip.compress(b'[{"n": 1}]'))
    (below / "notes.md").write_text("# not events")
    source = producer.open_source(str(tmp_path / "logs"))
    assert [json.loads(item.body)["n"] for item in source] == [1, 2]
    assert "left out because of their names: 1 (notes.md)" in source.notes[0]
    found = read(str(tmp_path / "logs" / "*" / "*.jso*"))
    assert [json.loads(item.body)["n"] for item in found] == [1, 2]
    assert [item.where.rpartition("/")[2] for item in found] == ["a.json.gz element 1", "b.jsonl line 1"]
    assert source.fraction == 1.0


@pytest.mark.parametrize(
    ("content", "hint"), [(b"PK\x03\x04\x00\x00", "save it as CSV"), (b"hello\nthere\n", "--format")]
)
def test_a_format_that_nobody_can_tell_is_asked_for(tmp_path: Path, content: bytes, hint: str) -> None:
    path = tmp_path / "a.xyz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not a format") as error:
        read(path)
    assert hint in error.value.next_step


def test_the_rollouts_parameter_takes_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.JSON"
    path.write_text("[{}]")
    assert Parameter(type="events").parse("events", str(path)) == str(path)
    assert Parameter(type="events").parse("events", str(tmp_path)) == str(tmp_path)
