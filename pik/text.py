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


def is_command(line: str) -> bool:
    """Whether a line of advice is a command: such a line has nothing else on it, so that it can be copied as it stands.

    >>> is_command("pik status --env dev"), is_command("then promote again")
    (True, False)
    """
    return line.startswith(("pik ", "make ", "aws ", "export "))


def advice(label: str, text: str) -> str:
    """Return advice behind its label, for a terminal: each command and each sentence about it on a line of its own.

    >>> print(advice("do this  ", "pik status\\nthen the same again"))
    do this  pik status
             then the same again
    """
    return label + text.replace("\n", "\n" + " " * len(label))
