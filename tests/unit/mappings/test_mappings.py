"""Mappings: expressions, times, what is sent, and what a record that is no event says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pik import events
from pik.aws import stored
from pik.errors import UsageError
from pik.items import Item, Record
from pik.mappings import catalog, infer
from pik.mappings.apply import Applied
from pik.mappings.model import Mapping
from pik.mappings.times import rfc3339
from pik.pipeline.parsing import parse_event

BASE = {"source": "shop", "event_type": "{kind}", "entity_id": "customer.id", "event_time": "at"}
RECORD = {"id": 7, "kind": "order", "at": "2026-11-20T10:00:00Z", "customer": {"id": "c-1", "vip": True}, "amount": 9.5}


def mapping(**table: Any) -> Applied:
    return Applied(Mapping.of("m", {**BASE, **table}, "m").checked("m"))


def items(applied: Applied, record: Any) -> list[Item]:
    text = record if isinstance(record, bytes) else json.dumps(record).encode()
    return list(applied.items(Record(3, text)))


def event(record: Any = RECORD, **table: Any) -> events.Event:
    (item,) = items(mapping(**table), record)
    assert item.trouble is None, item.trouble
    return parse_event(item.body, {}, new=True)


def trouble(record: Any = RECORD, **table: Any) -> tuple[str, str]:
    (item,) = items(mapping(**table), record)
    assert item.trouble is not None
    assert item.body == b""
    return item.trouble.code, item.trouble.error


def test_each_part_of_an_event_comes_from_where_the_mapping_says() -> None:
    made = event(idempotency_key="id")
    assert (made.source, made.event_type, made.entity_id) == ("shop", "order", "c-1")
    assert (made.event_time, made.idempotency_key) == ("2026-11-20T10:00:00.000000Z", "7")
    assert made.payload == {"customer": {"id": "c-1", "vip": True}, "amount": 9.5}  # what did not become a name


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("customer.id", "c-1"),
        ("order-{id}", "order-7"),
        ("{kind}/{customer.id}", "order/c-1"),
        ("{{{id}}}", "{7}"),
        ("'everything'", "everything"),
        (["nothing.here", "customer.id"], "c-1"),
        (["{kind}-{nothing}", "id"], "7"),
        ("amount", "9.5"),
        ("Order No", "n-1"),
        ("a.b", "dotted"),
        ("détail", "é"),
        ('"http.method"', "GET"),
        ("tags[?key=='host'] | [0].value", "h-1"),
    ],
)
def test_what_a_path_or_a_text_leads_to(spec: Any, expected: str) -> None:
    more = {"Order No": "n-1", "a.b": "dotted", "a": {"b": "x"}, "détail": "é", "http.method": "GET"}
    record = {**RECORD, **more, "tags": [{"key": "host", "value": "h-1"}]}
    assert event(record, entity_id=spec).entity_id == expected


@pytest.mark.parametrize(
    ("table", "code", "reason"),
    [
        ({"entity_id": "custmer.id"}, "unmapped", "entity_id: there is no 'custmer.id'"),
        ({"entity_id": ["a", "b"]}, "unmapped", "there is no 'a' or 'b'"),
        ({"entity_id": "customer"}, "unmapped", "entity_id: it is an object, and not text or a number"),
        ({"event_type": "{customer.vip}"}, "unmapped", "customer.vip is true or false"),
        ({"event_time": "kind"}, "bad_time", "event_time: not a time such as"),
        ({"idempotency_key": "key"}, "unmapped", "idempotency_key: there is no 'key'"),
        ({"payload": "data"}, "unmapped", "payload: there is no 'data'"),
        ({"explode": "items", "payload": "items"}, "unmapped", "explode: there is no 'items'"),
        ({"payload": "{e: &amount}"}, "bad_value", "a value is no JSON"),
        ({"entity_id": "join(kind, kind)"}, "unmapped", "entity_id: join(kind, kind)"),
    ],
)
def test_a_record_that_is_no_event_says_which_part_and_why(table: dict[str, Any], code: str, reason: str) -> None:
    found = trouble(**table)
    assert found[0] == code
    assert reason in found[1]


@pytest.mark.parametrize(
    ("table", "reason", "fill"),
    [
        ({"entity_id": "blank"}, "entity_id: 'blank' is empty", True),
        ({"event_time": "gone"}, "event_time: 'gone' is null", True),
        ({"event_type": "{kind}-{blank}"}, "event_type: 'blank' is empty", True),
        ({"entity_id": ["a", "gone", "blank"]}, "'gone' is null and 'blank' is empty and there is no 'a'", True),
        ({"entity_id": "{kind}-{a}"}, "entity_id: there is no 'a'", False),
        ({"payload": "gone"}, "payload: 'gone' is null", True),
    ],
)
def test_what_is_empty_is_not_said_to_be_missing(table: dict[str, Any], reason: str, fill: bool) -> None:
    (item,) = items(mapping(**table), {**RECORD, "blank": "", "gone": None})
    assert item.trouble
    assert item.trouble.error.endswith(reason)
    assert item.trouble.do_this.startswith("give it a value in the file; or --") is fill


def test_what_leads_nowhere_names_the_option_that_mends_it() -> None:
    (item,) = items(mapping(entity_id="custmer.id"), RECORD)
    assert item.trouble
    assert item.trouble.do_this == "--entity names another path; of several paths, the first that finds a value counts"


@pytest.mark.parametrize(
    ("text", "code"),
    [(b"{oops", "not_json"), (b'{"a":1,"a":2}', "repeated_name"), (b"\xff", "not_utf8"), (b"7", "unmapped")],
)
def test_a_line_that_is_no_record_says_so(text: bytes, code: str) -> None:
    assert trouble(text)[0] == code


def test_the_original_is_kept_byte_for_byte_with_the_mappings_name_and_digest() -> None:
    text = b' {"kind" : "order",\t"at":"2026-11-20T10:00:00Z","customer":{"id":"\\u00e4"},"amount":1.50}'
    applied = mapping()
    (item,) = items(applied, text)
    assert item.original == text
    assert stored.original(item.body) == text
    assert parse_event(item.body, {}, new=True).mapping == f"m@{applied.mapping.digest[:16]}"


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), _values, max_size=4), st.booleans())
def test_whatever_a_record_holds_it_comes_back_and_so_does_its_payload(more: dict[str, Any], ascii_only: bool) -> None:
    record = {**more, **RECORD}
    text = json.dumps(record, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    (item,) = items(mapping(payload="@"), text)
    if item.trouble:
        assert item.trouble.code in {"number_out_of_range", "not_utf8", "bad_unicode"}
        return
    assert stored.original(item.body) == text
    assert parse_event(item.body, {}).payload == record


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("@", RECORD),
        ("customer", {"id": "c-1", "vip": True}),
        ("amount", {"value": 9.5}),
        (["data", "customer"], {"id": "c-1", "vip": True}),
        (["data", "`{}`"], {}),
        ("{a: amount, k: kind}", {"a": 9.5, "k": "order"}),
    ],
)
def test_payloads(payload: Any, expected: Any) -> None:
    assert event(payload=payload).payload == expected


def test_records_that_differ_outside_of_the_payload_only_stay_two_events() -> None:
    one, other = {**RECORD, "note": "a"}, {**RECORD, "note": "b"}
    assert event(one, payload="customer").event_id != event(other, payload="customer").event_id
    assert event(one, payload="customer").event_id == event(dict(one), payload="customer").event_id
    # With a key of the producer's, the key decides; without one, all of the record is in the content.
    assert event(one, idempotency_key="id").event_id == event(other, idempotency_key="id").event_id
    assert event(one).idempotency_key is None
    assert event(one).event_id != event(other).event_id


def test_numbers_that_no_double_holds() -> None:
    text = b'{"kind":"k","at":1795600000123456789,"customer":{"id":1161888007138312193},"eth":1.000000000000000001}'
    assert trouble(text, payload="@")[0] == "number_out_of_range"
    made = event(text, payload="@", inexact="text")
    assert made.payload["eth"] == "1.000000000000000001"
    assert (made.entity_id, made.exact_time) == ("1161888007138312193", "2026-11-25T09:46:40.123456789Z")
    assert event(text, payload=["nothing", "{k: kind}"]).entity_id == "1161888007138312193"


def test_the_elements_of_lists_are_events_of_their_own() -> None:
    one, two = {"id": 1, "at": "2026-11-20T10:00:00Z"}, {"id": 2, "at": "2026-11-20T10:00:01Z"}
    record = {"who": "w", "groups": [{"name": "g", "items": [one, two]}, {"name": "h", "items": [one]}]}
    table = {"source": "{who}", "event_type": "{groups.name}", "entity_id": "groups.items.id"}
    applied = mapping(**table, event_time="groups.items.at", explode="groups.items", payload="groups.items")
    found = items(applied, record)
    made = [parse_event(item.body, {}, new=True) for item in found]
    assert [(e.source, e.event_type, e.entity_id) for e in made] == [("w", "g", "1"), ("w", "g", "2"), ("w", "h", "1")]
    assert [item.where for item in found] == ["line 3, part 1", "line 3, part 2", "line 3, part 3"]
    # Each keeps what is around it, and of the lists its own element: all of the line is kept, and none of it n times.
    kept = [json.loads(stored.original(item.body) or b"") for item in found]
    assert kept[1] == {"who": "w", "groups": [{"name": "g", "items": [two]}]}
    assert len({e.event_id for e in made}) == 3
    # The same record is the same event, alone or in another batch, and however it is spelt.
    again = {"who": "w", "groups": [{"name": "h", "items": [one]}]}
    for text in (json.dumps(again), json.dumps(again, indent=2, sort_keys=True)):
        (item,) = items(applied, text.encode())
        assert parse_event(item.body, {}).event_id == made[2].event_id
    (bad, good) = items(applied, {**record, "groups": [{"name": "g", "items": [{"id": 1}, one]}]})
    assert (bad.trouble is not None, good.trouble) == (True, None)  # one costs itself alone
    assert trouble(
        {**record, "groups": []}, **table, event_time="groups.items.at", explode="groups", payload="groups"
    ) == (
        "no_events",
        "explode: the list 'groups' is empty",
    )


def test_half_a_character_costs_its_element_alone() -> None:
    table = {"entity_id": "items.id", "event_time": "at", "explode": "items", "payload": "items"}
    text = b'{"kind":"k","at":"2026-11-20T10:00:00Z","items":[{"id":"a"},{"id":"b","x":"\\ud800"},{"id":"c"}]}'
    troubles = [item.trouble and item.trouble.code for item in items(mapping(**table), text)]
    assert troubles == [None, "bad_unicode", None]


def test_cells_that_are_numbers() -> None:
    applied = mapping(entity_id="customer", numbers=["amount", "qty"], payload="rest")
    row = {
        "kind": "order",
        "customer": "007",
        "at": "2026-11-20T10:00:00Z",
        "amount": "12.50",
        "qty": "",
        "zip": "01067",
    }
    (item,) = applied.items(Record(2, b"order,007,...", row))
    assert parse_event(item.body, {}, new=True).payload == {"amount": 12.5, "qty": None, "zip": "01067"}
    (item,) = applied.items(Record(2, b"order,007,...", {**row, "qty": "a few"}))
    assert item.trouble
    assert item.trouble.code == "not_a_number"
    assert stored.original(next(iter(mapping(entity_id="customer").items(Record(2, b"a;b", row)))).body) == b"a;b"


@pytest.mark.parametrize(
    ("value", "how", "expected"),
    [
        (1795600000, (), "2026-11-25T09:46:40Z"),
        ("1795600000.25", (), "2026-11-25T09:46:40.25Z"),
        (1795600000123, (), "2026-11-25T09:46:40.123Z"),
        ("1795600000123456", (), "2026-11-25T09:46:40.123456Z"),
        (1795600000123456789, (), "2026-11-25T09:46:40.123456789Z"),
        (1795600000123, ("ms",), "2026-11-25T09:46:40.123Z"),
        (-1.5, ("s",), "1969-12-31T23:59:58.5Z"),
        (0, ("ns",), "1970-01-01T00:00:00Z"),
        ("2026-11-20 10:00:01.123", (), "2026-11-20T10:00:01.123"),
        ("2026-11-20 10:00:01.123", ("iso", "UTC"), "2026-11-20T10:00:01.123Z"),
        ("2026-11-20T10:00Z", (), "2026-11-20T10:00:00Z"),
        ("20261120T100001+0100", (), "2026-11-20T09:00:01Z"),
        ("2026-11-20T10:00:00,5+01", (), "2026-11-20T09:00:00.5Z"),
        ("2026-11-20", ("auto", "Europe/Berlin"), "2026-11-19T23:00:00Z"),
        ("20.11.2026 10:00", ("%d.%m.%Y %H:%M", "Europe/Berlin"), "2026-11-20T09:00:00Z"),
        ("20/Nov/2026:10:00:00 +0100", ("%d/%b/%Y:%H:%M:%S %z",), "2026-11-20T09:00:00Z"),
        ("2026-10-25 02:30", ("auto", "Europe/Berlin", "earlier"), "2026-10-25T00:30:00Z"),
        ("2026-10-25 02:30", ("auto", "Europe/Berlin", "later"), "2026-10-25T01:30:00Z"),
    ],
)
def test_times(value: Any, how: tuple[str, ...], expected: str) -> None:
    assert rfc3339(value, *how) == expected
    events.parse_instant(expected)


@pytest.mark.parametrize(
    ("value", "how", "reason"),
    [
        ("2026-10-25 02:30", ("auto", "Europe/Berlin"), "showed it twice"),
        ("2026-03-29 02:30", ("auto", "Europe/Berlin"), "skipped it"),
        ("2026-02-30", (), "day (is out of range|30 must be in range)"),
        ("2026-11-20 24:00:00", (), "hour must be in 0..23"),
        ("12345678901", (), "does not tell whether"),
        ("9" * 20, ("s",), "outside the years"),
        ("1" * 30, ("s",), "not a number of s"),
        ("0001-01-01T00:00:00+05:00", (), "outside the years"),
        ("2026-11-20 10:00", ("auto", "Mars/Base"), "no such time zone"),
        ("20.11.2026", (), "not a time such as"),
        (True, (), "neither text nor a number"),
        (None, (), "neither text nor a number"),
        (float("nan"), ("s",), "not a number"),
    ],
)
def test_what_is_no_time_says_why(value: Any, how: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        rfc3339(value, *how)


@given(st.integers(-(10**18), 10**18), st.sampled_from(["s", "ms", "us", "ns"]))
def test_an_epoch_keeps_every_digit(number: int, unit: str) -> None:
    scale = {"s": 0, "ms": 3, "us": 6, "ns": 9}[unit]
    try:
        text = rfc3339(number, unit)
    except ValueError:
        assert abs(number) > 6e10 * 10**scale
        return
    whole, _, fraction = text[:-1].partition(".")
    seconds = events.epoch(f"{whole}Z")
    assert seconds * 10**scale + int((fraction or "0").ljust(scale, "0") or 0) == number


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"event_typ": "x"}, "there is no 'event_typ'"),
        ({"payload": 7}, "m.payload: a text, or a list"),
        ({"time_zone": ["a", "b"]}, "m.time_zone: one text"),
        ({"time_format": "eons"}, "no such time format"),
        ({"ambiguous": "both"}, "ambiguous is one of"),
        ({"explode": "items"}, "payload is a path to the element"),
        ({"entity_id": "a[0"}, "not a path"),
        ({"source": []}, "a text, or a list"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("[", r"\[")):
        mapping(**table)
    with pytest.raises(UsageError, match="entity_id is missing"):
        Mapping.of("m", {"source": "s", "event_type": "t"}, "m").checked("m")


def test_a_digest_is_of_what_a_mapping_does() -> None:
    one = Mapping.of("a", BASE, "")
    assert one.digest == Mapping.of("b", {**BASE, "about": "x", "recognise": "y"}, "").digest
    assert one.digest != Mapping.of("a", {**BASE, "time_zone": "UTC"}, "").digest
    # An event keeps it for ever: the same table must have it in every version of the kit.
    assert one.digest == "8e2a41924d0aa04f39cd596d54e373a6df02079167cd117b28e37ef35d880552"


def test_mappings_of_pik_toml_and_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Mapping.of("shop", {**BASE, "idempotency_key": ["id", '"a b"'], "about": 'x\'s "own"'}, "")
    (tmp_path / "pik.toml").write_text(own.to_toml())
    monkeypatch.setenv("PIK_CONFIG", str(tmp_path / "pik.toml"))
    assert catalog.find("shop") == own
    assert catalog.find("stripe") == catalog.built_in()["stripe"]
    assert catalog.find(str(tmp_path / "pik.toml")) == own
    (tmp_path / "bare.toml").write_text("\n".join(own.to_toml().splitlines()[1:]))
    assert catalog.find(str(tmp_path / "bare.toml")).digest == own.digest
    with pytest.raises(UsageError) as error:
        catalog.find("strpe")
    assert error.value.next_step == "did you mean stripe?"
    (tmp_path / "pik.toml").write_text("[mappings.shop]\nsource = 1")
    with pytest.raises(UsageError, match=r"pik\.toml: mappings\.shop\.source: a text"):
        catalog.find("shop")


@pytest.mark.parametrize("name", list(catalog.built_in()))
def test_built_in_mappings_survive_being_written_down(name: str, tmp_path: Path) -> None:
    one = catalog.built_in()[name]
    (tmp_path / "x.toml").write_text(one.to_toml())
    assert catalog.find(str(tmp_path / "x.toml")) == one
    Applied(one)


def orders(*rows: tuple[str, str, str]) -> list[Record]:
    names = ("Order No", "shop", "created at")
    return [Record(n, b"", dict(zip(names, row, strict=True))) for n, row in enumerate(rows, 1)]


def test_a_proposed_key_may_have_repeats_that_are_the_same_record() -> None:
    rows = [(f"O-{n}", f"Shop-{n % 3}", f"2026-11-03 14:{n:02}:11") for n in range(40)]

    repeated = infer.propose(orders(*rows, rows[3]), "orders")
    assert repeated.mapping.idempotency_key == ("Order No",)
    assert any("1 of 41 are repeats of the same record" in reason for reason in repeated.reasons)

    other = (rows[3][0], "Shop-2", rows[4][2])  # another record under the same number: that would be a conflict
    assert infer.propose(orders(*rows, other), "orders").mapping.idempotency_key == ()


def test_members_of_few_values_are_named_as_what_could_be_the_source() -> None:
    proposal = infer.propose(orders(*[(f"O-{n}", f"Shop-{n % 3}", f"2026-11-03 14:{n:02}:11") for n in range(40)]), "x")

    assert any("source = '{shop}' (3 values)" in reason for reason in proposal.reasons)
    assert proposal.mapping.source == ("x",)
