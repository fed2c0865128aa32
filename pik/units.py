"""Bytes and seconds as people read them: one way everywhere."""

from __future__ import annotations

DAY = 86_400


def size(number: float) -> str:
    """Return bytes for people.

    >>> size(1_900_000_000)
    '1.9 GB'
    """
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def duration(seconds: float) -> str:
    """Return seconds for people, in the two largest units.

    >>> duration(2 * 86_400 + 4 * 3_600)
    '2 d 4 h'
    """
    parts: list[str] = []
    for name, length in (("d", DAY), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count or (name == "s" and not parts):
            parts.append(f"{count:.0f} {name}")
        if len(parts) == 2:
            break
    return " ".join(parts)
