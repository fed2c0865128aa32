"""How the result of a step is read: the answer first, then what supports it; on a light and on a dark ground."""

from __future__ import annotations

import re

import pytest

from pik.results import RESULT_STYLE, Check, Evidence, StepResult, Verdict

FINE = Check(name="is it there?", verdict=Verdict.PASSED, sentence="It is.", evidence=(Evidence(label="n", value="3"),))
BAD = Check(
    name="was it silent?",
    verdict=Verdict.FAILED,
    sentence="It was silent for 5 h.",
    evidence=(Evidence(label="missing", value="41"),),
    remedy="pik run stores-reconciliation",
)
OPEN = Check(name="is it late?", verdict=Verdict.INCONCLUSIVE, sentence="Too few events.", remedy="send more")


def test_the_answer_comes_before_the_evidence() -> None:
    html = StepResult(title="Missing window", headline="It was silent", checks=(FINE, OPEN, BAD)).to_html()

    places = [
        html.index(text)
        for text in (
            "✗ failed</span> Missing window: It was silent",
            "It was silent for 5 h.",
            "do this: pik run stores-reconciliation",
            "Too few events.",
            "It is.",
            "<details",
            "41",
        )
    ]
    assert places == sorted(places)


def test_one_advice_for_several_findings_is_given_once() -> None:
    html = StepResult(title="t", headline="h", checks=(BAD, BAD.model_copy(update={"sentence": "Again."}))).to_html()

    assert html.count("do this:") == 1
    assert "Again." in html


def test_a_lone_finding_is_not_said_twice() -> None:
    html = StepResult(title="t", headline="It was silent for 5 h", checks=(BAD,)).to_html()

    assert html.count("silent for 5 h") == 1


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("ground", "palette"), [("#ffffff", 0), ("#111111", 1)], ids=["light", "dark"])
@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_verdict_can_be_read_in_either_theme(verdict: Verdict, ground: str, palette: int) -> None:
    """The grounds are those of JupyterLab's two themes; WCAG wants 4.5:1 for text."""
    colours = re.findall(rf"--pik-{verdict}: (#[0-9a-f]{{6}})", RESULT_STYLE)

    assert contrast(colours[palette], ground) >= 4.5


def test_no_ground_is_painted_white() -> None:
    assert "--dt-html-background: transparent" in RESULT_STYLE  # what itables paints tables with
    assert not re.search(r"background[^;]*:[^;]*(#fff|white)", RESULT_STYLE)
