"""Times as people write them, as RFC 3339 with every digit that was given."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_FLOOR, Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

UNITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
AMBIGUOUS = ("refuse", "earlier", "later")
# By its size, a number of 2001 to 2286 can be one of these only.
_SIZES = {10: "s", 13: "ms", 16: "us", 19: "ns"}
_ISO = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)(?:[Tt ](\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?"
    r" ?(?:(Z|z|UTC|GMT)|([+-])(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)


def rfc3339(value: Any, form: str = "auto", zone: str = "", ambiguous: str = "refuse") -> str:
    """Return a time as RFC 3339. Raise ValueError with the reason when it is none.

    Args:
        value: text or a number.
        form: ``s``, ``ms``, ``us``, ``ns`` (since 1970), ``iso``, a pattern of ``strptime`` such as ``%d/%m/%Y %H:%M``;
            ``auto``: ISO 8601 in its usual variants, or a number whose size says its unit.
        zone: what a time without an offset is in, such as ``Europe/Berlin``; without it such a time stays without one.
        ambiguous: which of the two hours is meant when clocks are set back: ``earlier`` or ``later``.

    >>> rfc3339(1795600000123, "auto")
    '2026-11-25T09:46:40.123Z'
    >>> rfc3339("20.11.2026 10:00", "%d.%m.%Y %H:%M", "Europe/Berlin")
    '2026-11-20T09:00:00Z'
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("neither text nor a number")
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
    if form in UNITS:
        return _since_1970(text, form)
    if form == "auto" and _NUMBER.fullmatch(text) and len(text.partition(".")[0]) > 8:
        return _since_1970(text, _unit(text))
    if "%" in form:
        try:
            moment = datetime.strptime(text, form)  # noqa: DTZ007 - the zone follows
        except ValueError:
            raise ValueError(f"not a time of the form {form}") from None
        fraction = f"{moment.microsecond:06d}".rstrip("0")
        return _in_utc(moment.replace(microsecond=0), fraction, zone, ambiguous)
    return _iso(text, zone, ambiguous)


def _unit(text: str) -> str:
    try:
        return _SIZES[len(text.lstrip("-").partition(".")[0])]
    except KeyError:
        raise ValueError("its size does not tell whether these are s, ms, us or ns: give the time's format") from None


def _since_1970(text: str, unit: str) -> str:
    if not _NUMBER.fullmatch(text) or len(text) > 28:  # digits that Decimal computes with exactly
        raise ValueError(f"not a number of {unit} since 1970")
    seconds = Decimal(text).scaleb(-UNITS[unit])
    whole = seconds.to_integral_value(ROUND_FLOOR)
    fraction = format(seconds - whole, "f").partition(".")[2].rstrip("0")
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(whole))
    except OverflowError:
        raise ValueError(f"outside the years 0001 to 9999, as {unit} since 1970") from None
    return _text(moment, fraction)


def _iso(text: str, zone: str, ambiguous: str) -> str:
    match = _ISO.fullmatch(text)
    if match is None:
        raise ValueError("not a time such as 2026-11-20T10:00:00Z; another form? give the time's format")
    *numbers, fraction, utc, sign, hours, minutes = match.groups()
    try:
        moment = datetime(*(int(number or 0) for number in numbers))  # type: ignore[arg-type] # noqa: DTZ001
        if utc or sign:
            offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
            moment = moment.replace(tzinfo=timezone(-offset if sign == "-" else offset))
    except ValueError as error:
        raise ValueError(f"no such time: {error}") from None
    return _in_utc(moment, (fraction or "").rstrip("0"), zone, ambiguous)


def _in_utc(moment: datetime, fraction: str, zone: str, ambiguous: str) -> str:
    if moment.tzinfo is None and not zone:
        return _text(moment, fraction)
    if moment.tzinfo is None:
        moment = _local(moment, zone, ambiguous)
    try:
        return _text(moment.astimezone(UTC), fraction)
    except OverflowError:
        raise ValueError("outside the years 0001 to 9999 in UTC") from None


def _local(moment: datetime, zone: str, ambiguous: str) -> datetime:
    """Return a local time in its zone; raise ValueError when clocks skipped it, or showed it twice."""
    try:
        earlier, later = (moment.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"no such time zone: {zone}") from None
    if earlier.utcoffset() == later.utcoffset():
        return earlier
    if earlier.astimezone(UTC).astimezone(earlier.tzinfo).replace(tzinfo=None) != moment:
        raise ValueError(f"clocks in {zone} skipped it")
    if ambiguous == "refuse":
        which = "say which with ambiguous = 'earlier' or 'later' in the mapping"
        raise ValueError(f"clocks in {zone} showed it twice: {which}")
    return earlier if ambiguous == "earlier" else later


def _text(moment: datetime, fraction: str) -> str:
    text = moment.replace(tzinfo=None).isoformat(timespec="seconds")
    return text + (f".{fraction}" if fraction else "") + ("Z" if moment.tzinfo else "")
