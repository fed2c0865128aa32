"""What a notebook shows, made safe for a page that people mail around: no script, nothing loaded from elsewhere.

HTML goes through an allow-list; drawings (SVG) lose scripts, event handlers, styles and outside references, and get
their ids prefixed, so that two of them fit on one page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any
from xml.etree.ElementTree import Element, ParseError, register_namespace, tostring

from bleach.css_sanitizer import CSSSanitizer  # type: ignore[import-untyped]
from bleach.sanitizer import Cleaner  # type: ignore[import-untyped]
from defusedxml import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TAGS = _words(
    """a abbr b blockquote br caption cite code col colgroup dd del details div dl dt em figcaption figure
    h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark meter ol p pre progress q s samp section small span strong sub
    summary sup table tbody td tfoot th thead time tr u ul var wbr"""
)
_ATTRIBUTES = _words(
    """alt aria-label class colspan datetime dir headers height high lang low max min open optimum role rowspan
    scope span start style title value width"""
)
_STYLES = _words(
    """background background-color border border-bottom border-collapse border-color border-left border-radius
    border-right border-spacing border-style border-top border-width color display float font-family font-size
    font-style font-variant font-weight gap height letter-spacing line-height margin margin-bottom margin-left
    margin-right margin-top max-width min-width opacity overflow padding padding-bottom padding-left padding-right
    padding-top text-align text-decoration vertical-align white-space width word-break word-wrap"""
)
_INVISIBLE = re.compile(r"<(script|style|template|noscript|svg|iframe|object)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_SHAPES = _words(
    """svg g path rect circle ellipse line polyline polygon text tspan title desc defs clipPath linearGradient
    radialGradient stop use marker mask pattern symbol image"""
)
_URL = re.compile(r"url\(\s*['\"]?([^'\")]*)['\"]?\s*\)", re.IGNORECASE)
_DATA_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,", re.IGNORECASE)


def html(fragment: str, *, anchors: bool = False) -> str:
    """Return an HTML fragment reduced to harmless markup; ``anchors`` keeps ids and links within the page.

    >>> html('<b onclick="x()">5 &lt; 6</b><script>alert(1)</script>')
    '<b>5 &lt; 6</b>'
    """
    return str(_cleaner(anchors).clean(_INVISIBLE.sub("", fragment)))


@cache
def _cleaner(anchors: bool) -> Any:
    return Cleaner(
        tags=_TAGS,
        attributes=_allow(anchors),
        protocols={"data"},
        strip=True,
        css_sanitizer=CSSSanitizer(allowed_css_properties=_STYLES),
    )


def _allow(anchors: bool) -> Callable[[str, str, str], bool]:
    def allowed(tag: str, name: str, value: str) -> bool:
        if name == "src":
            return tag == "img" and bool(_DATA_IMAGE.match(value))
        if name == "href":
            return anchors and value.startswith("#")
        if name == "style":
            return "url(" not in value.lower() and "\\" not in value
        return name in _ATTRIBUTES or (anchors and name == "id")

    return allowed


def svg(text: str, prefix: str) -> str:
    """Return a drawing that cannot run or load anything, its ids prefixed; empty when it is not well-formed."""
    try:
        root = fromstring(text)
    except (ParseError, DefusedXmlException, ValueError):
        return ""
    if root.tag != f"{{{_SVG}}}svg":
        return ""
    _clean_element(root, prefix)
    register_namespace("", _SVG)
    register_namespace("xlink", _XLINK)
    return tostring(root, encoding="unicode")


def _clean_element(element: Element, prefix: str) -> None:
    for name, value in list(element.attrib.items()):
        kept = _attribute(name, value, prefix)
        if kept is None:
            del element.attrib[name]
        else:
            element.set(name, kept)
    for child in list(element):
        if isinstance(child.tag, str) and child.tag.removeprefix(f"{{{_SVG}}}") in _SHAPES:
            _clean_element(child, prefix)
        else:
            element.remove(child)


def _attribute(name: str, value: str, prefix: str) -> str | None:
    if name.lower().startswith("on") or (name.startswith("{") and name != f"{{{_XLINK}}}href"):
        return None
    if name == "id":
        return prefix + value
    if name.endswith("href"):
        if value.startswith("#"):
            return f"#{prefix}{value[1:]}"
        return value if _DATA_IMAGE.match(value) else None
    if "\\" in value or any(not target.startswith("#") for target in _URL.findall(value)):
        return None
    return _URL.sub(lambda match: f"url(#{prefix}{match[1][1:]})", value)
