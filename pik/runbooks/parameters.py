"""Typed parameters of a runbook: what ``-p name=value`` may say, and what it must never say.

papermill writes parameters in clear text into the executed notebook, into its metadata and (here) into ``run.json`` and
the report. So what looks like a secret, by name or by value, is refused before anything runs.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from pik import config
from pik.errors import UsageError
from pik.events import format_time, parse_time
from pik.runbooks.suggest import did_you_mean
from pik.text import named

Kind = Literal["string", "integer", "number", "boolean", "choice", "date", "datetime", "environment", "events"]
Value = str | int | float | bool

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|pwd|secrets?|token|credentials?|bearer|"
    r"(?:api|access|private|secret|signing|session)_?keys?)(?:_|$)"
)
_SECRET_VALUES = (
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "an AWS access key id"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"), "a private key"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\."), "a JSON web token"),
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|npm_|pypi-|xox[abpr]-|sk-|whsec_)[\w-]{16,}"), "an access token"),
    (re.compile(r"\b(?:(?:sk|rk)_(?:live|test)_\w{16,}|AIza[\w-]{35})"), "an API key"),
    (re.compile(r"(?:X-(?:Amz|Goog)-Signature|[?&]sig|AccountKey|SharedAccessKey)=[\w%+/-]{16,}"), "a signed address"),
    (re.compile(r"://[^/\s:@]+:[^/\s@]+@"), "a password in an address"),
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")
_SEPARATORS, _HEX = re.compile(r"[/_+-]"), re.compile(r"[0-9a-f]{8,}|[0-9A-F]{8,}")
_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


class Parameter(BaseModel):
    """One declared parameter of a runbook.

    ``type`` is one of :data:`Kind`; without ``default`` the parameter is required; ``choices`` belong to ``choice``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Kind
    description: str = ""
    default: Value | None = None
    choices: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """Whether a run must give a value."""
        return "default" not in self.model_fields_set

    @model_validator(mode="before")
    @classmethod
    def _dates_are_text(cls, data: Any) -> Any:
        # YAML reads an unquoted 2013-01-01 as a date; notebooks get text.
        if isinstance(data, dict) and hasattr(data.get("default"), "isoformat"):
            return {**data, "default": data["default"].isoformat()}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Parameter:
        if (self.type == "choice") != bool(self.choices):
            raise ValueError("'choices' is needed by, and only allowed for, type choice")
        if self.default is not None:
            self.parse("default", self.default)
        return self

    def parse(self, name: str, value: object, *, allow: bool = False) -> Value:
        """Return ``value`` (usually text from the command line) as this parameter's type; raise UsageError.

        ``allow``: take it although it looks like a secret, when nothing but its looks says so.

        >>> Parameter(type="integer").parse("limit", "10")
        10
        """
        text = str(value).lower() if isinstance(value, bool) else str(value)
        refuse_secret_value(name, text, allow=allow)
        try:
            return _choice(text, self.choices) if self.type == "choice" else _PARSERS[self.type](text)
        except ValueError as error:
            raise UsageError(
                f"parameter {name}: {error}", reason=f"it is of type {self.type}", next_step=self.hint(name)
            ) from None

    def same(self, other: Parameter) -> bool:
        """Whether it takes the same values and has the same default, whatever its description."""
        return (self.type, self.choices, self.default) == (other.type, other.choices, other.default)

    def hint(self, name: str) -> str:
        """How to write it on the command line."""
        example = "|".join(self.choices) if self.choices else _example(self.type)
        return f"-p {name}={example}"


def _boolean(text: str) -> bool:
    if text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    raise ValueError(f"{text!r} is neither true nor false")


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a finite number")
    return number


def _choice(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(f"{text!r} is not one of {', '.join(choices)}{did_you_mean(text, choices)}")
    return text


_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"{text!r} is not a date") from None


def _datetime(text: str) -> str:
    try:  # a day is its first moment
        return format_time(parse_time(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text))
    except ValueError:
        raise ValueError(f"{text!r} is neither a day nor an RFC 3339 time") from None


def _environment(text: str) -> str:
    return _choice(text, config.names())


def _events(text: str) -> str:
    name, _, day = text.partition(":")
    if name == "flights":
        return f"{name}:{_date(day)}" if day else name
    if text.startswith("s3://"):
        return text
    path = Path(text).expanduser()
    if text == "-" or not path.exists():
        raise ValueError(f"{text!r} is no file, no folder and no named data set (flights, flights:<date>)")
    return str(path.resolve())  # absolute: the notebook runs in another directory, and so does a resume


_PARSERS: dict[str, Callable[[str], Value]] = {
    "string": str,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "environment": _environment,
    "events": _events,
}
_EXAMPLES = {
    "string": "text",
    "integer": "10",
    "number": "0.5",
    "boolean": "true|false",
    "date": "2013-01-01",
    "datetime": "2013-01-01T00:00:00Z",
    "events": "flights:2013-01-01, a path, or s3://bucket/key",
}


def _example(kind: str) -> str:
    return "|".join(config.names()) if kind == "environment" else _EXAMPLES[kind]


def parse(
    declared: Mapping[str, Parameter], env: str, given: Mapping[str, object], allow: Collection[str] = ()
) -> dict[str, Value]:
    """Return a value for every declared parameter: given, or default; raise UsageError at the first mistake.

    Refuses secret-looking names and values, unknown names (with a suggestion) and missing ones. ``allow``: names of
    parameters whose values only look like secrets.

    >>> parse({"limit": Parameter(type="integer", default=5)}, "local", {})
    {'env': 'local', 'limit': 5}
    """
    _check_names(declared, given, allow)
    if str(given.get("env", env)) != env:
        raise UsageError(f"--env says {env}, -p env says {given['env']}", next_step=f"--env {given['env']}")
    values: dict[str, Value] = {"env": Parameter(type="environment").parse("env", env)}
    for name, parameter in declared.items():
        if name == "env":
            continue
        if name in given:
            values[name] = parameter.parse(name, given[name], allow=name in allow)
        elif parameter.required:
            raise UsageError(f"parameter {name} is needed", next_step=parameter.hint(name))
        elif parameter.default is not None:
            values[name] = parameter.parse(name, parameter.default)
    return values


def _check_names(declared: Mapping[str, Parameter], given: Mapping[str, object], allow: Collection[str]) -> None:
    for name in allow:
        if name not in given:
            raise UsageError(f"--allow-value {name}: there is no value for it", next_step=f"-p {name}=VALUE")
    for name in given:
        refuse_secret_name(name)
        if name not in declared and name != "env":
            known = [other for other in declared if other != "env"]
            raise UsageError(
                f"no such parameter: {named(name)}{did_you_mean(name, known)}",
                next_step=f"one of {', '.join(known)}" if known else "this runbook takes no parameters",
            )


def refuse_secret_name(name: str) -> None:
    """Raise UsageError when a parameter's name promises a secret."""
    if _SECRET_NAME.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).lower()):
        raise _secret(name, "its name says that it holds a secret")


def refuse_secret_value(name: str, text: str, *, allow: bool = False) -> None:
    """Raise UsageError when a value looks like a secret; the value itself is not repeated.

    ``allow``: somebody said that it is none. What has the form of a known secret is refused all the same.
    """
    for pattern, what in _SECRET_VALUES:
        if pattern.search(text):
            raise _secret(name, f"its value looks like {what}")
    if not allow and any(_random_looking(run) for run in _BASE64.findall(text)):
        error = _secret(name, "its value looks like a base64 secret")
        error.next_step = f"when it is none: --allow-value {name}; else {error.next_step}"
        raise error


def _secret(name: str, reason: str) -> UsageError:
    return UsageError(
        f"parameter {name} is refused: {reason}",
        reason="parameters are kept in clear text in the executed notebook, run.json and the report",
        next_step="keep it where notebooks read credentials from: your AWS profile, Secrets Manager or SSM",
    )


def _random_looking(run: str) -> bool:
    return any(_is_mixed(part) for part in {run, *run.split("/")} if len(part) >= 40)


def _is_mixed(text: str) -> bool:
    """Whether its characters come in no order, as those of a random key of 40 base64 characters do.

    A key changes between small, large and digit at two of three steps; addresses, paths and names, which are words, at
    one of three at most. A digest in a path is hexadecimal, and says nothing.
    """
    kinds = [[_kind(character) for character in word] for word in _SEPARATORS.split(text) if not _HEX.fullmatch(word)]
    steps = sum(max(0, len(word) - 1) for word in kinds)
    changes = sum(one is not other for word in kinds for one, other in pairwise(word))
    counts = Counter(text).values()
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in counts)
    every = {kind for word in kinds for kind in word} >= {str.isupper, str.islower, str.isdigit}
    return every and steps >= 20 and changes > steps / 3 and entropy > 4.4


def _kind(character: str) -> Callable[[str], bool]:
    return next((kind for kind in (str.isupper, str.islower, str.isdigit) if kind(character)), str.isspace)
