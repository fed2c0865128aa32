"""HTML from templates (``pik/data/*.html``), in which every value is text, never markup, unless a template says so."""

from __future__ import annotations

import re
from functools import cache
from html import escape as escape_html
from typing import TYPE_CHECKING, Any

from pik.text import is_command, printable

if TYPE_CHECKING:
    from jinja2 import Environment

_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def render(template: str, *, keep: str = "", **values: Any) -> str:
    r"""Return a template of ``pik/data`` with these values.

    What is no visible character is shown escaped, but for those to ``keep``. Without line ends among them the markup is
    of one line, as nothing in it needs more.
    """
    page = environment("data", keep).get_template(template).render(values)
    return page if "\n" in keep else "".join(line.strip() for line in page.splitlines())


@cache
def environment(folder: str, keep: str) -> Environment:
    """Return what renders the templates of a folder of the package; a value that a template misspells is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: object) -> object:
        return printable(value, keep) if isinstance(value, str) and not isinstance(value, Markup) else value

    found = Environment(
        loader=PackageLoader("pik", folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["ids"] = lambda text: Markup(short_ids(escape_html(printable(text, keep))))  # noqa: S704  escaped
    found.tests["command"] = is_command
    return found


def short_ids(markup: str) -> str:
    """Return escaped text with every digest (64 hexadecimal digits) shown by its beginning, the whole in a tooltip.

    >>> short_ids("0" * 64).partition(">")[2]
    '000000000000…</span>'
    """
    return _DIGEST.sub(r'<span class="pik-id" title="\g<0>">\1…</span>', markup)
