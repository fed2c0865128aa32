"""DynamoDB's condition expressions, as far as the pipeline writes them.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html: a comparison
with an attribute that is missing is false.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from operator import eq, ge, gt, le, lt, ne
from typing import Any

Item = Mapping[str, Any]
Test = Callable[[Item, Mapping[str, str], Item], bool]
_OPERATORS = {"=": eq, "<>": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
_TOKENS = re.compile(r"\s*(attribute_not_exists|begins_with|BETWEEN|AND|OR|<=|>=|<>|[=<>(),]|[#:]?\w+)")


def holds(expression: str, item: Item, names: Mapping[str, str], values: Item) -> bool:
    """Whether ``item`` (empty: there is none) meets a condition."""
    return _compiled(expression)(item, names, values)


@cache
def _compiled(expression: str) -> Test:
    tokens = [match[1] for match in _TOKENS.finditer(expression)]
    test, rest = _any(tokens)
    assert not rest, f"not understood: {rest}"
    return test


def _any(tokens: list[str]) -> tuple[Test, list[str]]:
    left, rest = _all(tokens)
    if rest[:1] == ["OR"]:
        right, rest = _any(rest[1:])
        return lambda *seen: left(*seen) or right(*seen), rest
    return left, rest


def _all(tokens: list[str]) -> tuple[Test, list[str]]:
    left, rest = _one(tokens)
    if rest[:1] == ["AND"]:
        right, rest = _all(rest[1:])
        return lambda *seen: left(*seen) and right(*seen), rest
    return left, rest


def _one(tokens: list[str]) -> tuple[Test, list[str]]:
    if tokens[0] == "(":
        inner, rest = _any(tokens[1:])
        assert rest[0] == ")"
        return inner, rest[1:]
    if tokens[0] == "attribute_not_exists":
        name = tokens[2]
        return lambda item, names, _: names.get(name, name) not in item, tokens[4:]
    if tokens[0] == "begins_with":
        name, prefix = tokens[2], tokens[4]
        return lambda *seen: str(_plain(name, *seen) or "").startswith(str(_plain(prefix, *seen))), tokens[6:]
    if tokens[1] == "BETWEEN":
        name, low, high = tokens[0], tokens[2], tokens[4]
        between, _ = _all([name, ">=", low, "AND", name, "<=", high])
        return between, tokens[5:]
    left, operator, right = tokens[:3]
    return lambda *seen: _compare(_plain(left, *seen), operator, _plain(right, *seen)), tokens[3:]


def _plain(token: str, item: Item, names: Mapping[str, str], values: Item) -> Any:
    found = values[token] if token.startswith(":") else item.get(names.get(token, token))
    if found is None:
        return None
    ((kind, value),) = found.items()
    return Decimal(value) if kind == "N" else value


def _compare(left: Any, operator: str, right: Any) -> bool:
    """Compare; what is missing, or of another type, differs and is neither smaller nor larger."""
    if left is None or right is None or type(left) is not type(right):
        return operator == "<>" and left is not None
    return bool(_OPERATORS[operator](left, right))
