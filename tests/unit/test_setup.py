"""What is installed for whom, and what the set-up does where a person's machine is not the usual one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pik.project import ROOT
from scripts import setup

Made = Callable[[str], None]
UNKNOWN_ISSUER = "cause: client error (Connect)\ncause: invalid peer certificate: UnknownIssuer"
VERIFY_FAILED = "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Environments in a folder of their own; call it to have one made."""
    workbench, tools = tmp_path / ".venv", tmp_path / ".tools"
    places = {name: workbench if place == setup.WORKBENCH else tools / name for name, place in setup.PLACES.items()}
    monkeypatch.setattr(setup, "WORKBENCH", workbench)
    monkeypatch.setattr(setup, "TOOLS", tools)
    monkeypatch.setattr(setup, "PLACES", places)
    monkeypatch.setattr(setup, "BEGUN", workbench / ".dev-begun")

    def make(name: str) -> None:
        (places[name] / "bin").mkdir(parents=True, exist_ok=True)
        setup.stamp(name).write_text(setup.digest(name))
        if name == "dev":
            (workbench / "bin" / "pytest").touch()

    return make


@pytest.mark.usefixtures("made")
def test_a_workbench_comes_without_the_tools_of_tests() -> None:
    assert setup.to_make(["workbench", "emulator", "sam"]) == ["workbench", "emulator", "sam"]


def test_tests_and_linters_bring_their_own(made: Made) -> None:
    made("workbench")
    assert setup.to_make(["dev"]) == ["dev"]
    made("dev")
    assert setup.to_make(["workbench", "dev"]) == []


@pytest.mark.usefixtures("made")
def test_the_tools_of_tests_bring_the_workbench() -> None:
    assert setup.to_make(["dev"]) == ["dev", "workbench"]


def test_a_developers_workbench_is_made_anew_with_the_tools(made: Made) -> None:
    made("workbench")
    made("dev")
    setup.stamp("workbench").write_text("of an older lock file")
    assert setup.to_make(["workbench"]) == ["workbench", "dev"]


def test_tools_whose_making_was_interrupted_are_made_on_a_new_workbench(made: Made) -> None:
    made("workbench")
    setup.BEGUN.touch()
    assert setup.to_make(["workbench"]) == []
    assert setup.to_make(["dev"]) == ["dev", "workbench"]


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_named_to_one_tool_are_named_to_all(variable: str) -> None:
    environ = {variable: "/company.pem"}
    setup.prepare(environ)
    assert environ["SSL_CERT_FILE"] == environ["PIP_CERT"] == "/company.pem"


def test_an_index_named_to_one_tool_is_named_to_all() -> None:
    environ = {"PIP_INDEX_URL": "https://packages.example/simple", "UV_DEFAULT_INDEX": ""}
    setup.prepare(environ)
    assert environ["UV_DEFAULT_INDEX"] == "https://packages.example/simple"


def test_what_was_said_to_each_tool_stays() -> None:
    environ = {"SSL_CERT_FILE": "/a.pem", "PIP_CERT": "/b.pem", "VIRTUAL_ENV": "/elsewhere", "PIP_USER": "1"}
    setup.prepare(environ)
    assert environ == {"SSL_CERT_FILE": "/a.pem", "PIP_CERT": "/b.pem"}


@pytest.mark.parametrize("said", [UNKNOWN_ISSUER, VERIFY_FAILED])
def test_an_unknown_certificate_is_tried_with_those_of_the_system(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_SYSTEM_CERTS", "")  # restored afterwards
    monkeypatch.delenv("UV_SYSTEM_CERTS")
    monkeypatch.setenv("PIP_CERT", "")
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\n[ -n \"$UV_SYSTEM_CERTS\" ] || {{ cat >&2 <<'END'\n{said}\nEND\nexit 2; }}\n")
    tool.chmod(0o755)
    setup.run(tool)
    tool.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 2\n")
    with pytest.raises(SystemExit, match=r"do this  SSL_CERT_FILE=/path/to/certificates\.pem make setup"):
        setup.run(tool)


def test_each_of_two_commands_at_once_is_tried_with_the_certificates_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_SYSTEM_CERTS", "")  # restored afterwards
    monkeypatch.delenv("UV_SYSTEM_CERTS")
    monkeypatch.setenv("PIP_CERT", "")
    tool = tmp_path / "tool"  # fails the first time only after the other has failed too
    tool.write_text(
        f'#!/bin/sh\n[ -z "$UV_SYSTEM_CERTS" ] || exit 0\ntouch {tmp_path}/$1\n'
        f"while [ ! -e {tmp_path}/a ] || [ ! -e {tmp_path}/b ]; do sleep 0.02; done\n"
        f"[ $1 = a ] || sleep 0.3\necho '{VERIFY_FAILED.replace(chr(39), '')}' >&2; exit 2\n"
    )
    tool.chmod(0o755)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda word: setup.run(tool, word), ("a", "b"))) == [None, None]


def test_a_network_that_is_not_there_says_what_to_look_at() -> None:
    said = "error: Failed to fetch: https://packages.example/simple/\n  cause: error sending request for url"
    assert "HTTPS_PROXY" in setup.next_step(said)
    assert setup.next_step("error: no space left on device") == ""


@pytest.mark.parametrize("answer", ["exit 2", "echo /proc/nowhere/uv", "echo"])
def test_without_a_home_the_downloads_are_kept_in_the_checkout(
    made: Made, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", "")  # restored afterwards
    made("uv")
    uv = setup.PLACES["uv"] / "bin" / "uv"
    uv.write_text(f"#!/bin/sh\n{answer}\n")
    uv.chmod(0o755)
    setup.keep_cache()
    assert os.environ["UV_CACHE_DIR"] == str(setup.TOOLS / "cache")


def test_an_old_python_is_told_how_to_name_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "MINIMUM", (99, 0))
    with pytest.raises(SystemExit, match="make setup PYTHON="):
        setup.main(["workbench"])


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("setup", {"workbench", "emulator", "sam"}),
        ("demo", {"workbench", "emulator", "sam"}),
        ("lab", {"workbench", "emulator", "sam"}),
        ("bench", {"workbench", "emulator", "sam"}),
        ("test", {"workbench", "emulator", "sam", "dev"}),
        ("test-unit", {"workbench", "emulator", "sam", "dev"}),
        ("hostile", {"workbench", "emulator", "sam", "dev"}),
        ("format", {"workbench", "emulator", "sam", "dev"}),
        ("docs", {"workbench", "emulator", "sam", "dev"}),
        ("lint", {"workbench", "emulator", "sam", "dev", "lint"}),
    ],
)
def test_each_target_sets_up_what_it_needs_and_no_more(target: str, named: set[str]) -> None:
    shown = subprocess.run(
        ["make", "-n", target, f"PYTHON={sys.executable}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    lines = [line.split() for line in shown.splitlines() if "scripts/setup.py" in line]
    assert {word for line in lines for word in line[line.index("scripts/setup.py") + 1 :]} == named


def test_another_system_than_linux_and_macos_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.setup.os.name", "nt")
    with pytest.raises(SystemExit, match=r"needs Linux or macOS.*\ndo this .*WSL"):
        setup.main(["workbench"])
