"""One signed HTTP request to one of the stack's APIs (SigV4, service ``execute-api``).

::

    response = pik.aws.signed.request(environment, "POST", outputs["IngestUrl"], body)
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from pik.environments import Environment
from pik.errors import AwsError

if TYPE_CHECKING:
    import httpx


def request(
    environment: Environment,
    method: str,
    url: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    signed: bool = True,
    timeout: float = 60.0,
) -> httpx.Response:
    """Send one request and return the answer, whatever its status.

    ``url`` is an API address from the stack's outputs (it is mapped to the embedded AWS when the environment is
    ``local``); ``signed=False`` sends it without credentials. No retries: callers know what a retry means.
    Raises AwsError when there are no credentials or the API cannot be reached.
    """
    import httpx  # heavy, and most commands send no such request

    target = _target(environment, url)
    sent = {"content-type": "application/json", **{k.lower(): v for k, v in (headers or {}).items()}}
    if signed:
        sent = sign(environment, method, target, body, sent)
    try:
        with httpx.Client(verify=tls(environment), trust_env=not environment.embedded, timeout=timeout) as client:
            return client.request(method, target, content=body, headers=sent)
    except httpx.TransportError as error:
        raise AwsError(
            f"{environment.name}: no answer from {target}",
            reason=f"{type(error).__name__}: {error}",
            next_step=f"pik status --env {environment.name}",
        ) from error


def sign(environment: Environment, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
    """Return ``headers`` with the SigV4 signature for exactly this request added."""
    credentials = environment.session.get_credentials()
    if credentials is None:
        raise AwsError(
            f"{environment.name}: no AWS credentials",
            reason="the request must be signed and nothing to sign with was found",
            next_step="aws sso login (or set AWS_PROFILE), then again",
        )
    unsigned = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
    SigV4Auth(credentials.get_frozen_credentials(), "execute-api", environment.region).add_auth(unsigned)
    return dict(unsigned.headers.items())


def _target(environment: Environment, url: str) -> str:
    if environment.endpoint is not None and url.startswith(environment.endpoint):
        return url
    return environment.address(url)


def tls(environment: Environment) -> ssl.SSLContext:
    """Return the certificates that an environment's requests trust: the same as its boto3 clients do."""
    return _context(environment.ca_bundle)


@cache
def _context(bundle: str) -> ssl.SSLContext:
    # Loading the certificate store takes longer than a local request: once per process.
    context = ssl.create_default_context(cafile=bundle or None)
    # From Python 3.13 on a certificate without every extension of RFC 5280 does not do. boto3 still accepts it, and
    # companies hand out such certificates: https://docs.python.org/3/library/ssl.html#ssl.create_default_context
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
