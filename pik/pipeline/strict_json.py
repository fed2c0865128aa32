"""JSON that two readers cannot understand differently (RFC 7493, I-JSON), or a reason why not.

A message says where in the document something is wrong, never what stands there: messages are logged, payloads are not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NoReturn

MAX_DEPTH = 100
_MAX_SHOWN = 64  # characters of a name in a message
_MAX_DIGITS = 400  # a double written out in full has at most 309 digits before the point
_EXACT_INTEGER = 2**53 - 1  # RFC 8785 and RFC 7493, section 2.2
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Rejected(ValueError):
    """The request is refused: ``code`` is stable, the message says why, ``do_this`` what to change."""

    def __init__(self, code: str, message: str, do_this: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.do_this = do_this
        self.status = status


def parse_json(body: bytes, *, new: bool = True) -> Any:
    """Parse strict JSON: UTF-8, no repeated names, no NaN, no number that a double cannot hold. Raise Rejected.

    ``new``: a document that arrives now, and so also: nested at most :data:`MAX_DEPTH` deep, and each number exactly
    the one that its double is written as. ``0.1`` is; ``1.000000000000000001`` is not, because it would be read as 1.
    """
    if not new:
        return _read(body, float, int)
    _check_depth(body)
    try:
        return _read(body, _exact, _exact_integer)
    except _Inexact:
        # Read it again to say where: a document that has a worse fault is refused for that.
        where = next(_inexact_places(_read(body, _marked(_exact), _marked(_exact_integer))))
        message = f"{where}: a number that a double cannot hold exactly"
        raise Rejected("number_out_of_range", message, "send such numbers as strings") from None


def _read(body: bytes, number: Callable[[str], Any], integer: Callable[[str], Any]) -> Any:
    """Parse strict JSON with a reader of fractions and one of integers. Raise Rejected, or what the readers raise."""
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_no_repeats,
            parse_constant=_no_constant,
            parse_float=number,
            parse_int=integer,
        )
    except UnicodeDecodeError as error:
        raise Rejected("not_utf8", f"byte {error.start} is not UTF-8", "send JSON encoded as UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise Rejected("not_json", f"not JSON: {error.msg} at {where}", "send one JSON object") from None
    except RecursionError:
        raise Rejected("too_deep", "nested too deeply", "flatten the payload") from None
    except (Rejected, _Inexact):
        raise
    except ValueError:  # an integer of thousands of digits
        raise Rejected("number_out_of_range", "a number is too long", "send long numbers as strings") from None


def shown(name: str, most: int = _MAX_SHOWN) -> str:
    """Return a name as a message may show it: quoted, escaped, and cut when it has more than ``most`` characters.

    >>> shown("a" * 100)[-6:]
    "aaaa…'"
    """
    return repr(name if len(name) <= most else f"{name[:most]}…")


def is_unicode(text: str) -> bool:
    """Whether it holds no half of a surrogate pair, which JSON can spell and UTF-8 cannot.

    >>> is_unicode("\\U0001f600"), is_unicode("\\ud83d")
    (True, False)
    """
    return text.isascii() or _SURROGATE.search(text) is None


class _Inexact(ValueError):
    """A number is not the one that its double is written as."""


def _exact(text: str) -> float:
    value = float(text)
    if not _holds(value, text):
        raise _Inexact
    return value


def _exact_integer(text: str) -> int:
    if len(text) > 17 or abs(value := int(text)) > _EXACT_INTEGER:
        raise _Inexact
    return value


def _holds(value: float, text: str) -> bool:
    if len(text) > _MAX_DIGITS or value in {float("inf"), float("-inf")}:
        return False
    if not value:  # zero, or something so small that it became zero
        return not text.lower().partition("e")[0].strip("-0.")
    return Decimal(repr(value)) == Decimal(text)


def _marked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a reader that puts :class:`_Inexact` in the place of what ``read`` refuses."""

    def attempt(text: str) -> Any:
        try:
            return read(text)
        except _Inexact:
            return _Inexact

    return attempt


def _inexact_places(document: Any) -> Iterator[str]:
    """Where a document has marks, such as ``payload.items[3].price``."""
    waiting = [("", document)]
    while waiting:
        path, value = waiting.pop()
        if value is _Inexact:
            yield path or "the body"
        elif isinstance(value, dict):
            dot = f"{path}." if path else ""
            waiting += reversed([(f"{dot}{_plain(name)}", below) for name, below in value.items()])
        elif isinstance(value, list):
            waiting += reversed([(f"{path}[{position}]", below) for position, below in enumerate(value)])


def _plain(name: str) -> str:
    return name if name.isidentifier() and len(name) <= _MAX_SHOWN else shown(name)


def _check_depth(body: bytes) -> None:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub(b"", body)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            raise Rejected("too_deep", f"nested more than {MAX_DEPTH} deep", "flatten the payload")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen = set[str]()
        for name, _ in pairs:
            if name in seen:
                message = f"the name {shown(name)} appears twice in one object"
                raise Rejected("repeated_name", message, "send each name once")
            seen.add(name)
    return result


def _no_constant(name: str) -> NoReturn:
    raise Rejected("number_out_of_range", f"{name} is not a JSON number", "send null or a string")
