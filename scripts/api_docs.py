"""Write docs/openapi.json and docs/api.md: the HTTP API, from the handlers' own limits, codes and grammars."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pik.pipeline import parsing, selection, strict_json
from scripts import api_codes, openapi
from scripts.api_examples import Example

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "docs" / "api.md"
PROGRAMS = TARGET.parent / "examples"


def render() -> str:
    """Return the text of docs/api.md."""
    pages = Environment(loader=FileSystemLoader(HERE), undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - Markdown
    modules = {"openapi": openapi, "codes": api_codes, "parsing": parsing, "strict_json": strict_json}
    parts = {"fields": fields, "parameters": parameters, "statuses": statuses, "shown": shown, "program": program}
    return pages.get_template("api.md.jinja").render(**modules, **parts)


def fields(name: str) -> str:
    """Return the table of a request's fields."""
    schema = openapi.schemas()[name]
    rows = (
        (f"`{field}`", _type(field, one), "required" if field in schema["required"] else "", one["description"])
        for field, one in schema["properties"].items()
    )
    return _table(("field", "type", "", "meaning"), rows) + "\n\nAny other field is refused."


def _type(name: str, field: dict[str, Any]) -> str:
    if "time" in name:
        return "time"
    if name == "cursor":
        return f"text, at most {selection.MAX_CURSOR:,} characters"
    if name == "replay_id":
        return f"text, `{field['pattern'][1:-1]}`"
    if name == "limit":
        return f"integer, 1 to {selection.MAX_LIMIT:,}"
    kinds = field.get("type", "string")
    if isinstance(kinds, list):
        kinds = " or ".join(kind for kind in kinds if kind != "null")
    if kinds == "string":
        plain = "" if "maxLength" in field else ", no control characters"  # a replay finds what was stored before
        return "text" if name == "original" else f"text, 1 to {parsing.MAX_NAME} characters{plain}"
    return str(kinds)


def parameters(operation: str) -> str:
    """Return the table of an operation's headers and query; a binary CloudEvent's are told elsewhere."""
    given = [one for one in _operation(operation)["parameters"] if not one["name"].startswith("ce-")]
    rows = ((f"`{'?' if one['in'] == 'query' else ''}{one['name']}`", one["description"]) for one in given)
    return _table(("header or query", "meaning"), rows)


def statuses(operation: str) -> str:
    """Return the table of an operation's answers."""
    answers = _operation(operation)["responses"]
    return _table(("status", "meaning"), ((status, answer["description"]) for status, answer in answers.items()))


def shown(operation: str) -> str:
    """Return an operation's examples."""
    return "\n\n".join(_example(one) for one in openapi.of(operation))


def program(kind: str) -> str:
    """Return the text of one of the programs that sign."""
    return (PROGRAMS / f"ingest.{kind}").read_text().strip()


def _operation(name: str) -> dict[str, Any]:
    found: dict[str, Any] = openapi.document()["paths"][f"/{name}"]["post"]
    return found


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _example(one: Example) -> str:
    said = "".join(f"{name}: {value}\n" for name, value in {"Content-Type": one.content_type, **one.headers}.items())
    body = one.body if isinstance(one.body, str) else json.dumps(one.body)
    asked = f"POST /{one.operation}\n{said}\n{body}\n\n→ {one.status}\n{json.dumps(one.answer, indent=1)}"
    return f"{one.summary}:\n\n```text\n{asked}\n```"


if __name__ == "__main__":
    openapi.TARGET.write_text(openapi.render())
    TARGET.write_text(render())
