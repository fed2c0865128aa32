"""Who gets in: nobody's browser, nobody without permission, and nothing from the caller's shell."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError

from pik import emulator
from pik.environments import Environment


def ask(env: Environment, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(str(env.endpoint)).netloc, timeout=10)
    try:
        connection.request("GET", "/", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
    ],
)
def test_a_browser_is_refused(embedded_env: Environment, headers: dict[str, str]) -> None:
    status, body = ask(embedded_env, headers)

    assert status == 403
    assert "web pages" in json.loads(body)["error"]


def test_it_listens_on_loopback_only(embedded_env: Environment) -> None:
    import psutil

    port = urlsplit(str(embedded_env.endpoint)).port
    pid = emulator.up().pid
    listening = [c.laddr for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN]

    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", port)]


def client_of(env: Environment, service: str, key: str, secret: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=env.endpoint,
        region_name=env.region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )


def test_iam_is_enforced(embedded_env: Environment) -> None:
    iam = embedded_env.client("iam")
    iam.create_user(UserName="reader")
    iam.put_user_policy(
        UserName="reader",
        PolicyName="queues",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": "sqs:ListQueues", "Resource": "*"}],
            }
        ),
    )
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    right = (key["AccessKeyId"], key["SecretAccessKey"])

    client_of(embedded_env, "sqs", *right).list_queues()
    for service, operation, credentials in [
        ("sqs", "list_queues", (key["AccessKeyId"], "wrong")),
        ("s3", "list_buckets", right),
        ("dynamodb", "list_tables", right),
        ("sqs", "list_queues", ("AKIAUNKNOWNUNKNOWN00", "whatever")),
    ]:
        with pytest.raises(ClientError) as refused:
            getattr(client_of(embedded_env, service, *credentials), operation)()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)


def test_a_wrong_secret_is_403(embedded_env: Environment) -> None:
    iam = embedded_env.client("iam")
    iam.create_user(UserName="someone")
    key = iam.create_access_key(UserName="someone")["AccessKey"]

    with pytest.raises(ClientError) as refused:
        client_of(embedded_env, "s3", key["AccessKeyId"], "wrong").list_buckets()

    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


LIST_BUCKETS = """
from pik.environments import environment
env = environment("local")
print([bucket["Name"] for bucket in env.client("s3").list_buckets()["Buckets"]])
print(env.client("sts").get_caller_identity()["Account"])
"""


@pytest.mark.parametrize("profile", ["other", "does-not-exist"])
def test_a_hostile_shell_still_lands_on_the_embedded_aws(
    embedded_env: Environment, tmp_path: Path, profile: str
) -> None:
    embedded_env.client("s3").create_bucket(Bucket=f"proof-{profile}")
    config = tmp_path / "config"
    config.write_text(
        "[profile other]\nregion = eu-west-3\nservices = away\n"
        "[services away]\ns3 =\n  endpoint_url = http://127.0.0.1:9\n"
    )
    hostile = {
        "AWS_CONFIG_FILE": str(config),
        "AWS_PROFILE": profile,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "AKIAREALREALREALREAL",
        "AWS_SECRET_ACCESS_KEY": "real",
        "AWS_SESSION_TOKEN": "real",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "AWS_USE_FIPS_ENDPOINT": "true",
    }

    done = subprocess.run(
        [sys.executable, "-c", LIST_BUCKETS],
        env=os.environ | hostile,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    buckets, account = done.stdout.splitlines()
    assert f"proof-{profile}" in buckets
    assert account == "000000000000"


def test_its_processes_inherit_nothing_from_the_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import psutil

    monkeypatch.setenv("AWS_PROFILE", "leaked")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "leaked")
    monkeypatch.setenv("PIK_TEST_SECRET", "leaked")

    with emulator.embedded(tmp_path) as info:
        environ = psutil.Process(info.pid).environ()

    assert "leaked" not in environ.values()
