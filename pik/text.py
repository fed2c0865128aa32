"""Text from outside, as it may be shown: in a terminal, a table, a drawing."""

from __future__ import annotations

import unicodedata

# Control characters, what turns the direction of text or is invisible, halves of surrogate pairs, code points that are
# no characters, separators of lines. A terminal obeys some of them, XML cannot hold others, and nobody sees the rest.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})


def printable(text: str, keep: str = "") -> str:
    r"""Return text with everything that is no visible character escaped, so that it is shown and never obeyed.

    Args:
        text: any text, of one line unless ``keep`` has the line end.
        keep: characters to leave as they are, such as ``"\n"``.

    >>> print(printable("a\x1b[31m\u202eb\n"))
    a\x1b[31m\u202eb\n
    """
    if text.isprintable():
        return text
    return "".join(
        one.encode("unicode_escape").decode() if unicodedata.category(one) in _HIDDEN and one not in keep else one
        for one in text
    )


def named(value: object) -> str:
    """Return what a message names; an empty text is said to be empty, as a message that ends in nothing tells nobody.

    >>> named("prod"), named(" ")
    ('prod', '(empty)')
    """
    text = str(value)
    return text if text.strip() else "(empty)"
