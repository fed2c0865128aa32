"""What an entry says, as an in-toto Statement: about which things (by digest), of which kind, and what about them.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pik.ledger.kinds import Kind

TYPE = "https://in-toto.io/Statement/v1"
_LARGEST = 2**53 - 1  # the largest whole number that canonical JSON can hold
_DIGESTS = {"sha256": re.compile(r"[0-9a-f]{64}"), "gitCommit": re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")}

Subjects = Mapping[str, Mapping[str, str]]


def subjects(
    *,
    template: str = "",
    code: str = "",
    parameters: str = "",
    notebooks: Mapping[str, str] | None = None,
    commit: str = "",
) -> dict[str, dict[str, str]]:
    """Return what a statement is about, by name; what is empty is left out.

    Args:
        template, code: what is deployed, as :func:`pik.aws.stack.digests` has it (SHA-256).
        parameters: SHA-256 of the stack's parameters as canonical JSON (:func:`pik.events.sha256_json`).
        notebooks: SHA-256 of each source notebook by its path.
        commit: the git commit that was checked out.

    Example:
        >>> subjects(code="7" * 64, commit="9" * 40)["git"]["gitCommit"][:4]
        '9999'
    """
    hashes = {"template": template, "code": code, "parameters": parameters}
    hashes |= {f"notebook:{path}": digest for path, digest in (notebooks or {}).items()}
    found = {name: {"sha256": digest} for name, digest in hashes.items() if digest}
    return found | ({"git": {"gitCommit": commit}} if commit else {})


def statement(kind: Kind, about: Subjects, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the statement of an entry.

    Raises:
        ValueError: it is about nothing, or a digest is none.
    """
    if not about:
        raise ValueError(f"a {kind} must be about something: its subjects are empty")
    for name, digests in about.items():
        for algorithm, digest in digests.items():
            if algorithm not in _DIGESTS or not _DIGESTS[algorithm].fullmatch(digest):
                raise ValueError(f"subject {name}: not a {algorithm} digest: {digest!r}")
    return {
        "_type": TYPE,
        "subject": [{"name": name, "digest": dict(digests)} for name, digests in about.items()],
        "predicateType": kind.predicate_type,
        "predicate": plain(predicate),
    }


def plain(value: Any) -> Any:
    """Return a value as canonical JSON can hold it; what it cannot hold becomes text, so that nothing goes unrecorded.

    >>> plain({"n": 2**60, "share": float("nan"), 7: (1, None)})
    {'n': '1152921504606846976', 'share': 'nan', '7': [1, None]}
    """
    if isinstance(value, Mapping):
        return {_text(str(name)): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= _LARGEST:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    return _text(str(value))


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair, as in a broken file name
