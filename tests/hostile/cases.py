"""Hostile requests and messages, as data: what is sent, and which answers are right."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.hostile import published

STORED, REFUSED = (200,), (400,)
EITHER = (200, 400)
MARK = "unloggable-4711"  # in every payload; it must appear in no log line and in no answer
FACTS: dict[str, Any] = {
    "source": "hostile",
    "event_type": "t",
    "entity_id": "e",
    "event_time": "2025-01-01T00:00:00Z",
    "payload": {"secret": MARK},
}


@dataclass(frozen=True)
class Case:
    """One request: its area (a row of the table), a name, the bytes and headers, and the statuses that are right."""

    area: str
    name: str
    body: bytes
    right: tuple[int, ...]
    headers: dict[str, str] = field(default_factory=dict)


def event(**changes: Any) -> bytes:
    """Return an event's body with members changed."""
    return json.dumps({**FACTS, **changes}).encode()


def with_payload(text: bytes) -> bytes:
    """Return an event's body whose payload is exactly ``text``."""
    return event(payload=0).replace(b'"payload": 0', b'"payload": ' + text)


def bodies(everything: bool) -> Iterator[Case]:
    """Yield every case of ``POST /ingest``; without ``everything`` a slice of the long lists."""
    yield from _syntax()
    yield from _numbers()
    yield from _names()
    yield from _times()
    yield from _sizes()
    yield from _cloudevents()
    yield from _cloudevents_data()
    yield from _keys()
    yield from _published(everything)


def _syntax() -> Iterator[Case]:
    texts = [
        b"",
        b" ",
        b"\x00",
        b"{",
        b"}",
        b"[]",
        b"null",
        b"true",
        b"1",
        b'"x"',
        b"{}{}",
        b"{,}",
        b'{"a"}',
        b"{'a':1}",
    ]
    texts += [
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"a":1,}',
        b"{a:1}",
        b"//x\n{}",
        b"[" * 100_000,
        b'{"a":' * 9_999,
    ]
    texts += [
        b"NaN",
        b"\xed\xa0\x80",
        b'"\\ud800"',
        b'{"\\ud800":1}',
        b"<xml/>",
        b"a=b&c=d",
        b"\x1f\x8b\x08\x00",
        b"{" * 101,
    ]
    for number, text in enumerate(texts):
        yield Case("JSON syntax", f"text {number}", text, REFUSED)
    yield Case("JSON syntax", "repeated name", event().replace(b'"source"', b'"source": "x", "source"'), REFUSED)
    yield Case("JSON syntax", "repeated name in payload", with_payload(b'{"a": 1, "a": 2}'), REFUSED)
    yield Case("JSON syntax", "unknown field", event(idempotencyKey="k"), REFUSED)
    yield Case("JSON syntax", "unknown field of 1 MB", event(**{"x" * 1_000_000: 1}), REFUSED)
    many = json.dumps({f"n{n}": n for n in range(100_000)})
    yield Case("JSON syntax", "100,000 names", with_payload(many.encode()), STORED)
    yield Case("JSON syntax", "100,000 names, one twice", with_payload(many.encode()[:-1] + b', "n1": 1}'), REFUSED)


def _numbers() -> Iterator[Case]:
    held = ["0", "-0", "0.1", "1e5", "1.7976931348623157e308", "5e-324", "9007199254740991", "1.10"]
    lost = [
        "1.000000000000000001",
        "1161888007138312193.0",
        "9007199254740993",
        "1e400",
        "1e-400",
        "0.10000000000000001",
    ]
    lost += ["1" * 5_000, "0." + "3" * 100_000, "1e99999999999999999999", "6304123456789012345"]
    for right, texts in ((STORED, held), (REFUSED, lost)):
        for text in texts:
            yield Case("numbers", text[:30], with_payload(f'{{"n": [{text}]}}'.encode()), right)
    for text in ("NaN", "Infinity", "-Infinity", "01", "+1", ".5", "1.", "0x10", "1_000", "١"):
        yield Case("numbers", text, with_payload(f'{{"n": {text}}}'.encode()), REFUSED)


def _names() -> Iterator[Case]:
    good = [
        "a/b",
        "..",
        "../../etc/passwd",
        "%2e%2e",
        "a#b|c=d",
        "<img src=x onerror=alert(1)>",
        "=1+1",
        "{{7*7}}",
        "ü" * 256,
    ]
    good += [
        "漢" * 256,
        "a b",
        " ",
        "'; DROP TABLE x;--",
        "$(reboot)",
        "\u202eevil",
        "\u200b",
        "e\u0301",
        "[red]x[/red]",
        "👩‍👩‍👧",
    ]
    bad = [
        "",
        "x" * 257,
        "a\x00b",
        "a\x1b]52;c;cm0=\x07",
        "\r\nforged",
        "\x7f",
        "\x9b31m",
        "\ufffe",
        "\uffff",
        "\ufdd0",
    ]
    for field_name in ("source", "event_type", "entity_id", "idempotency_key"):
        for number, name in enumerate(good):
            yield Case("names", f"{field_name} {number}", event(**{field_name: name}), (200, 409))
        for number, name in enumerate(bad):
            yield Case("names", f"{field_name} bad {number}", event(**{field_name: name}), REFUSED)
        for number, value in enumerate((7, True, [], {}, 1.5)):
            yield Case("names", f"{field_name} type {number}", event(**{field_name: value}), REFUSED)
        yield Case("names", f"{field_name} surrogate", event(**{field_name: "\ud800"}), REFUSED)


def _times() -> Iterator[Case]:
    good = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2025-01-01t00:00:00z", "2025-01-01 00:00:00"]
    good += ["2024-02-29T00:00:00Z", "2025-01-01T00:00:00." + "9" * 18 + "Z", "2025-01-01T00:00:00-23:59"]
    bad = [
        "",
        "now",
        "2025-01-01",
        "2025-02-29T00:00:00Z",
        "2025-01-01T24:00:00Z",
        "2025-01-01T23:59:60Z",
        "1735689600",
    ]
    bad += ["0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "2025-01-01T00:00:00+24:00"]
    bad += [
        "2025-01-01T00:00:00." + "1" * 450_000 + "Z",
        "٢٠٢٥-01-01T00:00:00Z",
        "2025-01-01T00:00:00Z\n",
        "x" * 1_000_000,
    ]
    for right, texts in ((STORED, good), (REFUSED, bad)):
        for text in texts:
            yield Case("times", text[:30], event(event_time=text), right)
    others: tuple[Any, ...] = (1735689600, None, True, [], {})
    for value in others:
        yield Case("times", repr(value), event(event_time=value), REFUSED)


def _sizes() -> Iterator[Case]:
    yield Case("sizes", "nested 100", with_payload(b"[" * 99 + b"]" * 99), STORED)
    yield Case("sizes", "nested 101", with_payload(b"[" * 101 + b"]" * 101), REFUSED)
    yield Case("sizes", "nested 976", with_payload(b'{"a":' * 976 + b"1" + b"}" * 976), REFUSED)
    yield Case("sizes", "4.4 MB", with_payload(b'{"x": "' + b"a" * 4_400_000 + b'"}'), STORED)
    yield Case("sizes", "4.6 MB", with_payload(b'{"x": "' + b"a" * 4_600_000 + b'"}'), (413,))
    yield Case("sizes", "1,500 numbers", with_payload(json.dumps({f"m{n}": n for n in range(1_500)}).encode()), STORED)
    for text in (b"null", b"1", b'"x"', b"true"):
        yield Case("sizes", f"payload {text.decode()}", with_payload(text), REFUSED)
    for size in (300, 3_000):
        yield Case(
            "sizes", f"X-Request-Id of {size}", event(entity_id=f"id{size}"), STORED, {"x-request-id": "/" * size}
        )
        yield Case(
            "sizes", f"type of {size}", event(entity_id=f"ct{size}"), STORED, {"content-type": "x/" + "y" * size}
        )


def _cloudevents() -> Iterator[Case]:
    base = {
        "specversion": "1.0",
        "id": "1",
        "source": "hostile",
        "type": "ce",
        "subject": "e",
        "time": "2025-01-01T00:00:00Z",
    }

    def structured(**changes: Any) -> bytes:
        return json.dumps({**base, "data": {"secret": MARK}, **changes}).encode()

    yield Case("CloudEvents", "structured", structured(), STORED)
    yield Case("CloudEvents", "id null", structured(id=None), REFUSED)
    yield Case("CloudEvents", "id empty", structured(id=""), REFUSED)
    yield Case("CloudEvents", "two payloads", structured(data_base64="e30="), REFUSED)
    yield Case("CloudEvents", "version of 1 MB", structured(specversion="9" * 1_000_000), REFUSED)
    yield Case("CloudEvents", "not base64", json.dumps({**base, "data_base64": "!"}).encode(), REFUSED)
    deep = base64.b64encode(b"[" * 5_000).decode()
    yield Case("CloudEvents", "deep base64", json.dumps({**base, "data_base64": deep}).encode(), REFUSED)
    headers = {f"ce-{name}": value for name, value in base.items()}
    subjects: dict[str, tuple[int, ...]] = {"caf%C3%A9": STORED, "caf%E9": REFUSED, "%": (200, 409), "%00": REFUSED}
    for subject, right in subjects.items():
        yield Case(
            "CloudEvents", f"binary {subject}", event(), right, {**headers, "ce-id": subject, "ce-subject": subject}
        )


def _cloudevents_data() -> Iterator[Case]:
    attributes = {"specversion": "1.0", "source": "hostile", "type": "data", "time": "2025-01-01T00:00:00Z"}
    sent: list[tuple[str, str, bytes, tuple[int, ...]]] = [
        ("no data", "text/plain", b"", STORED),
        ("every character of ASCII", "text/plain", bytes(range(128)) + MARK.encode(), STORED),
        ("every byte", "application/octet-stream", bytes(range(256)) + MARK.encode(), STORED),
        ("brackets", "text/plain", b"[" * 100_000, REFUSED),
        ("a number that loses digits", "text/plain", b"[1.000000000000000001]", REFUSED),
        ("half a surrogate pair", "application/json", b'"\\ud800"', REFUSED),
        ("another format", "application/cloudevents+avro", b"\x00", REFUSED),
    ]
    for number, (name, kind, body, right) in enumerate(sent):
        headers = {f"ce-{name}": value for name, value in attributes.items()}
        yield Case("CloudEvents", name, body, right, {**headers, "ce-id": f"data-{number}", "content-type": kind})
    event = {**attributes, "id": "batched"}
    yield Case("CloudEvents", "batch", json.dumps([event] * 1_000).encode(), REFUSED)
    yield Case("CloudEvents", "attribute of 1 MB", json.dumps({**event, "x" * 1_000_000: 1.5}).encode(), REFUSED)


def _keys() -> Iterator[Case]:
    values: dict[str, tuple[int, ...]] = {
        '"a"': STORED,
        "%00": STORED,
        "{}<b>": STORED,
        '"' + r"\"" * 256 + '"': STORED,
        '"': REFUSED,
        '""': REFUSED,
        '"a";x=1': REFUSED,
        "a,b": REFUSED,
        "a b": REFUSED,
        "k" * 257: REFUSED,
        "k" * 5_000: REFUSED,
    }
    for number, (value, right) in enumerate(values.items()):
        body = event(entity_id=f"key-{number}")
        yield Case("Idempotency-Key", value[:20], body, right, {"idempotency-key": value})


def _published(everything: bool) -> Iterator[Case]:
    step = 1 if everything else 10
    for name, text in list(published.json_texts().items())[::step]:
        yield Case("JSON suite as body", name, text, REFUSED)
        # What JSON allows may still be refused: a scalar, a name given twice, a number that no double holds.
        right = REFUSED if name.startswith("n_") else EITHER
        yield Case("JSON suite as payload", name, with_payload(text), right)
    for number, string in enumerate(published.naughty_strings()[::step]):
        for field_name in ("source", "event_type", "entity_id", "idempotency_key"):
            answers = REFUSED if not string or len(string) > 256 else (200, 400, 409)
            yield Case("naughty names", f"{field_name} {number}", event(**{field_name: string}), answers)
        payload = {"text": string, string: 1}
        yield Case("naughty payloads", f"{number}", event(payload=payload, entity_id=f"n{number}"), STORED)


def cursors(ours: str) -> Iterator[tuple[str, Any]]:
    """Yield cursors that we did not write, made from one that we did."""
    digest, replay_id, after = json.loads(base64.urlsafe_b64decode(ours))
    parts: list[Any] = [
        [digest, "<img src=x onerror=alert(1)>", after],
        [digest, "", after],
        [digest, "../../etc", after],
        [digest, replay_id, "HEAD"],
        [digest, replay_id, "x" * 3_000],
        [digest, replay_id, after.replace("2025", "2024")],
        [digest, replay_id, 5],
        [digest, {}, after],
        [digest, replay_id],
        {"digest": digest},
        None,
        "\ud800",
    ]
    for number, part in enumerate(parts):
        yield f"parts {number}", base64.urlsafe_b64encode(json.dumps(part).encode()).decode()
    yield "deep", base64.urlsafe_b64encode(b"[" * 100_000).decode()
    yield "not base64", "???"
    yield "a number", 5
    yield "a list", [ours]
    yield "not ours at all", "\ud800"


def messages(good: str) -> Iterator[tuple[str, str]]:
    """Yield messages that the processor can never process, most made from one that it could."""
    yield "not JSON", "not json"
    yield "deep", "[" * 100_000
    yield "empty object", "{}"
    yield "a list", "[]"
    changes: list[dict[str, Any]] = [
        {"v": True},
        {"v": 2},
        {"replay_id": "<img src=x onerror=alert(1)>"},
        {"replay_id": "../../etc"},
        {"replay_id": 5},
        {"event_id": "0" * 64},
        {"entity_id": ""},
        {"s3_key": "raw\ud800"},
        {"s3_key": "raw/\ud800"},
        {"s3_key": "raw/\x00\uffff"},
        {"s3_key": "raw/" + "x" * 2_000},
        {"s3_key": "../other"},
        {"s3_key": "\x1b]52;c;cm0=\x07"},
        {"s3_bucket": "somebody-elses"},
        {"payload_sha256": "0" * 64},
        {"source": None},
    ]
    for change in changes:
        yield f"{next(iter(change))} {next(iter(change.values()))!r:.40}", json.dumps({**json.loads(good), **change})
