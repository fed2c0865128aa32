"""One entry of the ledger: who did what, where and when, about what; chained by hash to the entry before."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import rfc8785

from pik.events import parse_instant
from pik.ledger.kinds import Kind

FIRST = "0" * 64  # what the first entry has for the hash of the one before
FOLDER, EVIDENCE = "ledger/", "evidence/"
LAST_NUMBER = 99_999_999  # eight digits, so that the order of keys is the order of numbers
RECEIPT_DIGITS = 16
_KEY = re.compile(r"ledger/(\d{8})\.json")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Link:
    """A file of evidence that an entry stands on: where it is in the bucket, and the hash that it must have."""

    key: str
    sha256: str
    media_type: str
    size: int

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.key.rpartition("/")[2]

    def describe(self) -> dict[str, Any]:
        """Return it as an in-toto ResourceDescriptor; its name is the key, so that it also holds in a copy."""
        return {
            "name": self.key,
            "digest": {"sha256": self.sha256},
            "mediaType": self.media_type,
            "annotations": {"size": self.size},
        }

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Link:
        """Return the link that a ResourceDescriptor of ours describes; raise ValueError when it is none."""
        try:
            size = int(described["annotations"]["size"])
            link = cls(str(described["name"]), str(described["digest"]["sha256"]), str(described["mediaType"]), size)
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a link to evidence: {described}") from error
        if not link.key.startswith(EVIDENCE) or link.name in ("", ".", ".."):  # it becomes a file's name
            raise ValueError(f"not a file of evidence: {link.key}")
        return link


@dataclass(frozen=True)
class Entry:
    """What lies in the bucket under :attr:`key`, as canonical JSON (RFC 8785) of exactly these fields.

    Attributes:
        number: 1, 2, …; no number is left out.
        time: when it was written (UTC, as the writer's clock had it).
        kind: what was done or decided.
        environment, stack, account: where.
        by: ARN of the caller, as AWS told it to the writer.
        user, host: who was signed in on which machine; said by that machine.
        previous: hash of the entry before; 64 zeros for the first.
        statement: the in-toto Statement.
        hash: SHA-256 of the canonical JSON of everything but this.
    """

    number: int
    time: str
    kind: Kind
    environment: str
    stack: str
    account: str
    by: str
    user: str
    host: str
    previous: str
    statement: dict[str, Any]
    hash: str = ""

    def __str__(self) -> str:
        return f"ledger entry {self.number} · {self.hash[:RECEIPT_DIGITS]}"

    @property
    def key(self) -> str:
        """Where it lies in the bucket."""
        return key(self.number)

    @property
    def receipt(self) -> str:
        """What proves later that the ledger up to here is the one of now: ``pik ledger verify --receipt``."""
        return f"{self.number}:{self.hash}"

    @property
    def subjects(self) -> dict[str, dict[str, str]]:
        """What the statement is about: digests by name."""
        return {str(item["name"]): dict(item["digest"]) for item in self.statement["subject"]}

    @property
    def predicate(self) -> dict[str, Any]:
        """The statement about the subjects."""
        found: dict[str, Any] = self.statement["predicate"]
        return found

    @property
    def verdict(self) -> str:
        """``passed``, ``failed``, ``inconclusive``, or empty where there is none to give."""
        return str(self.predicate.get("verdict", ""))

    @property
    def phase(self) -> str:
        """Name of the phase concerned, or empty."""
        return str(self.predicate.get("phase", ""))

    @property
    def run(self) -> str:
        """Id of the run that it comes from, or empty."""
        return str(self.predicate.get("run", ""))

    @property
    def sentence(self) -> str:
        """What happened, in one sentence; what the kind means where the predicate has none."""
        return str(self.predicate.get("sentence") or self.kind.meaning)

    @property
    def links(self) -> tuple[Link, ...]:
        """The evidence that it stands on."""
        return tuple(Link.of(item) for item in self.predicate.get("evidence", ()))

    def digest(self, name: str) -> str:
        """Return a subject's digest, whatever its algorithm; empty when it is not about that.

        >>> entry.digest("template") == stack.digests(environment).template          # doctest: +SKIP
        True
        """
        return str(next(iter(self.subjects.get(name, {}).values()), ""))

    def is_about(self, template: str, code: str) -> bool:
        """Whether it is about this template and code, by their digests."""
        return (self.digest("template"), self.digest("code")) == (template, code)

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {**vars(self), "kind": str(self.kind)}

    def computed_hash(self) -> str:
        """Return the hash that its content has; raise ValueError when canonical JSON cannot hold it."""
        content = {name: value for name, value in self.as_dict().items() if name != "hash"}
        return hashlib.sha256(rfc8785.dumps(content)).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the stored form; raise ValueError when canonical JSON cannot hold it."""
        return rfc8785.dumps(self.as_dict())


def parse(body: bytes) -> Entry:
    """Return the entry that a stored record holds, whatever its hash is worth; raise ValueError when it is none."""
    try:
        data = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(data, dict) or set(data) != _FIELDS:
        raise ValueError("not the fields of a record")
    number = data["number"]
    if type(number) is not int or number < 1:
        raise ValueError(f"not a number: {number!r}")
    texts = {name: value for name, value in data.items() if name not in ("number", "statement")}
    wrong = next((name for name, value in texts.items() if not isinstance(value, str)), None)
    if wrong:
        raise ValueError(f"{wrong} is not text")
    if parse_instant(texts["time"]).text != texts["time"]:
        raise ValueError(f"not a time as the kit writes it: {texts['time']}")
    entry = Entry(**{**data, "kind": Kind(data["kind"])})
    _check_statement(entry)
    return entry


def _check_statement(entry: Entry) -> None:
    """Raise ValueError unless everything that an entry's properties read is there."""
    try:
        wanted = isinstance(entry.predicate, dict) and bool(entry.subjects)
        _ = entry.links
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"its statement is none: {error}") from None
    if not wanted:
        raise ValueError("its statement is about nothing")


def key(number: int) -> str:
    """Return where the entry of a number lies in the bucket.

    >>> key(118)
    'ledger/00000118.json'
    """
    return f"{FOLDER}{number:08d}.json"


def number_of(found: str) -> int | None:
    """Return the number that a key stands for; None when it is no entry's."""
    match = _KEY.fullmatch(found)
    return int(match[1]) if match and int(match[1]) else None


def link_after(body: bytes) -> str:
    """Return what the next entry must have as ``previous`` when this is the one before it.

    Its own ``hash``, also when that is not the hash of its content: then the entry itself is what is wrong, and what
    follows stays a chain. The hash of the bytes when they are no entry: the ledger must go on after anything.
    """
    try:
        found = parse(body).hash
    except ValueError:
        found = ""
    return found if _HASH.fullmatch(found) else hashlib.sha256(body).hexdigest()


_FIELDS = {field.name for field in fields(Entry)}
