"""The environments, and the only way to reach AWS: ``environment("dev").client("s3")``.

An environment is a name, one stack (``pik-<name>``), a region, and either the embedded AWS (``local``) or the user's own
account. The two never mix: ``local`` uses fixed credentials and the embedded endpoint whatever the shell says, and the
others ignore every configured endpoint and refuse the embedded credentials.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from pik import errors

NAMES = ("local", "dev", "staging", "prod")


@dataclass(frozen=True)
class Environment:
    """One environment and the clients that talk to it."""

    name: str
    region: str
    endpoint: str | None = None  # the embedded AWS; None means AWS itself

    @property
    def stack(self) -> str:
        """Name of the environment's CloudFormation stack."""
        return f"pik-{self.name}"

    @property
    def is_local(self) -> bool:
        """Whether this is the embedded AWS."""
        return self.endpoint is not None

    @cached_property
    def session(self) -> boto3.Session:
        """A boto3 session of this environment's credentials and nobody else's."""
        if self.is_local:
            core = botocore.session.Session(profile=None)
            core.set_config_variable("profile", None)
            core.set_config_variable("config_file", os.devnull)
            core.set_config_variable("credentials_file", os.devnull)
            return boto3.Session("test", "test", region_name=self.region, botocore_session=core)
        return boto3.Session(region_name=self.region)

    def client(self, service: str, **options: Any) -> Any:
        """Return a boto3 client; ``options`` go to ``botocore.config.Config``."""
        config: dict[str, Any] = {"retries": {"mode": "standard", "max_attempts": 4}, **options}
        if self.is_local:
            config["proxies"] = {}
        else:
            config["ignore_configured_endpoint_urls"] = True
        return self.session.client(service, endpoint_url=self.endpoint, config=Config(**config))

    def outputs(self) -> dict[str, str]:
        """Return the stack's outputs, resolved anew; raise NotDeployed when there is no stack."""
        try:
            stacks = self.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"]
        except ClientError as error:
            if "does not exist" in str(error):
                raise errors.NotDeployed(
                    f"{self.name}: no stack {self.stack} in {self.region}",
                    next_step=f"pik deploy --env {self.name} --phase ingest",
                ) from None
            raise
        return {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", [])}

    def address(self, url: str) -> str:
        """Map an API's AWS address from the outputs to where this environment really serves it."""
        if not self.is_local:
            return url
        parts = urlsplit(url)
        api_id = (parts.hostname or "").split(".")[0]
        stage, _, path = parts.path.lstrip("/").partition("/")
        return f"{self.endpoint}/restapis/{api_id}/{stage}/_user_request_/{path}"


def environment(name: str) -> Environment:
    """Return the environment called ``name``; ``local`` must be up (``pik local up``)."""
    if name not in NAMES:
        raise errors.UsageError(f"no such environment: {name}", next_step=f"one of {', '.join(NAMES)}")
    if name == "local":
        from pik.local import running_endpoint

        return Environment(name, region="us-east-1", endpoint=running_endpoint())
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return Environment(name, region=region)
