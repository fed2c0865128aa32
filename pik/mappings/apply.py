"""From a record to its events: what is sent, with the record beside it.

The body that is sent is the kit's own event. Its ``original`` is the record's text, its ``mapping`` the mapping's name
and digest. So whatever reads the event later (the processor, SQL, a notebook, another version of the kit) reads the
same, whatever becomes of the mapping; and what the mapping left out is still there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from pik.events import sha256_json
from pik.items import Item, Record, Trouble, encode
from pik.mappings import model
from pik.mappings.expressions import First, Missing, Path, Unusable, as_text, without
from pik.mappings.times import rfc3339
from pik.pipeline.strict_json import Rejected, parse_json, shown

T = TypeVar("T")
_EXACT = 2**53 - 1
_NAMES = ("source", "event_type", "entity_id")


class Inexact(str):
    """A number that a double cannot hold, as its text: good for names and times, and for a payload when asked."""

    __slots__ = ()


class Failed(ValueError):
    """The record is no event under this mapping."""

    def __init__(self, code: str, reason: str, do_this: str) -> None:
        super().__init__(reason)
        self.trouble = Trouble(code, reason, do_this)


class Applied:
    """A mapping, ready to be used on many records."""

    def __init__(self, mapping: model.Mapping) -> None:
        self.mapping = mapping
        self._names = {name: First(getattr(mapping, name), is_path=name == "entity_id") for name in _NAMES}
        self._time = First(mapping.event_time, is_path=True)
        self._key = First(mapping.idempotency_key, is_path=True) if mapping.idempotency_key else None
        self._payload = [text if text in {model.REST, model.LINE} else Path(text) for text in mapping.payload]
        one = mapping.explode[0] if len(mapping.explode) == 1 else ""
        self._steps = tuple(one.split(".")) if one else mapping.explode

    def items(self, record: Record) -> Iterator[Item]:
        """Yield the events of a record; what is none has its ``trouble``."""
        if record.trouble or record.cut:
            trouble = record.trouble or Trouble("body_too_large", "larger than any body that is taken", "split it")
            yield Item(record.number, b"", record.cut, record.place, trouble, record.text)
            return
        try:
            document = _read(record)
            parts = list(_exploded(document, self._steps))
        except Failed as error:
            yield Item(record.number, b"", False, record.place, error.trouble, record.text)
            return
        for number, (context, own) in enumerate(parts, 1):
            alone = len(parts) == 1
            where = Item(record.number, b"", place=record.place).where
            place = record.place if alone else f"{where}, part {number:,}"
            yield self._item(record, place, context, own, alone=alone)

    def event(self, document: Any, original: bytes, own: Any) -> dict[str, Any]:
        """Return the event of a record, or of one element of its list; ``own``: the record with that alone in the list.

        Raise Failed.
        """
        used: set[str] = set()
        event: dict[str, Any] = {name: self._name(name, document, used) for name in _NAMES}
        event["event_time"] = self._moment(document, used)
        key = self._key_of(document, used, original, own)
        payload = self._payload_of(document, used)
        if key is not None:
            event["idempotency_key"] = key
        text = original.decode("utf-8", "surrogatepass")
        return {**event, "payload": payload, "mapping": self.mapping.reference, "original": text}

    def _item(self, record: Record, place: str, document: Any, own: Any, *, alone: bool) -> Item:
        original = record.text
        try:
            original = original if alone else encode(own)
            body = encode(self.event(document, original, own))
        except Failed as error:
            return Item(record.number, b"", False, place, error.trouble, original)
        except UnicodeEncodeError:
            trouble = Trouble("bad_unicode", "it holds half a surrogate pair", "send valid Unicode")
            return Item(record.number, b"", False, place, trouble, original)
        except (TypeError, ValueError) as error:  # what a function of JMESPath made is no JSON
            trouble = Trouble("bad_value", f"a value is no JSON: {error}", _other_path("payload"))
            return Item(record.number, b"", False, place, trouble, original)
        return Item(record.number, body, place=place, line=original)

    def _name(self, name: str, document: Any, used: set[str]) -> str:
        return _of(name, lambda: as_text(self._names[name].value(document, used)))

    def _moment(self, document: Any, used: set[str]) -> str:
        how = self.mapping

        def moment() -> str:
            return rfc3339(self._time.value(document, used), how.time_format, how.time_zone, how.ambiguous)

        return _of("event_time", moment)

    def _key_of(self, document: Any, used: set[str], original: bytes, own: Any) -> str | None:
        key = self._key
        if key is not None:
            return _of("idempotency_key", lambda: as_text(key.value(document, used)))
        if model.REST in self.mapping.payload or model.LINE in self.mapping.payload:
            return None  # all of the record is in the event's content, which is its identity
        # Records that differ outside of the payload only must not become one event: the second's bytes would be lost.
        # The record's content decides, not its spelling, nor what else was in the same batch.
        return f"record-{hashlib.sha256(original).hexdigest() if _has_inexact(own) else sha256_json(own)}"

    def _payload_of(self, document: Any, used: set[str]) -> Any:
        for where in self._payload:
            found = _of("payload", partial(self._at, where, document, used))
            if found is not None:
                value = found if isinstance(found, dict | list) else {"value": found}
                return self._numbers(value, where)
        paths = [where for where in self._payload if isinstance(where, Path)]
        raise _unmapped("payload", without(paths, document))

    @staticmethod
    def _at(where: str | Path, document: Any, used: set[str]) -> Any:
        if isinstance(where, Path):
            return where.find(document)
        if where == model.LINE or not isinstance(document, Mapping):
            return document
        return {name: value for name, value in document.items() if name not in used}

    def _numbers(self, payload: Any, where: str | Path) -> Any:
        if _has_inexact(payload):
            if self.mapping.inexact == "refuse":
                do_this = 'make texts of such numbers: inexact = "text" in the mapping'
                reason = f"payload{'' if isinstance(where, str) else f' ({where.text})'}: a number that no double holds"
                raise Failed("number_out_of_range", reason, do_this)
            payload = _with_texts(payload)
        if self.mapping.numbers and isinstance(payload, dict):
            return {
                name: _number(value, name) if name in self.mapping.numbers else value for name, value in payload.items()
            }
        return payload


_OPTIONS = {
    "source": "--source",
    "event_type": "--type",
    "entity_id": "--entity",
    "event_time": "--time",
    "idempotency_key": "--key",
    "payload": "--payload",
}


def _other_path(part: str) -> str:
    return f"{_OPTIONS[part]} names another path; of several paths, the first that finds a value counts"


def _of(part: str, value: Callable[[], T]) -> T:
    """Return ``value()``; name the part of the event in what it raises."""
    try:
        return value()
    except (Missing, Unusable) as error:
        raise _unmapped(part, error) from None
    except ValueError as error:
        raise Failed("bad_time", f"{part}: {error}", "--time-format and --time-zone say how to read it") from None


def _unmapped(part: str, error: Missing | Unusable) -> Failed:
    """The failure of a part for which the record has no value."""
    fill = "give it a value in the file; or " if isinstance(error, Missing) and error.empty else ""
    return Failed("unmapped", f"{part}: {error}", f"{fill}{_other_path(part)}")


def _read(record: Record) -> Any:
    """Return a record as values: numbers that a double cannot hold as :class:`Inexact`. Raise Failed."""
    if record.row is not None:
        return dict(record.row)
    try:
        try:
            return parse_json(record.text)
        except Rejected as error:
            if error.code != "number_out_of_range":
                raise
            parse_json(record.text, new=False)  # everything else that may be wrong with it
            return json.loads(record.text, parse_float=_float, parse_int=_int)
    except Rejected as error:
        raise Failed(error.code, error.message, error.do_this) from None


def _float(text: str) -> float | Inexact:
    value = float(text)
    exact = len(text) < 400 and value not in {float("inf"), float("-inf")} and Decimal(repr(value)) == Decimal(text)
    return value if exact else Inexact(text)


def _int(text: str) -> int | Inexact:
    return int(text) if len(text) <= 17 and abs(int(text)) <= _EXACT else Inexact(text)


def _has_inexact(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_inexact, value.values()))
    if isinstance(value, list):
        return any(map(_has_inexact, value))
    return isinstance(value, Inexact) or (type(value) is int and abs(value) > _EXACT)


def _with_texts(value: Any) -> Any:
    """Return a payload with texts in the place of numbers that a double cannot hold."""
    if isinstance(value, dict):
        return {name: _with_texts(below) for name, below in value.items()}
    if isinstance(value, list):
        return [_with_texts(below) for below in value]
    return str(value) if _has_inexact(value) else value


def _number(value: Any, name: str) -> Any:
    if not isinstance(value, str) or isinstance(value, Inexact):
        return value
    if not value.strip():
        return None
    try:
        number = parse_json(value.strip().encode())
    except Rejected:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float):
        reason = f"payload: {shown(name)} is no number: {shown(value)}"
        raise Failed("not_a_number", reason, "take it out of the mapping's numbers; a comma is not a decimal point")
    return number


def _exploded(document: Any, steps: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    """Yield, for each element of the lists: the record with the element in each list's place, and as a list of one."""
    if not steps:
        yield document, document
        return
    here, *rest = steps
    if here != model.LINE and not (isinstance(document, Mapping) and here in document):
        raise Failed("unmapped", f"explode: there is no {shown(here)}", "is it a record of this kind?")
    value = document if here == model.LINE else document[here]
    is_list = isinstance(value, list)
    if is_list and not value:
        raise Failed("no_events", f"explode: the list {shown(here)} is empty", "nothing: it holds no event")
    for element in value if is_list else [value]:
        for context, own in _exploded(element, tuple(rest)):
            kept = [own] if is_list else own
            if here == model.LINE:
                yield context, kept
            else:
                yield {**document, here: context}, {**document, here: kept}
