"""What the Lambda functions' modules make of AWS: clients that fail in time, and no client of the shell's profile."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pik import project
from pik.pipeline import aws, replay

API_GATEWAY = 29.0  # seconds: https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html


def test_two_stores_that_hang_leave_time_for_an_answer() -> None:
    attempts = aws.CONFIG.retries["total_max_attempts"]
    pauses = sum(2**retry for retry in range(attempts - 1))  # botocore waits at most 2**n seconds
    dynamodb = attempts * max(aws.CONFIG.connect_timeout, aws.CONFIG.read_timeout) + pauses
    s3 = dynamodb + attempts  # a second in each attempt for "100 Continue"
    assert s3 + dynamodb < API_GATEWAY - 1
    assert dynamodb < replay._RESERVE_MS / 1000  # of a queue that hangs in the middle of a replay, too


def _imports(name: str, then: str, **variables: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "POWERTOOLS_"))}
    code = f"import sys, pik.pipeline.{name} as module; print({then})"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=project.ROOT, env=kept | variables, capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


@pytest.mark.parametrize("name", ["ingest", "replay", "processor"])
def test_outside_lambda_no_profile_of_the_shell_is_used(name: str) -> None:
    """The workbench imports these modules; a profile that does not exist is none of their business."""
    assert _imports(name, "'aws_xray_sdk' in sys.modules", AWS_PROFILE="there-is-none") == "False"


@pytest.mark.parametrize(("disabled", "traced"), [("false", "True"), ("true", "False")])
def test_in_lambda_the_template_decides_about_traces(disabled: str, traced: str) -> None:
    lambdas = {
        "AWS_LAMBDA_FUNCTION_NAME": "ingest",
        "LAMBDA_TASK_ROOT": "/var/task",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "POWERTOOLS_TRACE_DISABLED": disabled,
    }
    assert _imports("ingest", "'aws_xray_sdk' in sys.modules", **lambdas) == traced
