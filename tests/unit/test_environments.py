"""The two worlds never mix, whatever the shell says. No request leaves this process: botocore's transport is cut."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.httpsession
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.client import BaseClient
from botocore.credentials import AssumeRoleProvider, JSONFileCache
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ProxyConnectionError, SSLError

from pik import errors
from pik.environments import EMBEDDED_KEYS, Environment, as_aws_error, environment

CONFIG = """
[default]
region = eu-west-1
services = elsewhere
[profile other]
region = eu-west-3
services = elsewhere
[services elsewhere]
s3 =
  endpoint_url = http://127.0.0.1:9
sqs =
  endpoint_url = http://127.0.0.1:9
"""
EMBEDDED = "http://127.0.0.1:43817"


@pytest.fixture(autouse=True)
def empty_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def hostile_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(CONFIG)
    for name, value in {
        "AWS_CONFIG_FILE": str(config),
        "AWS_PROFILE": "other",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "AKIAREALREALREALREAL",
        "AWS_SECRET_ACCESS_KEY": "real",
        "AWS_SESSION_TOKEN": "real-token",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)


class Wire:
    """Records what would have been sent, and through which proxy."""

    def __init__(self) -> None:
        self.requests: list[AWSPreparedRequest] = []
        self.proxies: list[Any] = []


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    recorded = Wire()
    initialise = botocore.httpsession.URLLib3Session.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        recorded.proxies.append(options.get("proxies"))
        initialise(self, *args, **options)

    def send(_self: Any, request: AWSPreparedRequest) -> AWSResponse:
        recorded.requests.append(request)
        raise EndpointConnectionError(endpoint_url=request.url)

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "__init__", init)
    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", send)
    return recorded


def local() -> Environment:
    return Environment("local", "us-east-1", EMBEDDED)


def attempt(env: Environment, service: str, operation: str) -> None:
    with pytest.raises(EndpointConnectionError):
        getattr(env.client(service, retries={"max_attempts": 0}), operation)()


@pytest.mark.usefixtures("hostile_shell")
@pytest.mark.parametrize(
    ("service", "operation"),
    [("s3", "list_buckets"), ("sqs", "list_queues"), ("dynamodb", "list_tables"), ("sts", "get_caller_identity")],
)
@pytest.mark.parametrize("profile", ["other", "does-not-exist"])
def test_local_hears_nothing_of_the_shell(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, service: str, operation: str, profile: str
) -> None:
    monkeypatch.setenv("AWS_PROFILE", profile)

    attempt(local(), service, operation)

    [request] = wire.requests
    assert request.url.startswith(EMBEDDED)
    authorization = str(request.headers["Authorization"])
    assert "Credential=test/" in authorization
    assert "/us-east-1/" in authorization
    assert "X-Amz-Security-Token" not in request.headers
    assert not any(wire.proxies)


@pytest.mark.usefixtures("hostile_shell")
@pytest.mark.parametrize("service", ["s3", "sqs", "dynamodb", "cloudformation"])
@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_the_others_ignore_configured_endpoints(monkeypatch: pytest.MonkeyPatch, name: str, service: str) -> None:
    monkeypatch.delenv("AWS_USE_FIPS_ENDPOINT")

    client = environment(name).client(service)

    assert client.meta.endpoint_url.endswith("amazonaws.com")
    assert "127.0.0.1" not in client.meta.endpoint_url


@pytest.mark.parametrize("key", ["test", "000000000000", "123456789012"])
def test_the_others_refuse_embedded_credentials(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    with pytest.raises(errors.Refused, match="embedded AWS's") as refused:
        environment("dev").client("s3")
    assert "unset" in refused.value.next_step


def test_no_credentials_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")

    with pytest.raises(errors.AwsError, match="dev: no AWS credentials found") as raised:
        environment("dev").client("s3")
    assert "sso login" in raised.value.next_step


def test_no_region_is_a_sentence() -> None:
    with pytest.raises(errors.AwsError, match="staging: no AWS region is configured"):
        environment("staging")


def test_a_wrong_profile_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "does-not-exist")

    with pytest.raises(errors.AwsError, match="does-not-exist"):
        environment("dev")


def test_a_wrong_profile_with_a_region_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "does-not-exist")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")

    with pytest.raises(errors.AwsError, match="dev"):
        environment("dev").client("s3")


@pytest.mark.usefixtures("hostile_shell")
def test_region_comes_from_the_environment_then_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment("dev").region == "eu-west-3"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert environment("dev").region == "us-west-2"
    monkeypatch.setenv("AWS_REGION", "ca-central-1")
    assert environment("dev").region == "ca-central-1"


def test_an_unknown_name_is_a_usage_error() -> None:
    with pytest.raises(errors.UsageError, match="production"):
        environment("production")


@pytest.mark.usefixtures("hostile_shell")
def test_a_local_subprocess_gets_the_embedded_aws_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CACHE_DIR", "/somewhere")

    env = local().subprocess_env()

    aws = {name: value for name, value in env.items() if name.startswith("AWS_")}
    assert aws == {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": EMBEDDED,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    assert {name for name in env if name.lower().endswith("_proxy")} == {"NO_PROXY"}
    assert env["PIP_CACHE_DIR"] == "/somewhere"


@pytest.mark.usefixtures("hostile_shell")
def test_another_subprocess_gets_the_users_shell_without_endpoints() -> None:
    env = environment("dev").subprocess_env()

    assert not [name for name in env if name.startswith("AWS_ENDPOINT_URL")]
    assert env["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] == "true"
    assert env["AWS_PROFILE"] == "other"
    assert env["AWS_REGION"] == "eu-west-3"


MFA = """
[profile base]
region = eu-west-1
[profile careful]
region = eu-west-1
role_arn = arn:aws:iam::210987654321:role/deployer
source_profile = base
mfa_serial = arn:aws:iam::210987654321:mfa/ana
"""


@pytest.fixture
def mfa(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A profile whose role wants the code of an MFA device; returns the prompts that a person was shown."""
    prompts: list[str] = []
    terminal = tmp_path / "terminal"
    terminal.touch()
    (tmp_path / "config").write_text(MFA)
    (tmp_path / "credentials").write_text("[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = base\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "careful")
    monkeypatch.setattr(JSONFileCache, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(JSONFileCache.__init__, "__defaults__", (str(tmp_path / "cache"), None))

    def assumed(_: Any, operation: str, arguments: Any) -> Any:
        assert (operation, arguments["TokenCode"]) == ("AssumeRole", "123456")
        expires = datetime.now(UTC) + timedelta(hours=1)
        keys = {"AccessKeyId": "ASIAROLE", "SecretAccessKey": "role", "SessionToken": "token", "Expiration": expires}
        return {"Credentials": keys, "AssumedRoleUser": {"AssumedRoleId": "x:y", "Arn": "arn"}}

    def prompt(text: str) -> str:
        prompts.append(text)
        if terminal.exists():
            return "123456"
        raise EOFError

    monkeypatch.setattr(BaseClient, "_make_api_call", assumed)
    defaults = AssumeRoleProvider.__init__.__defaults__ or ()
    ours = tuple(prompt if one is getpass.getpass else one for one in defaults)
    monkeypatch.setattr(AssumeRoleProvider.__init__, "__defaults__", ours)
    return prompts


def test_an_mfa_code_is_asked_for_once_by_all_processes_and_never_by_sam(mfa: list[str], tmp_path: Path) -> None:
    first = Environment("dev", "eu-west-1").subprocess_env()
    again = Environment("dev", "eu-west-1").subprocess_env()  # as another process would
    assert len(mfa) == 1
    for env in (first, again):
        assert (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]) == ("ASIAROLE", "role")
        assert env["AWS_SESSION_TOKEN"] == "token"
    assert list((tmp_path / "cache").iterdir())  # sam reads and writes the same


def test_without_a_terminal_an_mfa_profile_says_what_to_do(mfa: list[str], tmp_path: Path) -> None:
    (tmp_path / "terminal").unlink()
    with pytest.raises(errors.AwsError, match="code of an MFA device") as refused:
        Environment("dev", "eu-west-1").client("s3")
    assert "in a terminal" in refused.value.next_step


def test_clients_are_cached_by_their_options() -> None:
    env = local()

    assert env.client("s3") is env.client("s3")
    assert env.client("s3") is not env.client("s3", read_timeout=1)


def test_environments_are_values() -> None:
    assert local() == local()
    assert hash(local()) == hash(local())


@pytest.mark.parametrize(
    ("error", "sentence", "hint"),
    [
        (NoCredentialsError(), "AWS cannot be used", "sign in"),
        (EndpointConnectionError(endpoint_url="https://x"), "AWS cannot be reached", "network"),
        (
            ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetObject"),
            "AWS refused GetObject",
            "get-caller-identity",
        ),
        (SSLError(endpoint_url="https://x", error="self-signed"), "AWS's certificate is not trusted", "AWS_CA_BUNDLE"),
        (ProxyConnectionError(proxy_url="http://p"), "AWS cannot be reached through the proxy", "HTTPS_PROXY"),
        (
            ClientError({"Error": {"Code": "SignatureDoesNotMatch", "Message": "Signature expired: …"}}, "GetObject"),
            "AWS refused GetObject",
            "clock",
        ),
    ],
)
def test_what_boto_raises_becomes_a_sentence(error: Any, sentence: str, hint: str) -> None:
    ours = as_aws_error(error)

    assert ours.message == sentence
    assert hint in ours.next_step


def test_address_maps_an_api_url_to_the_embedded_gateway() -> None:
    url = "https://abc123.execute-api.us-east-1.amazonaws.com/local/ingest"

    assert local().address(url) == f"{EMBEDDED}/restapis/abc123/local/_user_request_/ingest"
    assert Environment("dev", "us-east-1").address(url) == url


@pytest.mark.parametrize(("given", "token"), [("AKIA1:secret", None), ("ASIA1:secret:tok/en==", "tok/en==")])
def test_on_the_embedded_aws_one_can_be_a_user_or_a_role(
    monkeypatch: pytest.MonkeyPatch, given: str, token: str | None
) -> None:
    monkeypatch.setenv(EMBEDDED_KEYS, given)
    found = local().session.get_credentials().get_frozen_credentials()
    assert (found.access_key, found.secret_key, found.token) == (given[:5], "secret", token)
    env = local().subprocess_env()
    assert (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]) == (given[:5], "secret")
    assert env.get("AWS_SESSION_TOKEN") == token


def test_who_one_is_on_the_embedded_aws_means_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMBEDDED_KEYS, "AKIA1:secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMINE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    assert Environment("dev", "eu-west-1").session.get_credentials().access_key == "AKIAMINE"
    assert Environment("dev", "eu-west-1").subprocess_env()["AWS_ACCESS_KEY_ID"] == "AKIAMINE"
