"""What is kept of an executed notebook besides itself: a page that opens offline; and, if asked, without payloads.

What counts as payload: evidence with ``payload=True``, the outputs of cells tagged ``payload``, and outputs whose HTML
has an element of class ``pik-payload``.
"""

from __future__ import annotations

import logging
import re
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import pass_context
from nbformat import NotebookNode

from pik.results import RESULT_MEDIA_TYPE, RESULT_STYLE, Evidence, StepResult
from pik.runbooks import clean
from pik.runbooks.notebook import as_text, read
from pik.runbooks.record import write_atomically

PAYLOAD = "payload"
LEFT_OUT = "(payload left out)"
ERROR_MARKER = "papermill-error-cell-tag"
_node: Any = NotebookNode
_SHOWN = ("text/html", "image/svg+xml", "image/png", "image/jpeg", "text/plain")
_SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.IGNORECASE | re.DOTALL)
_LOG = logging.Logger("nbconvert", logging.ERROR)  # its advice on alternative texts is not for the one who runs
_PAYLOAD_CLASS = re.compile(r"""class\s*=\s*["'][^"']*\bpik-payload\b""")


def without_payloads(path: Path, result: StepResult | None) -> StepResult | None:
    """Take every payload out of the executed notebook on disk; return the result without them, too."""
    notebook = read(path)
    bare = None if result is None else bare_result(result)
    for cell in notebook.cells:
        tagged = PAYLOAD in cell.metadata.get("tags", [])
        for output in cell.get("outputs", []):
            if RESULT_MEDIA_TYPE in output.get("data", {}):
                output.data.update(bare._repr_mimebundle_() if bare else {})
            elif tagged or _PAYLOAD_CLASS.search(output.get("data", {}).get("text/html", "")):
                _blank(output)
    write_atomically(path, as_text(notebook))
    return bare


def to_html(path: Path, target: Path, *, title: str) -> None:
    """Write an executed notebook as one HTML page that loads nothing: no script, no font, no picture from elsewhere."""
    from nbconvert.exporters.html import HTMLExporter
    from traitlets.config import Config

    class Offline(HTMLExporter):
        """The classic exporter with everything that it would load switched off."""

        @pass_context
        def markdown2html(self, context: Any, source: str) -> str:
            return clean.html(super().markdown2html(context, source), anchors=True)

    exporter: Any = Offline(config=Config(), log=_LOG, embed_images=True, template_name="classic")  # type: ignore[no-untyped-call]
    for name in exporter.trait_names():
        if name.endswith("_url"):
            setattr(exporter, name, "")
    notebook = shown(path)
    notebook.metadata["title"] = title
    page, _ = exporter.from_notebook_node(notebook)
    page = _SCRIPT.sub("", page)  # the template's own, for what is switched off
    write_atomically(target, page.replace("</head>", f"<style>{RESULT_STYLE}</style></head>", 1))


def shown(path: Path) -> Any:
    """Return an executed notebook with only what is for a reader: cleaned outputs, no markers of papermill's."""
    notebook = read(path)
    notebook.cells = [cell for cell in notebook.cells if ERROR_MARKER not in cell.metadata.get("tags", [])]
    notebook.metadata.pop("widgets", None)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _clean_output(output, f"c{number}-")]
    return notebook


def _clean_output(output: Any, prefix: str) -> bool:
    """Clean one output in place; False when nothing of it is for a reader."""
    if "data" not in output:
        return True
    data = {kind: value for kind, value in output.data.items() if kind in _SHOWN}
    if "text/html" in data:
        data["text/html"] = clean.html(data["text/html"], anchors=True)
    if "image/svg+xml" in data:
        data["image/svg+xml"] = clean.svg(data["image/svg+xml"], prefix) or "<svg xmlns='http://www.w3.org/2000/svg'/>"
    output.data = _node(data)
    output.metadata = _node({})
    return bool(data)


def bare_result(result: StepResult) -> StepResult:
    """Return a result without the values of evidence that is marked as payload."""
    checks = tuple(
        check.model_copy(update={"evidence": tuple(_bare_evidence(item) for item in check.evidence)})
        for check in result.checks
    )
    return result.model_copy(update={"checks": checks})


def _bare_evidence(item: Evidence) -> Evidence:
    return item.model_copy(update={"value": LEFT_OUT}) if item.payload else item


def _blank(output: Any) -> None:
    if "data" in output:
        output.data = _node({"text/plain": LEFT_OUT, "text/html": f"<p>{escape(LEFT_OUT)}</p>"})
    elif "text" in output:
        output.text = LEFT_OUT
    elif "traceback" in output:
        output.evalue, output.traceback = LEFT_OUT, [LEFT_OUT]
