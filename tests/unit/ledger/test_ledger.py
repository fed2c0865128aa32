"""Appending to a ledger and reading it back, over S3 in moto; and everything that one can do to it there."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from pik import frames, ledger
from pik.aws import guard
from pik.environments import Environment
from pik.errors import AwsError, CheckFailed, NotDeployed, Refused, UsageError
from pik.ledger import CHANGES, Entry, Flaw, Kind, Ledger, NotRecorded, subjects
from pik.ledger.entry import FIRST, link_after
from pik.ledger.statement import plain
from pik.ledger.store import LedgerStore
from tests.unit import ledger_world
from tests.unit.ledger_world import ABOUT, ACCOUNT, BUCKET, CALLER, entry, hashed

EVIDENCE = [("report.html", b"<p>all is well</p>", "text/html"), ("result.json", b"{}", "application/json")]


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    with mock_aws():
        yield ledger_world.environment(monkeypatch)


@pytest.fixture
def three(env: Environment) -> list[Entry]:
    """A deploy, a verification with evidence, a rollback."""
    return [
        add(env, Kind.DEPLOY, phase="replay"),
        add(env, Kind.VERIFICATION, EVIDENCE, phase="replay", verdict="passed", run="a-run"),
        add(env, Kind.ROLLBACK, phase="ingest"),
    ]


def add(env: Environment, kind: Kind, evidence: Any = (), **predicate: Any) -> Entry:
    return ledger.append(env, kind, subjects=ABOUT, predicate=predicate, evidence=evidence)


def flaws(env: Environment, receipt: str = "") -> list[tuple[Flaw, int | None]]:
    return [(problem.flaw, problem.number) for problem in ledger.verify(env, receipt=receipt)]


def s3(env: Environment) -> Any:
    return env.client("s3")


def versions(env: Environment, key: str) -> list[str]:
    found = s3(env).list_object_versions(Bucket=BUCKET, Prefix=key)
    return [version["VersionId"] for version in found["Versions"]]


def destroy(env: Environment, key: str) -> None:
    """Delete an object with all its versions, as somebody who has taken the policy away."""
    for version in versions(env, key):
        s3(env).delete_object(Bucket=BUCKET, Key=key, VersionId=version)


def test_an_entry_is_an_in_toto_statement_chained_to_the_one_before(env: Environment, three: list[Entry]) -> None:
    first, second, _ = three
    data = json.loads(s3(env).get_object(Bucket=BUCKET, Key="ledger/00000002.json")["Body"].read())

    assert set(data) == {
        *("number", "time", "kind", "environment", "stack", "account", "by", "user", "host"),
        *("previous", "statement", "hash"),
    }
    assert (first.previous, data["previous"]) == (FIRST, first.hash)
    assert (data["environment"], data["account"], data["by"]) == ("dev", ACCOUNT, CALLER)
    assert data["statement"]["_type"] == "https://in-toto.io/Statement/v1"
    assert data["statement"]["predicateType"] == Kind.VERIFICATION.predicate_type
    assert {"name": "git", "digest": {"gitCommit": "4" * 40}} in data["statement"]["subject"]
    assert second.digest("template") == "1" * 64
    assert second.digest("nothing") == ""
    assert [len({entry.hash for entry in three}), str(second)] == [3, f"ledger entry 2 · {second.hash[:16]}"]


def test_evidence_is_stored_first_and_linked_by_hash(env: Environment, three: list[Entry]) -> None:
    page, result = three[1].links

    assert page.key == "evidence/a-run/report.html"
    assert page.sha256 == hashlib.sha256(EVIDENCE[0][1]).hexdigest()
    assert (result.name, result.size, result.media_type) == ("result.json", 2, "application/json")
    assert s3(env).head_object(Bucket=BUCKET, Key=page.key)["ContentType"] == "text/html"


def test_a_name_that_is_taken_by_other_bytes_gets_a_number(env: Environment, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("another")

    for content in (b"one", b"one", path):
        add(env, Kind.VERIFICATION, [("../a report.html", content, "text/html")], run="run/1")

    keys = [entry.links[0].key for entry in ledger.read(env).entries]
    name = "evidence/run%2F1/..%2Fa%20report"
    assert keys == [f"{name}.html", f"{name}.html", f"{name}-2.html"]


def test_reading_verifies_and_answers_what_was_verified_since_the_last_change(
    env: Environment, three: list[Entry]
) -> None:
    book = ledger.read(env, evidence=True)

    assert book.problems == ()
    assert list(book.entries) == three
    assert book.change == three[2]
    assert book.verification("replay") is None  # it was rolled back since
    assert book.last(kind=Kind.VERIFICATION, phase="replay") == three[1]
    assert [entry.number for entry in book.select(kind=CHANGES)] == [1, 3]
    again = add(env, Kind.VERIFICATION, phase="replay", verdict="failed")
    assert ledger.read(env).verification("replay") == again
    assert ledger.read(env).verification("processor") is None
    with pytest.raises(UsageError, match="there is no entry 9"):
        book.entry(9)


def test_the_frame_has_its_columns_with_and_without_entries(env: Environment) -> None:
    empty = ledger.read(env).frame
    add(env, Kind.VERIFICATION, phase="replay", verdict="passed", run="a-run", sentence="as it should be")
    add(env, Kind.REFUSAL)
    frame = ledger.read(env).frame

    assert list(empty.columns) == list(frame.columns) == frames.LEDGER.names
    assert pa.Schema.from_pandas(frame, preserve_index=False).types == frames.LEDGER.types
    assert list(frame["kind"]) == ["verification", "refusal"]
    assert frame["verdict"].isna().tolist() == [False, True]
    assert list(frame["sentence"]) == ["as it should be", Kind.REFUSAL.meaning]
    assert frame.attrs["problems"] == []


def test_writers_who_meet_never_share_a_number(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    one, put = threading.Lock(), LedgerStore.put_if_absent

    def atomic(self: LedgerStore, *arguments: Any) -> bool:
        with one:  # S3 decides who was first; moto looks and then writes
            return put(self, *arguments)

    monkeypatch.setattr(LedgerStore, "put_if_absent", atomic)
    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(lambda n: add(env, Kind.DEPLOY, n=n), range(24)))

    assert sorted(entry.number for entry in entries) == list(range(1, 25))
    assert {entry.predicate["n"] for entry in ledger.read(env).entries} == set(range(24))
    assert flaws(env) == []


def test_a_put_whose_answer_was_lost_is_not_done_twice(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    client = s3(env)
    put = client.put_object

    def heard_late(**arguments: Any) -> Any:
        put(**arguments)
        return put(**arguments)  # what botocore does after a lost answer

    monkeypatch.setattr(client, "put_object", heard_late)

    assert [add(env, Kind.DEPLOY).number, add(env, Kind.DEPLOY).number] == [1, 2]
    assert len(ledger.read(env).entries) == 2


@pytest.mark.parametrize(("code", "tries"), [("ConditionalRequestConflict", 3), ("AccessDenied", 1)])
def test_a_conflict_is_tried_again_and_a_refusal_is_said(
    code: str, tries: int, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, asked = s3(env), list[str]()
    put = client.put_object

    def refusing(**arguments: Any) -> Any:
        asked.append(arguments["Key"])
        if len(asked) < 3:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "PutObject")
        return put(**arguments)

    monkeypatch.setattr(client, "put_object", refusing)
    if tries == 1:
        with pytest.raises(AwsError, match=r"could not write ledger/00000001\.json"):
            add(env, Kind.DEPLOY)
    else:
        assert add(env, Kind.DEPLOY).number == 1
    assert len(asked) == tries


def test_writers_without_end_are_given_up_on(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LedgerStore, "put_if_absent", lambda *_: False)
    monkeypatch.setattr("time.sleep", lambda _: None)

    with pytest.raises(AwsError, match="could not append"):
        add(env, Kind.DEPLOY)


def test_without_a_ledger_a_sentence_says_so_and_what_must_go_on_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with mock_aws():
        env = ledger_world.environment(monkeypatch, RawBucket="raw")
        with pytest.raises(AwsError, match="there is no ledger yet"):
            add(env, Kind.DEPLOY)
        monkeypatch.setattr(guard, "guard", lambda *_: guard.Place(ACCOUNT, CALLER, None))
        with pytest.raises(NotDeployed, match="so no ledger"):
            add(env, Kind.DEPLOY)
        monkeypatch.setattr(guard, "guard", _refusing)
        told = ledger.record(env, Kind.ROLLBACK, subjects=ABOUT, predicate={})
        assert str(told) == "not recorded in the ledger: this is not dev: the account is another"
        assert isinstance(ledger.record(env, Kind.ROLLBACK, subjects={}, predicate={}), NotRecorded)


def _refusing(*_: Any) -> Any:
    raise Refused("this is not dev", reason="the account is another")


def test_what_is_recorded_is_said(env: Environment) -> None:
    told = ledger.record(env, Kind.ROLLBACK, subjects=ABOUT, predicate={})

    assert isinstance(told, Entry)
    assert str(told).startswith("ledger entry 1 · ")


@pytest.mark.parametrize(
    ("about", "predicate"),
    [({}, {}), (subjects(code="not a digest"), {}), ({"a": {"md5": "0" * 32}}, {}), (ABOUT, {"evidence": []})],
)
def test_a_statement_about_nothing_is_refused_before_anything_is_stored(
    about: Any, predicate: Any, env: Environment
) -> None:
    with pytest.raises(ValueError, match=r"about something|not a .* digest|given as files"):
        ledger.append(env, Kind.APPROVAL, subjects=about, predicate=predicate, evidence=EVIDENCE)

    assert "Contents" not in s3(env).list_objects_v2(Bucket=BUCKET)


def test_what_canonical_json_cannot_hold_is_recorded_as_text(env: Environment) -> None:
    odd = {"big": 2**70, "nan": float("nan"), "half": "\ud800", "path": Path("/x"), 7: {1}, "ok": [1.5, True, None]}

    entry = add(env, Kind.OVERRIDE, odd=odd)

    assert plain(odd) == entry.predicate["odd"]
    assert entry.predicate["odd"]["big"] == str(2**70)
    assert ledger.read(env).entries == (entry,)
    assert flaws(env) == []


def overwrite(env: Environment, entry: Entry, **changes: Any) -> None:
    s3(env).put_object(Bucket=BUCKET, Key=entry.key, Body=replace(entry, **changes).to_bytes())


def test_a_record_edited_in_the_store_is_seen(env: Environment, three: list[Entry]) -> None:
    overwrite(env, three[0], by="arn:aws:iam::1:user/eve")

    assert flaws(env) == [(Flaw.REWRITTEN, 1), (Flaw.ALTERED, 1)]


def test_the_newest_record_edited_and_hashed_anew_is_seen(env: Environment, three: list[Entry]) -> None:
    forged = hashed(replace(three[2], by="arn:aws:iam::1:user/eve"))

    overwrite(env, forged)

    assert flaws(env) == [(Flaw.REWRITTEN, 3)]
    for version in versions(env, forged.key)[1:]:  # the newest comes first
        s3(env).delete_object(Bucket=BUCKET, Key=forged.key, VersionId=version)
    assert flaws(env) == []  # without versions nothing tells, but a receipt
    assert flaws(env, three[2].receipt) == [(Flaw.RECEIPT, 3)]


def test_a_record_removed_is_seen_in_the_middle_and_at_the_end_with_a_receipt(
    env: Environment, three: list[Entry]
) -> None:
    destroy(env, three[2].key)
    assert flaws(env) == []
    assert flaws(env, three[2].receipt) == [(Flaw.RECEIPT, 3)]
    add(env, Kind.DEPLOY)  # the number is given again: the receipt's hash is not its
    assert flaws(env) == []
    assert flaws(env, three[2].receipt) == [(Flaw.RECEIPT, 3)]

    destroy(env, three[1].key)

    assert flaws(env) == [(Flaw.MISSING, 2)]


def test_a_deletion_marker_is_seen_also_when_the_number_was_given_again(env: Environment, three: list[Entry]) -> None:
    s3(env).delete_object(Bucket=BUCKET, Key=three[2].key)
    assert flaws(env) == [(Flaw.DELETED, 3)]

    assert add(env, Kind.DEPLOY).number == 3

    assert flaws(env) == [(Flaw.DELETED, 3), (Flaw.REWRITTEN, 3)]


def test_the_same_bytes_put_again_are_seen(env: Environment, three: list[Entry]) -> None:
    overwrite(env, three[1])

    assert flaws(env) == [(Flaw.REWRITTEN, 2)]


def test_a_stranger_among_the_records_and_versioning_switched_off_are_seen(
    env: Environment, three: list[Entry]
) -> None:
    for key in ("ledger/readme.txt", "ledger/00000000.json"):
        s3(env).put_object(Bucket=BUCKET, Key=key, Body=b"x")
    s3(env).put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})

    assert sorted(flaws(env)) == [(Flaw.STRAY, None), (Flaw.STRAY, None), (Flaw.UNPROTECTED, None)]
    assert add(env, Kind.DEPLOY).number == 4


def test_evidence_altered_and_missing_is_seen_and_not_handed_out(
    env: Environment, three: list[Entry], tmp_path: Path
) -> None:
    page, result = three[1].links
    assert [path.name for path in ledger.fetch(env, three[1], tmp_path / "a")] == ["report.html", "result.json"]

    s3(env).put_object(Bucket=BUCKET, Key=page.key, Body=b"<p>all is very well</p>")
    destroy(env, result.key)

    assert flaws(env) == [(Flaw.EVIDENCE_ALTERED, 2), (Flaw.EVIDENCE_MISSING, 2)]
    assert ledger.read(env).problems == ()  # files are only looked at when that is asked for
    with pytest.raises(CheckFailed, match="2 of 2 files") as caught:
        ledger.fetch(env, three[1], tmp_path / "b")
    assert "is missing" in caught.value.reason
    assert list((tmp_path / "b").iterdir()) == []


def test_the_ledger_goes_on_after_a_record_that_cannot_be_read(env: Environment, three: list[Entry]) -> None:
    s3(env).put_object(Bucket=BUCKET, Key="ledger/00000004.json", Body=b"garbage")

    after = add(env, Kind.ROLLBACK)

    assert (after.number, after.previous) == (5, link_after(b"garbage"))
    assert flaws(env) == [(Flaw.UNREADABLE, 4)]
    assert [entry.number for entry in ledger.read(env).entries] == [1, 2, 3, 5]


def test_a_record_whose_link_leads_out_of_the_evidence_is_none(env: Environment, three: list[Entry]) -> None:
    for name in ("evidence/..", "ledger/00000001.json", "evidence/"):
        said = json.loads(json.dumps(three[1].statement))
        said["predicate"]["evidence"][0]["name"] = name
        forged = hashed(replace(three[1], number=4, previous=three[2].hash, statement=said))
        s3(env).put_object(Bucket=BUCKET, Key=forged.key, Body=forged.to_bytes())
        assert (Flaw.UNREADABLE, 4) in flaws(env)


def test_a_full_ledger_says_so(env: Environment, three: list[Entry]) -> None:
    s3(env).put_object(Bucket=BUCKET, Key="ledger/99999999.json", Body=b"x")

    with pytest.raises(AwsError, match="no number left"):
        add(env, Kind.DEPLOY)


def begun(number: int, kind: Kind = Kind.PROMOTION) -> Entry:
    return entry(number, kind=kind, state="begun")


@pytest.mark.parametrize(
    ("entries", "change", "unfinished"),
    [
        ([entry(1), begun(2)], 2, 2),
        ([entry(1), begun(2), entry(3, kind=Kind.PROMOTION, state="done", begun=2)], 3, None),
        ([entry(1), begun(2), entry(3, kind=Kind.PROMOTION, state="failed", begun=2, changed=True)], 3, None),
        ([entry(1), begun(2), entry(3, kind=Kind.PROMOTION, state="failed", begun=2, changed=False)], 1, None),
        ([entry(1), entry(2, kind=Kind.PROMOTION, state="failed", changed=False)], 1, None),  # it was not begun
        ([entry(1), entry(2, kind=Kind.PROMOTION, state="failed")], 2, None),  # of an earlier version: it may have
        # What changed nothing takes back nobody else's change.
        ([entry(1), entry(2), entry(3, kind=Kind.PROMOTION, state="failed", begun=2, changed=False)], 2, None),
        ([entry(1), begun(2, Kind.DEPLOY), entry(3, kind=Kind.PROMOTION, begun=2, changed=False)], 2, 2),
    ],
)
def test_an_attempt_that_changed_nothing_is_no_change(
    entries: list[Entry], change: int, unfinished: int | None
) -> None:
    book = Ledger("dev", tuple(entries), ())
    assert book.change
    assert book.change.number == change
    assert (book.unfinished.number if book.unfinished else None) == unfinished
