"""HTML from templates: values are text, and a template that misspells one is noticed."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from pik.markup import environment, render
from pik.results import Check, Evidence, StepResult, Verdict

DIGEST = "ab" * 32


@pytest.mark.parametrize(("keep", "shown"), [("", r"a\nb"), ("\n\t", "a\nb")])
def test_a_value_is_escaped_and_shows_what_cannot_be_seen(keep: str, shown: str) -> None:
    page = environment("data", keep).from_string("{{ one }}|{{ one|ids }}").render(one=f"a\nb\u202e<i> {DIGEST}")

    plain, short = page.split("|")
    assert plain == rf"{shown}\u202e&lt;i&gt; {DIGEST}"
    assert short.startswith(rf'{shown}\u202e&lt;i&gt; <span class="pik-id" title="{DIGEST}">abababababab…</span>')
    assert environment("data", keep).from_string("{{ one }}").render(one=Markup("<b>")) == "<b>"


def test_a_name_that_nothing_has_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("result.html", result=None)


def test_what_is_folded_keeps_its_lines_and_a_payload_is_marked() -> None:
    items = (Evidence(label="l", value="a\n  <b>\n" * 40), Evidence(label="p", value="x", payload=True))
    check = Check(name="c", verdict=Verdict.PASSED, sentence="s", evidence=items)

    html = StepResult(title="t", headline="h", checks=(check,)).to_html()

    assert "<pre>" + "a\n  &lt;b&gt;\n" * 40 + "</pre>" in html
    assert '<details class="pik-payload"><summary>1 characters</summary><pre>x</pre>' in html
