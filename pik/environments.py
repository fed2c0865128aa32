"""The environments, and the only way to reach AWS: ``environment("dev").client("s3")``.

An environment is a name, one stack (``pik-<name>``), a region, and either the embedded AWS (``local``, or one that is
rehearsed there) or the user's own account. The two never mix: the embedded ones use fixed credentials and the embedded
endpoint whatever the shell says, and the others ignore every configured endpoint and refuse the embedded credentials.
Whether what answers really is the environment named, :mod:`pik.aws.guard` asks.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from pik import errors
from pik.config import LOCAL_ACCOUNT, EnvironmentConfig, config

if TYPE_CHECKING:  # boto3 takes longer to import than a refusal to say; most of those need no AWS
    import boto3
    import botocore.session

__all__ = ["Environment", "as_aws_error", "environment"]
# Who one is on the embedded AWS: "key:secret" or "key:secret:token" of an IAM user or role there; unset: root.
EMBEDDED_KEYS = "PIK_EMBEDDED_KEYS"

_EMBEDDED_KEY = re.compile(r"test|\d{12}")  # what the embedded AWS takes for root, unverified
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_PROXY = re.compile(r"(https?|all|no|ftp)_proxy", re.IGNORECASE)


@dataclass(frozen=True)
class Environment:
    """One environment and the clients that talk to it.

    Attributes:
        name: such as ``dev``.
        region: the AWS region, such as ``eu-west-1``.
        endpoint: address of the embedded AWS; None means AWS itself.
        config: its table in ``pik.toml``.

    Example:
        >>> environment("local").client("sqs").list_queues()  # doctest: +SKIP
    """

    name: str
    region: str
    endpoint: str | None = None  # the embedded AWS; None means AWS itself
    config: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    _clients: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: Any = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    @property
    def stack(self) -> str:
        """Name of the environment's CloudFormation stack."""
        return self.config.stack or f"pik-{self.name}"

    @property
    def embedded(self) -> bool:
        """Whether this is on the embedded AWS."""
        return self.endpoint is not None

    @property
    def rehearsal(self) -> bool:
        """Whether this is an environment of the user's own, rehearsed on the embedded AWS."""
        return self.embedded and self.name != "local"

    @property
    def _embedded_keys(self) -> tuple[str, str, str]:
        """Key, secret and token: whoever ``PIK_EMBEDDED_KEYS`` names, else the root of the environment's account."""
        given = os.environ.get(EMBEDDED_KEYS, "")
        if given:
            key, _, rest = given.partition(":")
            secret, _, token = rest.partition(":")
            return key, secret, token
        root = self.config.account if self.config.account not in ("", LOCAL_ACCOUNT) else "test"
        return root, root, ""

    @cached_property
    def session(self) -> boto3.Session:
        """A boto3 session of this environment's credentials and nobody else's.

        Raises:
            AwsError: there are no credentials, or they cannot be obtained.
            Refused: they are the embedded AWS's, in an environment that is not.
        """
        import boto3

        if self.embedded:
            key, secret, token = self._embedded_keys
            return boto3.Session(key, secret, token or None, region_name=self.region, botocore_session=_deaf_session())
        return _own_session(self.name, self.region, self.config.profile)

    @cached_property
    def ca_bundle(self) -> str:
        """File of the certificates to trust instead of the system's; empty: the system's.

        The same that boto3 uses: ``AWS_CA_BUNDLE``, ``ca_bundle`` of the profile, ``REQUESTS_CA_BUNDLE``. Companies set
        it where a proxy reads TLS. The embedded AWS speaks no TLS. Raises AwsError when the file is not there.
        """
        if self.embedded:
            return ""
        found = self.session._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE") or ""
        if found and not os.path.isfile(found):
            raise errors.AwsError(
                f"{self.name}: there is no file of certificates {found}",
                reason="AWS_CA_BUNDLE, ca_bundle of the profile or REQUESTS_CA_BUNDLE names it",
                next_step="correct it, or unset it to trust the certificates of this machine",
            )
        return str(found)

    def client(self, service: str, **options: Any) -> Any:
        """Return a boto3 client, the same one for the same arguments, safe to use from several threads.

        Args:
            service: as boto3 calls it, such as ``"dynamodb"``.
            **options: go to ``botocore.config.Config``.
        """
        key = (service, repr(sorted(options.items())))
        with self._lock:  # making clients is not thread-safe, using them is
            if key not in self._clients:
                self._clients[key] = self._new_client(service, options)
            return self._clients[key]

    def _new_client(self, service: str, options: Mapping[str, Any]) -> Any:
        from botocore.config import Config

        config: dict[str, Any] = {"retries": {"mode": "standard", "max_attempts": 4}, **options}
        if self.embedded:
            config |= {"proxies": {}, "use_fips_endpoint": False, "use_dualstack_endpoint": False}
        else:
            config["ignore_configured_endpoint_urls"] = True
        return self.session.client(service, endpoint_url=self.endpoint, config=Config(**config))

    def subprocess_env(self) -> dict[str, str]:
        """Return the process environment for a tool such as ``sam`` that is to talk to this environment only.

        ``local``: the caller's without anything about AWS or proxies, plus the embedded endpoint and its credentials.
        Others: the caller's without configured endpoints, and the credentials that this process has. Such a tool has no
        terminal: left to find them itself, it could not ask for the code of an MFA device, and would ask anew.

        Raises:
            AwsError, Refused: as :attr:`session`.
        """
        if not self.embedded:
            kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_ENDPOINT_URL")}
            if self.config.profile:  # keys in the shell would win over a profile
                kept = {k: v for k, v in kept.items() if k not in _KEYS} | {"AWS_PROFILE": self.config.profile}
            return (
                kept
                | self._keys()
                | {
                    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
                    "AWS_REGION": self.region,
                    "AWS_DEFAULT_REGION": self.region,
                    "SAM_CLI_TELEMETRY": "0",
                }
            )
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and not _PROXY.fullmatch(k)}
        key, secret, token = self._embedded_keys
        return kept | {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            **({"AWS_SESSION_TOKEN": token} if token else {}),
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": str(self.endpoint),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SAM_CLI_TELEMETRY": "0",
            "NO_PROXY": "*",  # also against proxies that macOS keeps in its system settings
        }

    def _keys(self) -> dict[str, str]:
        """The session's credentials as they are now, good for a quarter of an hour at the least where they expire."""
        found = self.session.get_credentials()
        if found is None:
            return {}
        frozen = found.get_frozen_credentials()
        keys = dict(zip(_KEYS, (frozen.access_key, frozen.secret_key, frozen.token), strict=True))
        return {name: value for name, value in keys.items() if value}

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
        if not self.embedded:
            return url
        parts = urlsplit(url)
        api_id = (parts.hostname or "").split(".")[0]
        stage, _, path = parts.path.lstrip("/").partition("/")
        query = f"?{parts.query}" if parts.query else ""
        return f"{self.endpoint}/restapis/{api_id}/{stage}/_user_request_/{path}{query}"


def environment(name: str) -> Environment:
    """Return the environment called ``name``, as ``pik.toml`` has it; ``local`` must be up (``pik local up``).

    Args:
        name: ``local``, ``dev``, ``staging``, ``prod``, or a name of your own that has a table in ``pik.toml``.

    Raises:
        UsageError: there is no such environment, or ``pik.toml`` is wrong.
        AwsError: the embedded AWS does not run; or no region is configured.
    """
    found = config(name)
    if found.platform == "embedded":
        from pik.emulator import running

        instance = running()
        return Environment(name, found.region or instance.region, instance.endpoint, found)
    return Environment(name, found.region or _configured_region(name, found.profile), config=found)


def as_aws_error(error: BotoCoreError | ClientError) -> errors.AwsError:
    """Turn what boto3 raises into our sentence, reason and next step (for the edge of the program)."""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        denied = status in (401, 403) or "AccessDenied" in code or "ExpiredToken" in code
        hint = "aws sts get-caller-identity shows who you are; renew or switch the profile" if denied else ""
        if code in _SKEWED or "Signature expired" in str(error) or "Signature not yet current" in str(error):
            hint = "set this machine's clock: AWS refuses what is signed five minutes off (timedatectl set-ntp true)"
        return errors.AwsError(f"AWS refused {error.operation_name}", reason=str(error), next_step=hint)
    name = type(error).__name__
    if "SSL" in name:
        trust = "a proxy that reads TLS? AWS_CA_BUNDLE names the file with your company's certificates"
        return errors.AwsError("AWS's certificate is not trusted", reason=str(error), next_step=trust)
    if "Proxy" in name:
        way = "check HTTPS_PROXY and NO_PROXY"
        return errors.AwsError("AWS cannot be reached through the proxy", reason=str(error), next_step=way)
    if "Connect" in name or "Timeout" in name:
        return errors.AwsError("AWS cannot be reached", reason=str(error), next_step="check network and region")
    return errors.AwsError("AWS cannot be used", reason=str(error), next_step=_SIGN_IN)


_SKEWED = ("RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture")
_SIGN_IN = "sign in (aws sso login, or AWS_PROFILE=<profile>) and check with aws sts get-caller-identity"


def _deaf_session() -> botocore.session.Session:
    """A botocore session that hears no environment variable and reads no file: every setting is its default."""
    import botocore.session

    settings = {
        name: (None, None, default, convert)
        for name, (_, _, default, convert) in botocore.session.Session.SESSION_VARIABLES.items()
    }
    for name in ("config_file", "credentials_file"):
        settings[name] = (None, None, os.devnull, None)
    return botocore.session.Session(session_vars=settings)


def _configured_region(name: str, profile: str) -> str:
    import botocore.session

    region = None if profile else os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        region = region or botocore.session.Session(profile=profile or None).get_config_variable("region")
    except BotoCoreError as error:  # a profile that does not exist
        raise errors.AwsError(f"{name}: {error}", next_step="check AWS_PROFILE, or profile in pik.toml") from None
    if not region:
        raise errors.AwsError(
            f"{name}: no AWS region is configured",
            reason="neither AWS_REGION nor AWS_DEFAULT_REGION nor the profile names one",
            next_step="export AWS_REGION=eu-west-1 (or yours), or aws configure set region …",
        )
    return str(region)


def _own_session(name: str, region: str, profile: str) -> boto3.Session:
    import boto3
    import botocore.session
    from botocore.credentials import JSONFileCache

    try:
        own = botocore.session.Session(profile=profile or None)
        # Where sam keeps them too: an MFA code is asked for once, not by every process.
        own.get_component("credential_provider").get_provider("assume-role").cache = JSONFileCache()
        session = boto3.Session(region_name=region, botocore_session=own)
        credentials = session.get_credentials()
        key = credentials.get_frozen_credentials().access_key if credentials else None
    except EOFError:
        raise errors.AwsError(
            f"{name}: the profile asks for the code of an MFA device, and nobody is there to give it",
            reason="this process has no terminal",
            next_step="any command of the kit in a terminal asks once; the others use what it got until that expires",
        ) from None
    except (BotoCoreError, ClientError) as error:
        raise errors.AwsError(f"{name}: no AWS credentials to be had", reason=str(error), next_step=_SIGN_IN) from None
    if not key:
        raise errors.AwsError(f"{name}: no AWS credentials found", next_step=_SIGN_IN)
    if _EMBEDDED_KEY.fullmatch(key):
        raise errors.Refused(
            f"{name}: the credentials in this shell are the embedded AWS's (key {key})",
            reason=f"{name} is a real account; these belong to the environment local",
            next_step="unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY, then " + _SIGN_IN,
        )
    return session
