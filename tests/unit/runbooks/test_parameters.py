"""Parameters: typed, known by name, and never a secret."""

from __future__ import annotations

import secrets
from base64 import b64encode
from pathlib import Path

import pytest

from pik.errors import UsageError
from pik.runbooks.parameters import Parameter, parse, refuse_secret_name, refuse_secret_value


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("string", "a b", "a b"),
        ("integer", "-3", -3),
        ("number", "2.5", 2.5),
        ("boolean", "Yes", True),
        ("boolean", "0", False),
        ("date", "2013-01-01", "2013-01-01"),
        ("datetime", "2013-01-01T02:00:00.5+02:00", "2013-01-01T00:00:00.500000Z"),
        ("environment", "staging", "staging"),
        ("events", "flights", "flights"),
        ("events", "flights:2013-01-02", "flights:2013-01-02"),
    ],
)
def test_text_becomes_its_type(kind: str, text: str, value: object) -> None:
    parsed = Parameter.model_validate({"type": kind}).parse("p", text)

    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("integer", "1.0"),
        ("integer", ""),
        ("number", "nan"),
        ("number", "ten"),
        ("boolean", "maybe"),
        ("date", "2013-02-30"),
        ("datetime", "yesterday"),
        ("environment", "production"),
        ("events", "-"),
        ("events", "no-such-file.jsonl"),
        ("events", "flights:soon"),
    ],
)
def test_what_is_not_of_the_type_is_refused_with_a_hint(kind: str, text: str) -> None:
    with pytest.raises(UsageError, match="parameter p") as caught:
        Parameter.model_validate({"type": kind}).parse("p", text)

    assert caught.value.next_step.startswith("-p p=")


def test_a_path_of_events_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "day.jsonl").write_text("{}")
    monkeypatch.chdir(tmp_path)

    assert Parameter(type="events").parse("events", "day.jsonl") == str(tmp_path / "day.jsonl")


def test_a_mistyped_choice_suggests_the_right_one() -> None:
    with pytest.raises(UsageError, match="did you mean replay"):
        Parameter(type="choice", choices=("replay", "ingest")).parse("to", "reply")


DECLARED = {
    "env": Parameter(type="environment"),
    "limit": Parameter(type="integer"),
    "note": Parameter(type="string", default="-"),
}


def test_defaults_fill_in_and_env_comes_first() -> None:
    assert parse(DECLARED, "dev", {"limit": "3"}) == {"env": "dev", "limit": 3, "note": "-"}


@pytest.mark.parametrize(
    ("env", "given", "says"),
    [
        ("local", {"limt": "3"}, "no such parameter: limt; did you mean limit"),
        ("local", {}, "limit is needed"),
        ("loca", {"limit": "3"}, "did you mean local"),
        ("local", {"limit": "3", "env": "prod"}, "--env says local"),
    ],
)
def test_unknown_missing_and_contradicting_ones_are_refused(env: str, given: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(DECLARED, env, given)


@pytest.mark.parametrize(
    "name", ["password", "db_password", "apiKey", "API_KEY", "aws-secret-access-key", "token", "auth_token"]
)
def test_a_name_that_promises_a_secret_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="refused"):
        refuse_secret_name(name)


@pytest.mark.parametrize(
    "name", ["entity_id", "tokenizer", "key_prefix", "idempotency", "secretary", "s3_key", "monkeys"]
)
def test_a_harmless_name_is_not(name: str) -> None:
    refuse_secret_name(name)


SECRETS = [
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "x ASIA" + "1234567890123456 y",
    "-----BEGIN RSA " + "PRIVATE KEY-----",
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0.abc",
    "ghp_" + "a1B2c3D4e5F6g7H8i9J0",
    "https://ana:" + "hunter2@host/path",
    *(b64encode(secrets.token_bytes(size)).decode() for size in (40, 48, 96)),
    "wJalrXUtnFEMI/" + "K7MDENG/bPxRfiCYEXAMPLEKEY",
    "/home/ana/projects/config/prod/eu/" + b64encode(secrets.token_bytes(48), altchars=b"-_").decode(),
    "sk_live_" + "a1B2c3D4e5F6g7H8",
    "https://a.blob.core.windows.net/c/f?sv=2026&sig=" + "a1B2c3D4e5F6g7H8%3D",
    "https://b.s3.amazonaws.com/k?X-Amz-Signature=" + "90fdc0d07f8d3a51fa2c9a64b1a4c6cf",
]


@pytest.mark.parametrize("value", SECRETS, ids=range(len(SECRETS)))
def test_a_value_that_looks_like_a_secret_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(UsageError, match="refused") as caught:
        parse({"note": Parameter(type="string")}, "local", {"note": value})

    assert value not in f"{caught.value.as_dict()}"


@pytest.mark.parametrize(
    "value",
    [
        "90fdc0d07f8d3a51fa2c9a64b1a4c6cf1c7f47ba0dbd4a5e6d7f0c1b2a39485f",
        "/home/Ana/projects2/pipeline-investigation-kit/events/January/flights",
        "arn:aws:lambda:eu-west-1:111122223333:function:pik-staging-IngestFunction",
        "https://sqs.eu-west-1.amazonaws.com/111122223333/pik-staging-replay-queue",
        "raw/source=UA/event_type=flight.departed/event_date=2013-01-01/hour=10",
        "123e4567-e89b-12d3-a456-426614174000",
        "/home/Ana/Projects/Q4Report2026/Exports/Orders_Final_V2/Part01OfManyParts.jsonl",
        "/Users/JohnSmith/Library/MobileDocuments/com-apple-CloudDocs/Q4Report2026/Events",
        "https://myaccount1.blob.core.windows.net/Container/Year2026/Month11/Day20/PT1H.json",
        "https://storage.googleapis.com/My-Bucket2/Exports/2026/11/20/Orders_Final_V2.csv",
        "https://github.com/Org/Repo/blob/90fdc0d07f8d3a51fa2c9a64b1a4c6cf1c7f47ba/src/main/Example2/FooBar.java",
        "AWSServiceRoleForApplicationAutoScalingDynamoDBTable2026Production",
        "pik-staging-IngestFunction-1A2B3C4D5E6F-LogGroupForTheAccess2",
        "/subscriptions/00000000-1111-2222-3333-444444444444/resourceGroups/Rg1/providers/Microsoft.Storage",
    ],
)
def test_ids_paths_and_addresses_are_no_secrets(value: str) -> None:
    refuse_secret_value("p", value)


def test_a_value_that_only_looks_like_a_secret_can_be_allowed_by_name() -> None:
    declared = {"note": Parameter(type="string")}
    guess = b64encode(secrets.token_bytes(48)).decode()
    with pytest.raises(UsageError) as caught:
        parse(declared, "local", {"note": guess})
    assert "when it is none: --allow-value note" in caught.value.next_step
    assert parse(declared, "local", {"note": guess}, ["note"])["note"] == guess
    with pytest.raises(UsageError, match="AWS access key id"):  # that is one, whatever somebody says
        parse(declared, "local", {"note": "AKIA" + "ABCDEFGHIJKLMNOP"}, ["note"])
    with pytest.raises(UsageError, match="there is no value for it"):
        parse(declared, "local", {"note": "x"}, ["nte"])
