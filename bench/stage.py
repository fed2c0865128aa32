"""The place of a benchmark: an embedded AWS of its own, the project's stack and the naive one, side by side."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.embedded import handler_variables
from pik import emulator, producer, project
from pik.environments import Environment, environment
from pik.errors import AwsError
from pik.rollout.deploy.deploy import deploy

NAIVE_STACK = "bench-naive"
_NAIVE = Path(__file__).parent / "naive"
_REPORT = re.compile(r"^REPORT .*?Billed Duration: ([\d.]+) ms")
# CloudWatch bills 26 bytes more than its text for every log event.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
_LOG_EVENT_BYTES = 26


@dataclass(frozen=True)
class Target:
    """One deployed ingest: where it answers, what runs there, and where it stores."""

    name: str
    module: str
    environment: Environment
    outputs: dict[str, str]
    memory_mb: int

    def send(self, events: list[dict[str, Any]], concurrency: int) -> producer.Summary:
        """Send events through the API; raise when one of them is not safely answered."""
        bodies = [producer.encode(event) for event in events]
        summary = producer.send(
            bodies,
            self.environment,
            concurrency=concurrency,
            url=self.outputs["IngestUrl"],
            retries=producer.Retries(attempts=2),
            failed=Path(os.devnull),
        )
        if not summary.safe:
            raise AwsError(f"{self.name}: not every event is safe", reason=json.dumps(summary.as_dict()))
        return summary

    def logs(self, since_ms: int) -> tuple[list[float], float]:
        """Return the billed durations (ms) and the billed log bytes an invocation, of what ran since then."""
        logs = self.environment.client("logs")
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=self.outputs["IngestLogGroup"], startTime=since_ms
        )
        messages = [event["message"] for page in pages for event in page["events"]]
        durations = [float(match[1]) for message in messages if (match := _REPORT.match(message))]
        size = sum(len(message.encode()) + _LOG_EVENT_BYTES for message in messages)
        return durations, size / max(1, len(durations))

    def observe(self, bodies: list[bytes], crash_bodies: list[bytes]) -> dict[str, Any]:
        """Run the deployed handler with its deployed settings in a process of its own; see :mod:`bench.calls`."""
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder) / "answer.json"
            order = {
                "module": self.module,
                "bodies": [body.decode() for body in bodies],
                "crash_bodies": [body.decode() for body in crash_bodies],
                "events_table": self.outputs["EventsTable"],
                "raw_bucket": self.outputs["RawBucket"],
                "answer": str(answer),
            }
            run = subprocess.run(
                [sys.executable, "-m", "bench.calls"],
                input=json.dumps(order),
                text=True,
                capture_output=True,
                cwd=project.ROOT,
                env=handler_variables(self.environment, [self.outputs["IngestFunction"]]),
                check=False,
            )
            if run.returncode:
                raise AwsError(f"{self.name}: its calls could not be observed", reason=run.stderr[-2000:])
            observed: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
            return observed


@contextmanager
def stage(say: Callable[[str], None]) -> Iterator[tuple[Target, Target]]:
    """Start an embedded AWS with both stacks and yield (project, naive); everything is gone afterwards."""
    before = os.environ.get(emulator.STATE_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="pik-bench-") as folder:
        os.environ[emulator.STATE_VARIABLE] = folder
        try:
            say("embedded AWS of its own")
            with emulator.embedded(folder):
                where = environment("local")
                say("deploy the project, phase ingest")
                # The throttles protect a bill; here they would be what is measured.
                deploy(where, "ingest", parameters={"IngestRateLimit": "10000", "IngestBurstLimit": "5000"})
                ours = _project(where)
                say("deploy the naive handler: same artifact, memory, tables and indexes")
                yield ours, _naive(where, ours)
        finally:
            if before is None:
                del os.environ[emulator.STATE_VARIABLE]
            else:
                os.environ[emulator.STATE_VARIABLE] = before


def _project(where: Environment) -> Target:
    outputs = where.outputs()
    found = where.client("lambda").get_function_configuration(FunctionName=outputs["IngestFunction"])
    return Target("project", "pik.pipeline.ingest", where, outputs, int(found["MemorySize"]))


def _naive(where: Environment, ours: Target) -> Target:
    functions, cloudformation, s3 = where.client("lambda"), where.client("cloudformation"), where.client("s3")
    function = functions.get_function(FunctionName=ours.outputs["IngestFunction"])
    artifact = httpx.get(function["Code"]["Location"], trust_env=False).raise_for_status().content
    s3.create_bucket(Bucket="bench-code")
    s3.put_object(Bucket="bench-code", Key="naive.zip", Body=_with_handler(artifact))
    parameters = {
        "CodeBucket": "bench-code",
        "CodeKey": "naive.zip",
        "MemorySize": str(ours.memory_mb),
        "Runtime": function["Configuration"]["Runtime"],
    }
    cloudformation.create_stack(
        StackName=NAIVE_STACK,
        TemplateBody=(_NAIVE / "template.yaml").read_text(encoding="utf-8"),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=NAIVE_STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    found = cloudformation.describe_stacks(StackName=NAIVE_STACK)["Stacks"][0]["Outputs"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found}
    return Target("naive", "bench.naive.handler", where, outputs, ours.memory_mb)


def _with_handler(artifact: bytes) -> bytes:
    """Return the project's artifact with the naive handler beside it: same libraries, same size, same start."""
    copy = io.BytesIO(artifact)
    with zipfile.ZipFile(copy, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.write(_NAIVE / "handler.py", "naive.py")
    return copy.getvalue()
