"""A first mapping for records that nobody has described: proposed from a sample, with the reasons. A person decides."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pik.errors import UsageError
from pik.items import Record
from pik.mappings.catalog import find, recognise
from pik.mappings.model import Mapping
from pik.mappings.times import rfc3339
from pik.pipeline.parsing import MAX_NAME
from pik.pipeline.strict_json import Rejected, parse_json

SAMPLE = 500  # records
_DEEPEST = 3
_TIME = re.compile(r"event.?time|timestamp|occurred|created|date|time|(^|[_.])(ts|at|on)$|tstamp", re.IGNORECASE)
_ID = re.compile(r"(?i:(^|[_.\s])(id|uuid|guid|key|no|nr|number))$|Id$|ID$")
_OWNER = re.compile(r"customer|user|account|client|device|sensor|machine|order|entity|host|vehicle", re.IGNORECASE)
_KIND = re.compile(r"(^|[_.])(event.?type|event.?name|event|type|kind|action|operation|category)$", re.IGNORECASE)
# Day and month first; what a sample allows both ways is not guessed.
_DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
_PATTERNS = tuple(f"{day}{hour}" for hour in (" %H:%M:%S", " %H:%M", "") for day in _DAYS)


@dataclass
class _Column:
    """What a sample shows at one path."""

    path: str
    values: list[Any] = field(default_factory=list)

    @property
    def is_id(self) -> bool:
        return _ID.search(self.path.replace('"', "")) is not None

    @property
    def texts(self) -> list[str]:
        return [str(value) for value in self.values]

    @property
    def distinct(self) -> int:
        return len(set(self.texts))

    def times(self) -> tuple[str, int]:
        """The format by which most of its values are times, and how many; empty when two fit equally well."""
        counts = {form: sum(_is_time(value, form) for value in self.values) for form in ("auto", *_PATTERNS)}
        best = max(counts.values())
        forms = [form for form, count in counts.items() if count == best]
        return (forms[0] if forms[0] == "auto" or len(forms) == 1 else "", best)


@dataclass(frozen=True)
class Proposal:
    """A mapping, why each part is as it is, and what nobody could tell."""

    mapping: Mapping
    reasons: list[str]
    missing: list[str]


def propose(records: Iterable[Record], name: str) -> Proposal:
    """Return a mapping for records like these; ``name``: the mapping's, and where nothing better is there its source.

    Raises UsageError when there is nothing to learn from.
    """
    seen, columns, known = 0, dict[str, _Column](), Counter[str]()
    table = False
    for record in records:
        document = _document(record)
        if document is None:
            continue
        seen += 1
        table = table or record.row is not None
        if record.row is None and (mapping := recognise(record.text)):
            known[mapping.name] += 1
        for path, value in _leaves(document):
            columns.setdefault(path, _Column(path)).values.append(value)
        if seen == SAMPLE:
            break
    if not seen:
        raise UsageError("there is no record to learn from", next_step="a file of JSON objects, CSV or Parquet")
    if known and known.most_common(1)[0][1] > seen / 2:
        mapping = find(known.most_common(1)[0][0])
        return Proposal(mapping, [f"these are {mapping.about}: --mapping {mapping.name}"], [])
    return _proposed(name, seen, list(columns.values()), table=table)


def _proposed(name: str, seen: int, columns: list[_Column], *, table: bool) -> Proposal:
    always = [column for column in columns if len(column.values) == seen and all(column.texts)]
    reasons, missing, parts = list[str](), list[str](), dict[str, Any]()
    time, form = _time(always)
    if time:
        parts |= {"event_time": (time.path,)} | ({"time_format": form} if form != "auto" else {})
        how = "" if form == "auto" else f" of the form {form}"
        reasons.append(f"event_time: {time.path} is a time{how} in {time.times()[1]:,} of {seen:,}: {time.texts[0]}")
        if not any(rfc3339(value, form)[-1] == "Z" for value in time.values if _is_time(value, form)):
            reasons.append('time_zone: the times have none, so UTC is assumed; another? time_zone = "Europe/Berlin"')
    else:
        missing.append("event_time: no member is a time in most records, or its form is unclear (--time-format)")
    others = [column for column in always if column is not time and _is_name(column)]
    key = next((c for c in others if c.is_id and _tells_apart(c, always)), None) if seen > 1 else None
    if key:
        parts["idempotency_key"] = (key.path,)
        repeated = seen - key.distinct
        again = f"; {repeated:,} of {seen:,} are repeats of the same record" if repeated else f" in each of {seen:,}"
        reasons.append(f"idempotency_key: {key.path} is another{again}")
    entity = _entity(others, key)
    if entity:
        parts["entity_id"] = (entity.path,)
        reasons.append(f"entity_id: {entity.path} has {entity.distinct:,} values, such as {entity.texts[0]}")
    else:
        missing.append("entity_id: which member says whom or what it is about? (--entity)")
    kind = next((c for c in others if _KIND.search(c.path) and c.distinct <= max(1, min(50, seen // 2))), None)
    parts["event_type"] = (f"{{{kind.path}}}",) if kind else (name,)
    told = f"{kind.path} has {kind.distinct:,} values" if kind else "no member looks like one; a constant"
    reasons.append(f"event_type: {told}")
    parts["source"] = (name,)
    reasons.append(f"source: {name}, after the file; a constant{_sources(others, seen, (time, key, entity, kind))}")
    if table and (numbers := _numbers(columns, {c.path for c in (time, key, entity, kind) if c})):
        parts["numbers"] = numbers
        reasons.append(f"numbers: all cells are, in {', '.join(numbers)}")
    return Proposal(Mapping(name, **parts), reasons, missing)


def _time(columns: list[_Column]) -> tuple[_Column | None, str]:
    """Return the member that tells the time, and its format: one that is called so, or else any text."""
    for column in sorted(columns, key=lambda column: not _TIME.search(column.path)):
        form, count = column.times()
        is_text = isinstance(column.values[0], str) and not column.texts[0].isdigit()
        if form and 2 * count > len(column.values) and (is_text or _TIME.search(column.path)):
            return column, form
    return None, ""


def _tells_apart(column: _Column, always: list[_Column]) -> bool:
    """Whether records with one value of it are one record, sent again: equal in every member, and few."""
    first = dict[str, tuple[str, ...]]()
    rows = zip(*(other.texts for other in always), strict=True)
    same = all(first.setdefault(value, row) == row for value, row in zip(column.texts, rows, strict=True))
    return same and 10 * column.distinct >= 9 * len(column.values)


def _sources(columns: list[_Column], seen: int, taken: tuple[_Column | None, ...]) -> str:
    """Members of few values, which could be the source: an outage is looked for source by source."""
    few = [c for c in columns if not any(c is one for one in taken) and 2 <= c.distinct <= min(20, seen // 10)]
    told = ", ".join(f"source = '{{{c.path}}}' ({c.distinct} values)" for c in few if isinstance(c.values[0], str))
    return f"; to watch each by itself: {told}" if told else ""


def _entity(columns: list[_Column], key: _Column | None) -> _Column | None:
    owners = [c for c in columns if _OWNER.search(c.path) and (c.is_id or "." not in c.path)]
    ids = [c for c in columns if c.is_id and c is not key]
    return next((c for c in [*[o for o in owners if o is not key], *ids, *([key] if key else [])]), None)


def _numbers(columns: list[_Column], taken: set[str]) -> tuple[str, ...]:
    found = [c for c in columns if c.path not in taken and not c.is_id and "." not in c.path]
    return tuple(c.path for c in found if any(c.texts) and all(_is_number(text) for text in c.texts if text))


def _is_number(text: str) -> bool:
    try:
        value = parse_json(text.encode())
    except Rejected:
        return False
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_name(column: _Column) -> bool:
    return all(isinstance(v, str | int) and not isinstance(v, bool) and len(str(v)) <= MAX_NAME for v in column.values)


def _is_time(value: Any, form: str) -> bool:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return False
    try:
        return rfc3339(value, form)[:2] in {"19", "20"}
    except ValueError:
        return False


def _document(record: Record) -> dict[str, Any] | None:
    if record.row is not None:
        return dict(record.row)
    try:
        document = parse_json(record.text, new=False)
    except Rejected:
        return None
    return document if isinstance(document, dict) else None


def _leaves(value: dict[str, Any], path: tuple[str, ...] = ()) -> Iterable[tuple[str, Any]]:
    for name, below in value.items():
        here = (*path, name)
        if isinstance(below, dict) and len(here) < _DEEPEST:
            yield from _leaves(below, here)
        elif not isinstance(below, dict | list) and below is not None:
            yield _spelt(here), below


def _spelt(names: tuple[str, ...]) -> str:
    """Return a path as a mapping spells it."""
    if len(names) == 1:
        return names[0]
    return ".".join(name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else f'"{name}"' for name in names)
