"""JupyterLab as a person meets it, in a real Chromium: the start page, a notebook, its widgets, tables and charts."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import httpx
import pytest

from pik import producer, project
from pik.aws import signed
from pik.aws.reading import eventually
from pik.environments import Environment
from pik.events import encode
from pik.workbench import Workbench
from tests.conftest import Deploy
from tests.unit.test_results import contrast

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.stack, pytest.mark.slow]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 120_000  # milliseconds; a machine that does other things as well starts a kernel slowly
SCREENSHOTS = os.environ.get("PIK_SCREENSHOTS")  # a folder to keep them in, such as docs/images


@pytest.fixture(scope="module")
def lab(embedded_env: Environment, deployed: Deploy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``pik lab`` on a copy of the notebooks, with a day of flights; its address with the token."""
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "no chromium, and CI is set: apt-get install chromium"
        pytest.skip("no chromium on this machine: apt-get install chromium")
    deployed("processor")
    assert producer.send(producer.load("flights:2013-01-01"), embedded_env).safe
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(project.NOTEBOOKS, folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    log = folder / "lab.log"
    command = [str(Path(sys.executable).with_name("pik")), "lab", "--no-browser", "--folder", str(folder / "notebooks")]
    with log.open("w") as out:
        # Nobody's own settings and open tabs, and none left behind.
        own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=project.ROOT, env=os.environ | own)
    try:
        yield _address(server, log)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+/\S*token=\w+", log.read_text()):
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture
def page(lab: str, tmp_path: Path) -> Iterator[Page]:
    """The start page, in a browser that has never been used; it may talk to this machine only."""
    from playwright.sync_api import sync_playwright

    elsewhere: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=CHROMIUM,
            args=ARGUMENTS,
            headless=True,
            viewport={"width": 1280, "height": 720},
        )
        try:
            tab = browser.pages[0]
            tab.set_default_timeout(SECONDS)
            here = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")
            tab.on("request", lambda r: None if r.url.startswith(here) else elsewhere.append(r.url))
            tab.goto(lab)
            tab.get_by_role("heading", name="What can I ask here?").wait_for()
            yield tab
        finally:
            browser.close()
    assert elsewhere == []


def test_from_the_start_page_to_a_finding(page: Page) -> None:
    _shoot(page, "lab-start")
    page.get_by_role("link", name="missing_window").click()
    panel = page.locator(".jp-NotebookPanel:visible")
    panel.get_by_role("heading", name="Missing window").wait_for()

    _run_all(page)
    panel.locator(".pik-step").wait_for()
    assert "a baseline needs 3" in panel.locator(".pik-step").inner_text()

    _to_top(panel)
    answer = panel.locator(".pik-step h3").bounding_box()
    assert answer
    assert answer["y"] + answer["height"] < 690
    assert "UA" in panel.locator("datalist option").evaluate_all("all => all.map(one => one.value)")

    source = panel.get_by_label("source", exact=True)
    source.fill("UA")  # until then every source is searched, and a rate is that of one
    source.press("Tab")
    expected = panel.get_by_label("expected", exact=True)
    expected.fill("4")
    expected.press("Tab")
    panel.locator(".pik-asked summary", has_text="expected 4").click()
    panel.locator("tr", has_text="events an hour").get_by_text("4", exact=True).wait_for()
    panel.locator(".pik-asked button").click()  # Run; what was chosen is kept
    panel.locator(".pik-step", has_text="UA was silent").wait_for()

    table = panel.locator(".dt-container table").first
    assert "2013-01-01 10:17:00Z" in table.inner_text()
    chart = _chart(panel, "UA was silent")
    chart.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    _shoot(page, "lab-missing-window")
    panel.locator(".pik-step").scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    _shoot(page, "lab-findings")


def test_a_rollout_asks_before_it_changes_anything(page: Page, embedded_env: Environment) -> None:
    page.goto(page.url.replace("start.ipynb", "rollout/rollback.ipynb"))
    panel = page.locator(".jp-NotebookPanel:visible")
    panel.get_by_role("heading", name="Rollback").wait_for()
    before = embedded_env.outputs()

    _run_all(page)
    panel.get_by_text("CHANGES AWS").wait_for()
    question = panel.get_by_text("Type local and press Enter")
    question.wait_for()
    _shoot(page, "lab-asks")
    panel.locator(".jp-Stdin-input").press("Enter")

    panel.get_by_text("nothing was changed").first.wait_for()
    assert embedded_env.outputs() == before


def test_a_heat_map_of_lags(page: Page) -> None:
    page.get_by_role("link", name="late_data").click()
    panel = page.locator(".jp-NotebookPanel:visible")
    panel.get_by_role("heading", name="Late data").wait_for()

    _run_all(page)
    panel.locator(".pik-step").wait_for()

    chart = _chart(panel, "event time (UTC")
    chart.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    _shoot(page, "lab-late-data")


# Of each element with a text of its own: the text, its colour, and the nearest ground behind it that is opaque.
COLOURS = r"""elements => elements
    .filter(one => one.checkVisibility() && [...one.childNodes].some(part => part.nodeType === 3 && part.data.trim()))
    .map(one => {
        const ground = element => getComputedStyle(element).backgroundColor;
        let behind = one;
        while (behind.parentElement && /^rgba|^transparent/.test(ground(behind))) behind = behind.parentElement;
        return [one.innerText.slice(0, 60), getComputedStyle(one).color, ground(behind)];
    })"""
SHOWN = ", ".join(f".pik-{kind}, .pik-{kind} *" for kind in ("banner", "step", "asked", "table"))


@pytest.fixture
def dark(lab: str) -> Iterator[None]:
    """JupyterLab in its dark theme."""
    _theme(lab, "JupyterLab Dark")
    yield
    _theme(lab, "JupyterLab Light")


def _theme(lab: str, name: str) -> None:
    """Choose a theme as the menu does: https://jupyterlab-server.readthedocs.io/en/latest/api/rest.html."""
    address = httpx.URL(lab)
    where = address.copy_with(path="/lab/api/settings/@jupyterlab/apputils-extension:themes")
    httpx.put(where, json={"raw": json.dumps({"theme": name})}).raise_for_status()


@pytest.mark.usefixtures("dark")
def test_in_the_dark_theme_everything_can_be_read(page: Page) -> None:
    page.locator('body[data-jp-theme-light="false"]').wait_for(state="attached")
    panel = _late_data(page)

    _bring(panel.locator("a.pik-id"), panel)
    _shoot(page, "lab-dark-table")
    found = panel.locator(SHOWN).evaluate_all(COLOURS)
    _to_top(panel)
    _shoot(page, "lab-dark")
    found += panel.locator(SHOWN).evaluate_all(COLOURS)

    assert len(found) > 50
    unreadable = [one for one in found if contrast(_hexadecimal(one[1], one[2]), _hexadecimal(one[2])) < 4.5]
    assert unreadable == []


def test_a_click_on_a_short_id_copies_the_whole_and_opens_the_notebook_that_takes_it(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    panel = _late_data(page)
    short = _bring(panel.locator("a.pik-id"), panel)
    whole = (short.get_attribute("title") or "").partition(":")[0]
    assert re.fullmatch(r"[0-9a-f]{64}", whole)
    assert short.inner_text().strip() == f"{whole[:12]}…"

    short.click()

    page.locator(".jp-NotebookPanel:visible").get_by_role("heading", name="Explain an event").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == whole


def _late_data(page: Page) -> Locator:
    """Open the notebook whose last table has the ids of events, and run it."""
    page.get_by_role("link", name="late_data").click()
    panel = page.locator(".jp-NotebookPanel:visible")
    panel.get_by_role("heading", name="Late data").wait_for()
    _run_all(page)
    panel.locator(".pik-step").wait_for()
    return panel


def _bring(wanted: Locator, panel: Locator) -> Locator:
    """Scroll until what is wanted is there: JupyterLab draws the cells that are in sight, once they have run."""
    outer = panel.locator(".jp-WindowedPanel-outer").first
    for _ in range(SECONDS // 500):
        if wanted.count():
            wanted.first.scroll_into_view_if_needed()
            return wanted.first
        outer.evaluate("o => o.scrollTop = (o.scrollTop + 300) % (o.scrollHeight - o.clientHeight)")
        panel.page.wait_for_timeout(500)
    raise AssertionError(f"not there: {wanted}")


def _hexadecimal(colour: str, ground: str = "rgb(0, 0, 0)") -> str:
    """A colour on a ground, as the browser computes them (``rgba(1, 2, 3, 0.5)``), as HTML writes what is seen."""
    *parts, alpha = [*map(float, re.findall(r"[\d.]+", colour)), 1.0][:4]
    behind = map(float, re.findall(r"[\d.]+", ground))
    seen = (round(one * alpha + other * (1 - alpha)) for one, other in zip(parts, behind, strict=False))
    return "#" + "".join(f"{part:02x}" for part in seen)


def _to_top(panel: Locator) -> None:
    panel.locator(".jp-WindowedPanel-outer").first.evaluate("outer => outer.scrollTop = 0")
    panel.page.wait_for_timeout(500)


def _read_somewhere(panel: Locator, text: str) -> None:
    """Scroll through the notebook until it shows a text: JupyterLab draws only the cells near what is seen."""
    outer, deadline = panel.locator(".jp-WindowedPanel-outer").first, time.monotonic() + SECONDS / 1000
    while time.monotonic() < deadline:
        for top in range(0, int(outer.evaluate("outer => outer.scrollHeight")), 400):
            outer.evaluate("(outer, top) => outer.scrollTop = top", top)
            panel.page.wait_for_timeout(200)
            if text in panel.inner_text():
                return
    raise AssertionError(f"{text!r} is nowhere to be read")


def _chart(panel: Locator, says: str) -> Locator:
    """Return the first chart, drawn, that says something; JupyterLab shows SVG as a picture."""
    chart = panel.locator(".jp-RenderedSVG img").first
    assert says in unquote(chart.get_attribute("src") or "")
    assert chart.evaluate("picture => picture.complete && picture.naturalWidth > 300")
    return chart


def _run_all(page: Page) -> None:
    """Run every cell once the kernel is ready: what is asked of one that still connects may be lost."""
    page.get_by_text("(ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def _shoot(page: Page, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


EVIL = "</caption></script>\"'><img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>"
DAY = "2013-01-01"


@pytest.fixture(scope="module")
def hostile(lab: str, embedded_env: Environment) -> dict[str, str]:
    """The lab's environment with markup in every name: an event sent twice, a conflict, two versions."""
    outputs = embedded_env.outputs()
    event = {"source": EVIL, "event_type": EVIL, "entity_id": EVIL, "event_time": f"{DAY}T10:00:00Z"}
    body = {**event, "idempotency_key": EVIL, "payload": {EVIL: EVIL}}
    for one in (body, body, {**body, "payload": {EVIL: "another"}}):
        answer = signed.request(
            embedded_env, "POST", outputs["IngestUrl"], json.dumps(one).encode(), {"x-request-id": "<b>"}
        )
        assert answer.status_code in (200, 409), answer.text
    window = {"entity_id": EVIL, "start_time": f"{DAY}T00:00:00Z", "end_time": f"{DAY}T12:00:00Z"}
    asked = json.dumps({**window, "replay_id": "rp-1"}).encode()
    assert signed.request(embedded_env, "POST", outputs["ReplayUrl"], asked).json()["sent"] == 1
    wb = Workbench(embedded_env, "", "3 processor", outputs)
    assert eventually(lambda: list(wb.aggregates(EVIL, DAY)["input_count"]), lambda found: found == [1], 60) == [1]
    _stored_under(embedded_env, outputs, EVIL)
    return outputs


def _stored_under(env: Environment, outputs: dict[str, str], replay_id: str) -> None:
    """Store what is known of replay rp-1 under an id that the API refuses, as earlier versions of it took."""
    client = env.client("dynamodb")
    for table in ("ReplaysTable", "AggregatesTable"):
        for item in client.scan(TableName=outputs[table])["Items"]:
            text = json.dumps(item)
            if "rp-1" in text:
                changed = json.loads(text.replace("rp-1", encode(replay_id)))
                if "replay_id" in changed:
                    changed["replay_id"] = {"S": replay_id}
                client.put_item(TableName=outputs[table], Item=changed)


@pytest.mark.parametrize("notebook", ["aggregate_drift", "explain_event", "daily_health"])
@pytest.mark.usefixtures("hostile")
def test_names_from_outside_are_text_in_the_lab(page: Page, notebook: str) -> None:
    """Markup in a replay's id, in a caption, once ran here."""
    page.get_by_role("link", name=notebook).click()
    panel = page.locator(".jp-NotebookPanel:visible")
    panel.locator(".jp-Cell").first.wait_for()

    _run_all(page)
    panel.locator(".pik-step").wait_for()

    page.wait_for_timeout(1000)
    assert page.title() != "ran"
    assert panel.locator("img[src=x]").count() == 0
    _read_somewhere(panel, "onerror")
