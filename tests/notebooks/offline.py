"""Find what in a page would run, or would be loaded from elsewhere, as a browser would see it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

LOADING = ("src", "href", "xlink:href", "srcset", "data", "action", "poster", "background")
ELSEWHERE = re.compile(r"^\s*(?:[a-z]+:)?//|^\s*javascript:", re.IGNORECASE)
IN_STYLES = re.compile(r"@import|url\(\s*[\"']?\s*(?:https?:)?//", re.IGNORECASE)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.style = tag == "style"
        if tag in ("script", "iframe", "object", "embed", "link", "base"):
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            if name.startswith("on"):
                self.found.append(f"<{tag} {name}>")
            if (name in LOADING and ELSEWHERE.search(value or "")) or IN_STYLES.search(value or ""):
                self.found.append(f"<{tag} {name}={value}>")

    def handle_data(self, data: str) -> None:
        if self.style and IN_STYLES.search(data):
            self.found.append(f"style: {IN_STYLES.findall(data)}")


def active_parts(page: Path) -> list[str]:
    """Return everything in an HTML file that runs or loads; a page that opens offline has nothing."""
    parser = _Page()
    parser.feed(page.read_text("utf-8"))
    return parser.found
