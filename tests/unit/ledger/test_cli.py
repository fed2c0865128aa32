"""``pik ledger``: what a person and a program read of it, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from moto import mock_aws
from typer.testing import CliRunner, Result

from pik import environments, ledger
from pik.cli import ledger as command
from pik.environments import Environment
from pik.errors import CheckFailed, UsageError
from pik.ledger import Kind
from pik.ledger.text import printable, who
from tests.unit import ledger_world
from tests.unit.ledger_world import ABOUT, BUCKET

CHECKS = [
    {"name": "drains", "verdict": "passed", "blocking": True, "sentence": "in 4.2 s"},
    {"name": "no alarm", "verdict": "failed", "blocking": False, "sentence": "one is on"},
]


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    with mock_aws():
        there = ledger_world.environment(monkeypatch)
        monkeypatch.setattr(environments, "environment", lambda name: there)
        yield there


@pytest.fixture
def two(env: Environment) -> list[ledger.Entry]:
    """A verification with everything that one can have, and an override with a reason."""
    verification = {"phase": "processor", "verdict": "passed", "sentence": "as found", "checks": CHECKS, "run": "r-1"}
    step = {"number": 3, "title": "3 processor", "attempt": 2}
    return [
        ledger.append(
            env,
            Kind.VERIFICATION,
            subjects=ABOUT,
            predicate={**verification, "step": step, "git_dirty": True},
            evidence=[("03.html", b"<p>", "text/html")],
        ),
        ledger.append(
            env,
            Kind.OVERRIDE,
            subjects=ABOUT,
            predicate={
                "reason": "pager\x1b[2J",
                "sentence": "two\nlines",
                "facts": {"queue_before": 7, "digest": "9" * 64},
                "samples": [{"seconds": 0}, {"seconds": 5}],
            },
        ),
    ]


def pik(*arguments: str) -> Result:
    app = typer.Typer()
    command.register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["ledger", *arguments])


def data(*arguments: str) -> Any:
    return json.loads(pik(*arguments, "--json").stdout)


def edit(env: Environment, entry: ledger.Entry) -> None:
    forged = replace(entry, by="arn:aws:iam::1:user/eve").to_bytes()
    env.client("s3").put_object(Bucket=BUCKET, Key=entry.key, Body=forged)


def test_an_empty_ledger_is_said_to_be_empty(env: Environment) -> None:
    for name in ("list", "verify"):
        done = pik(name)
        assert (done.exit_code, done.stdout) == (0, "the ledger of dev is empty: nothing has been recorded yet\n")
    assert data("list") == {"environment": "local", "unfinished": None, "entries": [], "problems": []}
    assert data("verify")["clean"] is True
    with pytest.raises(UsageError, match="the ledger is empty"):
        raise pik("show", "last").exception or AssertionError


def test_the_list_has_a_line_each_and_can_be_narrowed(two: list[ledger.Entry]) -> None:
    lines = pik("list").stdout.splitlines()

    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert lines[0].endswith("verification  ✓  processor  ana  as found")
    assert lines[1].endswith("two lines")
    assert [row["number"] for row in data("list", "--kind", "override")["entries"]] == [2]
    assert [row["number"] for row in data("list", "--phase", "3")["entries"]] == [1]
    assert data("list")["entries"][0]["parameters"] == "3" * 64
    assert pik("list", "--kind", "deploy").stdout == "none of the 2 entries in the ledger of dev matches\n"
    for wrong, says in ((["--kind", "depoly"], "did you mean deploy"), (["--phase", "4"], "no such phase")):
        with pytest.raises(UsageError, match=says):
            raise pik("list", *wrong).exception or AssertionError


def test_the_list_says_what_was_begun_and_has_no_end(env: Environment) -> None:
    about = ledger.subjects(template="1" * 64, code="2" * 64)
    said = {"phase": "processor", "sentence": "phase 2 -> 3"}
    ledger.append(env, Kind.PROMOTION, subjects=about, predicate={**said, "state": "begun"})
    assert "! entry 1, a promotion, has no recorded outcome: pik status --env local" in pik("list").stdout
    assert data("list")["unfinished"] == 1
    ledger.append(env, Kind.PROMOTION, subjects=about, predicate={**said, "state": "done", "begun": 1})
    assert "no recorded outcome" not in pik("list").stdout


def test_an_entry_is_shown_verdict_first_with_its_receipt(two: list[ledger.Entry]) -> None:
    text = pik("show", "1").stdout

    assert text.startswith("✓ passed · verification · phase processor · ledger entry 1\n  as found\n")
    for words in (
        "by        arn:aws:iam::111122223333:user/ana (",
        "checks    1/2 passed",
        "✗ no alarm (advisory): one is on",
        f"git · gitCommit {'4' * 40}, with uncommitted changes",
        "run       r-1 · step 3 3 processor, attempt 2",
        f"evidence  evidence/r-1/03.html · 3 B · sha256 {two[0].links[0].sha256}",
        f"receipt   {two[0].receipt}",
    ):
        assert words in text
    assert "reason    pager [2J\n" in pik("show", "last").stdout
    assert "facts     digest: 999999999999…\n            queue before: 7\n" in pik("show", "last").stdout
    assert "samples   seconds: 0\n            seconds: 5\n" in pik("show", "last").stdout
    assert data("show", "last")["statement"] == two[1].statement
    for number in ("first", "3", "-1"):
        assert isinstance(pik("show", "--", number).exception, UsageError)


def test_a_tampered_ledger_ends_with_four_and_is_named_wherever_it_is_read(
    env: Environment, two: list[ledger.Entry]
) -> None:
    clean = pik("verify", "--receipt", str(two[1]))
    assert (clean.exit_code, clean.stdout.splitlines()) == (
        0,
        ["✓ 2 entries and 1 file are as recorded, and the receipt's", f"  newest   {two[1]}"],
    )

    edit(env, two[0])

    done = pik("verify")
    assert done.exit_code == 4
    altered = "its hash is not that of its content: the content was changed after the record was written"
    assert f"✗ entry 1: {altered}" in done.stdout
    assert [problem["problem"] for problem in data("verify")["problems"]] == ["rewritten", "altered"]
    assert pik("list").stdout.splitlines()[-1] == "! 2 problems: pik ledger verify --env local"
    assert pik("show", "1").stdout.startswith("! entry 1: it has 2 versions")
    assert pik("verify", "--receipt", f"7:{'0' * 64}").exit_code == 4
    assert isinstance(pik("verify", "--receipt", "7:00").exception, UsageError)


def test_evidence_is_downloaded_when_it_is_the_recorded_one(
    env: Environment, two: list[ledger.Entry], tmp_path: Path
) -> None:
    done = pik("evidence", "1", "--out", str(tmp_path / "a"))

    assert (done.exit_code, done.stdout) == (0, f"{tmp_path}/a/03.html\n")
    assert (tmp_path / "a" / "03.html").read_bytes() == b"<p>"
    assert "has no evidence" in pik("evidence", "last", "--out", str(tmp_path)).stdout
    env.client("s3").put_object(Bucket=BUCKET, Key=two[0].links[0].key, Body=b"<p>other")
    assert isinstance(pik("evidence", "1", "--out", str(tmp_path / "b")).exception, CheckFailed)


def test_a_forged_record_is_shown_not_stumbled_over(env: Environment) -> None:
    for odd in ("text", [1, {"name": None}], {"a": 1}):
        entry = ledger.append(env, Kind.VERIFICATION, subjects=ABOUT, predicate={"checks": odd, "step": odd, "run": 7})
        assert pik("show", str(entry.number)).exit_code == 0


def test_words_for_people() -> None:
    assert who("arn:aws:sts::1:assumed-role/Deployer/ana") == "ana"
    assert (who("arn:aws:iam::1:root"), who("unknown")) == ("root", "unknown")
    assert printable("a\u202eb\r\nc\x9b") == "a b c"


def test_the_help_names_every_kind() -> None:
    text = " ".join(pik("list", "--help").stdout.split())

    assert [kind for kind in Kind if kind not in text] == []


@pytest.mark.parametrize("where", ["/proc/x", "/dev/null/x", "/dev/null"])
def test_evidence_that_cannot_be_written_is_said_to_be(two: list[ledger.Entry], where: str) -> None:
    error = pik("evidence", "1", "-o", where).exception
    assert isinstance(error, UsageError)
    assert "cannot be written" in error.message


@pytest.mark.parametrize("number", ["9" * 5000, "²", "1.0"])
def test_a_number_that_no_entry_has_is_no_entry(two: list[ledger.Entry], number: str) -> None:
    assert isinstance(pik("show", number).exception, UsageError)


def test_markup_in_a_comment_is_recorded_and_shown_as_it_is(env: Environment) -> None:
    comment = "[x] [/bold] done"
    ledger.append(
        env, Kind.APPROVAL, subjects=ABOUT, predicate={"sentence": f"approved ({comment})", "comment": comment}
    )
    for command_ in (("list",), ("show", "last")):
        assert comment in pik(*command_).stdout
