"""A first mapping for records that nobody has described: proposed from a sample, with the reasons. A person decides."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from pik.errors import UsageError
from pik.items import Record
from pik.mappings.catalog import find, recognise
from pik.mappings.model import Mapping
from pik.mappings.times import rfc3339
from pik.pipeline.parsing import MAX_NAME
from pik.pipeline.strict_json import Rejected, parse_json

SAMPLE = 500  # records
MOST = 100_000  # records that are read on for a date that has one reading only
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
    settled: str = ""  # a value behind the sample that has one reading only, where the sample has several

    @property
    def is_id(self) -> bool:
        return _ID.search(self.path.replace('"', "")) is not None

    @property
    def texts(self) -> list[str]:
        return [str(value) for value in self.values]

    @property
    def distinct(self) -> int:
        return len(set(self.texts))

    @cached_property
    def best(self) -> tuple[list[str], int]:
        """The formats by which most of its values are times, several when they fit equally well, and how many."""
        counts = {form: sum(_is_time(value, form) for value in self.values) for form in ("auto", *_PATTERNS)}
        best = max(counts.values())
        forms = [form for form, count in counts.items() if count == best]
        return (["auto"] if "auto" in forms else forms, best)

    @property
    def forms(self) -> list[str]:
        """Those formats, or the one that a value behind the sample leaves."""
        return [form for form in self.best[0] if not self.settled or _is_time(self.settled, form)]

    def is_time(self) -> bool:
        """Whether most of its values are times, in one format or another."""
        is_text = isinstance(self.values[0], str) and not self.texts[0].isdigit()
        return 2 * self.best[1] > len(self.values) and bool(is_text or _TIME.search(self.path))


@dataclass(frozen=True)
class Proposal:
    """A mapping, why each setting is as it is, and what nobody could tell.

    ``why`` and ``unknown`` are by setting; ``offers``: lines of TOML for settings that are left out, to choose from.
    """

    mapping: Mapping
    why: dict[str, str]
    unknown: dict[str, str] = field(default_factory=dict)
    offers: dict[str, list[str]] = field(default_factory=dict)

    @property
    def reasons(self) -> list[str]:
        """Why each setting is as it is, or that the kit has a mapping for such records."""
        if self.mapping.recognise:
            return [f"these are {self.mapping.about}: --mapping {self.mapping.name}"]
        return [f"{setting}: {why}" for setting, why in self.why.items()]

    @property
    def missing(self) -> list[str]:
        """What nobody could tell."""
        return [f"{setting}: {what}" for setting, what in self.unknown.items()]

    def to_toml(self) -> str:
        """Return the mapping as a table of pik.toml that carries what was decided, and what was not, as comments."""
        settings = [*self.why, *(setting for setting in self.unknown if setting not in self.why)]
        comments = {setting: list[str]() for setting in settings}
        for setting in settings:
            comments[setting] += [f"{setting}: {self.why[setting]}"] if setting in self.why else []
            comments[setting] += [f"not known   {setting}: {self.unknown[setting]}"] if setting in self.unknown else []
            comments[setting] += self.offers.get(setting, [])
        return self.mapping.to_toml(comments)


def propose(records: Iterable[Record], name: str) -> Proposal:
    """Return a mapping for records like these; ``name``: the mapping's, and where nothing better is there its source.

    Raises UsageError when there is nothing to learn from.
    """
    seen, columns, known = 0, dict[str, _Column](), Counter[str]()
    table, left = False, iter(records)
    for record in left:
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
        return Proposal(mapping, {})
    always = [column for column in columns.values() if len(column.values) == seen and all(column.texts)]
    _settle(always, islice(left, MOST))
    return _proposed(name, seen, list(columns.values()), always, table=table)


def _settle(columns: list[_Column], records: Iterator[Record]) -> None:
    """Read on where day and month of a time could be either: a file in order of time begins with days up to 12."""
    time, form = _time(columns)
    if time is None or form:
        return
    for record in records:
        value = dict(_leaves(_document(record) or {})).get(time.path)
        if sum(_is_time(value, one) for one in time.best[0]) == 1:
            time.settled = str(value)
            return


@dataclass
class _Draft:
    """A proposal in the making: settings, why, what is not known, what to choose from."""

    parts: dict[str, Any] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    offers: dict[str, list[str]] = field(default_factory=dict)

    def decide(self, setting: str, value: str | tuple[str, ...], why: str) -> None:
        self.parts[setting], self.why[setting] = value, why


def _proposed(name: str, seen: int, columns: list[_Column], always: list[_Column], *, table: bool) -> Proposal:
    draft = _Draft()
    time = _decide_time(draft, always, seen)
    others = [column for column in always if column is not time and _is_name(column)]
    key = next((c for c in others if c.is_id and _tells_apart(c, always)), None) if seen > 1 else None
    if key:
        repeated = seen - key.distinct
        again = f"; {repeated:,} of {seen:,} are repeats of the same record" if repeated else f" in each of {seen:,}"
        draft.decide("idempotency_key", (key.path,), f"{key.path} is another{again}")
    entity = _entity(others, key)
    if entity:
        why = f"{entity.path} has {entity.distinct:,} values, such as {entity.texts[0]}"
        draft.decide("entity_id", (entity.path,), why + _incomplete(columns, seen))
    else:
        draft.unknown["entity_id"] = "which member says whom or what it is about? (--entity)"
    kind = next((c for c in others if _KIND.search(c.path) and c.distinct <= max(1, min(50, seen // 2))), None)
    reason = f"{kind.path} has {kind.distinct:,} values" if kind else "no member looks like one; a constant"
    draft.decide("event_type", (f"{{{kind.path}}}",) if kind else (name,), reason)
    constant = f"{name}, after the file; a constant{_sources(others, seen, (time, key, entity, kind))}"
    draft.decide("source", (name,), constant)
    if table and (numbers := _numbers(columns, {c.path for c in (time, key, entity, kind) if c})):
        draft.decide("numbers", numbers, f"all cells are, in {', '.join(numbers)}")
    return Proposal(Mapping(name, **draft.parts), draft.why, draft.unknown, draft.offers)


def _decide_time(draft: _Draft, always: list[_Column], seen: int) -> _Column | None:
    """Choose the member that tells the time, its format and its zone; return it, also where its format is unclear."""
    time, form = _time(always)
    if time is None:
        draft.unknown["event_time"] = "no member is a time in most records, or its form is unclear (--time-format)"
        return None
    how = "" if form in ("", "auto") else f" of the form {form}"
    why = f"{time.path} is a time{how} in {time.best[1]:,} of {seen:,}: {time.texts[0]}"
    draft.decide("event_time", (time.path,), why)
    if not form:
        draft.unknown["time_format"] = f"is the day or the month first in {time.path}? one of these:"
        draft.offers["time_format"] = [f'time_format = "{one}"' for one in time.forms]
    elif form != "auto":
        draft.decide("time_format", form, _order(time, form))
    if not any(rfc3339(value, form)[-1] == "Z" for value in time.values if form and _is_time(value, form)):
        draft.why["time_zone"] = "the times have none, so UTC is assumed, and each event says so; where it is known:"
        draft.offers["time_zone"] = ['time_zone = "Europe/Berlin"']
    return time


def _time(columns: list[_Column]) -> tuple[_Column | None, str]:
    """Return the member that tells the time, and its format: one that is called so, or else any text.

    The format is empty where several fit equally well (03/04 is in March or in April); a clear member comes first.
    """
    named_first = sorted(columns, key=lambda column: not _TIME.search(column.path))
    found = sorted((column for column in named_first if column.is_time()), key=lambda column: len(column.forms) > 1)
    if not found:
        return None, ""
    forms = found[0].forms
    return found[0], forms[0] if len(forms) == 1 else ""


def _order(time: _Column, form: str) -> str:
    """Why the day or the month is the first in a format: by a value that has no other reading, or by the dots."""
    if form.startswith("%d."):
        return "the day comes first, as in dates with dots"
    others = [other for other in _PATTERNS if other != form]
    values = [*time.values, time.settled]
    only = (v for v in values if _is_time(v, form) and not any(_is_time(v, other) for other in others))
    first = "day" if form.startswith("%d") else "month"
    return f"the {first} comes first, as in {next(only, time.texts[0])}, which no other order fits"


def _incomplete(columns: list[_Column], seen: int) -> str:
    """Members that are called like an entity but lack a value in some records, and so were not chosen."""
    for column in columns:
        lacking = seen - sum(map(bool, column.texts))
        if _OWNER.search(column.path) and 0 < 2 * lacking < seen:
            return f"; {column.path} was not chosen: it has no value in {lacking:,} of {seen:,}, which would be refused"
    return ""


def _tells_apart(column: _Column, always: list[_Column]) -> bool:
    """Whether records with one value of it are one record, sent again: equal in every member, and few."""
    first = dict[str, tuple[str, ...]]()
    rows = zip(*(other.texts for other in always), strict=True)
    same = all(first.setdefault(value, row) == row for value, row in zip(column.texts, rows, strict=True))
    return same and 10 * column.distinct >= 9 * len(column.values)


def _sources(columns: list[_Column], seen: int, taken: tuple[_Column | None, ...]) -> str:
    """Members of few values, which could be the source: an outage is looked for source by source."""
    few = [c for c in columns if not any(c is one for one in taken) and 2 <= c.distinct <= min(20, seen // 10)]
    sources = ", ".join(f"source = '{{{c.path}}}' ({c.distinct} values)" for c in few if isinstance(c.values[0], str))
    return f"; to watch each by itself: {sources}" if sources else ""


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
