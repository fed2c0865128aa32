"""The documentation's site: every page in one group, one kind of page a group, nothing from elsewhere."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from pik.project import ROOT

DOCS = ROOT / "docs"
GROUPS = ("Tutorial", "How-to", "Reference", "Explanation", "The project")
BESIDE = {ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")}
INDEX = (DOCS / "index.md").read_text()


def entries() -> dict[str, dict[Path, str]]:
    """Group -> page -> its name in the navigation, of the tables of contents in index.md."""
    found = {}
    for caption, body in re.findall(r"```\{toctree\}\n:caption: ([^\n]+)\n:hidden:\n\n(.*?)```", INDEX, re.DOTALL):
        lines = [re.fullmatch(r"(.+) <(.+)>", line) for line in body.splitlines()]
        found[caption] = {(DOCS / f"{line[2]}.md").resolve(): line[1] for line in lines if line}
    return found


def test_every_page_is_in_exactly_one_group() -> None:
    pages = Counter(page for group in entries().values() for page in group)
    assert {page for page, times in pages.items() if times > 1} == set()
    assert pages.keys() == {*DOCS.glob("*.md"), *BESIDE} - {DOCS / "index.md"}


def test_the_groups_are_the_kinds_of_pages() -> None:
    assert list(entries()) == [group for group in GROUPS if f"## {group}\n" in INDEX]
    assert len(re.findall(r"\{toctree\}", INDEX)) == len(entries())


def test_the_start_page_says_of_each_page_what_it_is_for() -> None:
    for group, pages in entries().items():
        section = INDEX.partition(f"## {group}\n")[2].partition("```")[0]
        links = {(DOCS / link).resolve(): name for name, link in re.findall(r"\[([^]]+)\]\(([^)]+)\)", section)}
        assert links.keys() == pages.keys(), group
        if group != "The project":
            assert links == pages


def test_the_site_loads_nothing_from_elsewhere() -> None:
    for path in (DOCS / "html").iterdir():
        assert re.findall(r"https?://|@import|url\(", path.read_text()) == []
    assert re.findall(r"(?:script|link|img|iframe)[^>]*https?://", (DOCS / "conf.py").read_text()) == []
