"""Nothing that a notebook shows can run, or load anything, in a page that is mailed around."""

from __future__ import annotations

import pytest

from pik.runbooks import clean

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">{}</svg>'


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        '<a href="javascript:alert(1)">x</a>',
        '<iframe src="https://evil.example"></iframe>',
        '<p style="background:url(https://evil.example/x)">x</p>',
        '<link rel=stylesheet href="https://evil.example/x.css">',
        '<form action="https://evil.example"><input></form>',
        '<svg onload="alert(1)"><script>alert(1)</script></svg>',
        "<style>@import 'https://evil.example'</style>",
        "<math><mtext></p><script>alert(1)</script>",
    ],
)
def test_hostile_markup_loses_what_makes_it_hostile(hostile: str) -> None:
    cleaned = clean.html(f"<b>kept</b>{hostile}").lower()

    assert "<b>kept</b>" in cleaned
    for word in ("<script", "onerror", "onload", "javascript:", "evil.example", "<iframe", "<form", "<style"):
        assert word not in cleaned


def test_tables_styles_and_escapes_survive() -> None:
    html = '<table class="dataframe"><tbody><tr><td style="text-align: right;">&lt;b&gt; 1</td></tr></tbody></table>'

    assert clean.html(html) == html


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        '<a href="javascript:alert(1)"><rect/></a>',
        '<rect onclick="alert(1)"/>',
        '<image href="https://evil.example/x.png"/>',
        '<use xlink:href="https://evil.example/x.svg#a"/>',
        '<rect style="fill:url(https://evil.example/x)"/>',
        "<style>@import 'https://evil.example'</style>",
        "<foreignObject><body xmlns='http://www.w3.org/1999/xhtml'><script>alert(1)</script></body></foreignObject>",
        '<animate attributeName="href" values="javascript:alert(1)"/>',
        '<set attributeName="onclick" to="alert(1)"/>',
    ],
)
def test_a_hostile_drawing_keeps_only_its_shapes(hostile: str) -> None:
    cleaned = clean.svg(SVG.format(f'<circle r="1"/>{hostile}'), "p-")

    assert '<circle r="1"' in cleaned
    for word in ("script", "alert", "evil.example", "foreignObject", "animate", "@import"):
        assert word not in cleaned


def test_ids_are_prefixed_wherever_they_are_used() -> None:
    cleaned = clean.svg(
        SVG.format('<clipPath id="a"/><g clip-path="url(#a)" style="fill: url(\'#a\')"/><use href="#a"/>'), "p-"
    )

    assert cleaned.count("#p-a") == 3
    assert 'id="p-a"' in cleaned


@pytest.mark.parametrize("text", ["", "<svg", "<html/>", '<!DOCTYPE x [<!ENTITY a "b">]>' + SVG.format("&a;")])
def test_what_is_no_drawing_is_nothing(text: str) -> None:
    assert clean.svg(text, "p-") == ""
