"""Objects of the raw bucket, many at a time: obstore reads them outside the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from pik.aws import stored
from pik.environments import Environment
from pik.errors import AwsError
from pik.events import Event
from pik.pipeline.rows import Arrival

if TYPE_CHECKING:
    from obstore.store import S3Credential

T = TypeVar("T")
U = TypeVar("U")
PARALLEL = 32
_TTL = timedelta(minutes=5)  # how long credentials are used before boto3 is asked again; it renews them in time


class Object(NamedTuple):
    """An object with its bytes; ``metadata`` is the user's."""

    key: str
    body: bytes
    content_type: str
    metadata: dict[str, str]
    etag: str

    def event(self) -> Event:
        """Return the event that the bytes are; raise Rejected (a ValueError) or ValueError when they are none."""
        arrival = Arrival.from_object({**_NO_ARRIVAL, **self.metadata}, self.content_type, self.body)
        return stored.event(self.body, arrival.event_headers)


_NO_ARRIVAL = {"ingest-time": "", "request-id": "", "body-sha256": ""}  # an object that ingest did not write


class Listed(NamedTuple):
    """An object as a listing tells of it."""

    key: str
    etag: str
    size: int


class Objects:
    """Reads one bucket of an environment, with the environment's own credentials and endpoint."""

    def __init__(self, environment: Environment, bucket: str) -> None:
        self.environment = environment
        self.bucket = bucket
        # Everything that obstore would take from the shell is given: the environment decides where we talk to.
        endpoint = environment.client("s3").meta.endpoint_url
        options: dict[str, Any] = {"allow_http": environment.embedded, "timeout": "60s"}
        if environment.ca_bundle:
            options["root_certificate"] = Path(environment.ca_bundle).read_bytes()
        if environment.embedded:  # a proxy of one's own, used for nothing, turns the shell's off
            options |= {"proxy_url": endpoint, "proxy_excludes": urlsplit(endpoint).hostname}
        self._store = S3Store(
            bucket,
            region=environment.region,
            endpoint=endpoint,
            virtual_hosted_style_request=False,
            skip_signature=False,
            credential_provider=self._credentials,
            client_options=options,  # type: ignore[arg-type]
        )

    def _credentials(self) -> S3Credential:
        frozen = self.environment.session.get_credentials().get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _TTL,
        }

    def get(self, key: str) -> Object | None:
        """Return an object, or None when there is none; raise AwsError."""
        try:
            found = obstore.get(self._store, key)
            body = bytes(found.bytes())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._refusal(f"read {key}", error) from error
        about = dict(found.attributes)
        return Object(key, body, about.pop("Content-Type", ""), about, str(found.meta["e_tag"] or ""))

    def many(self, keys: Iterable[str], each: Callable[[str, Object | None], T]) -> Iterator[T]:
        """Yield ``each(key, object)`` for every key, in the order of the keys."""
        return in_parallel(lambda key: each(key, self.get(key)), keys)

    def folders(self, prefix: str) -> tuple[list[str], list[Listed]]:
        """Return the folders just below a prefix, and the objects there."""
        try:
            found = obstore.list_with_delimiter(self._store, prefix)
        except (BaseError, OSError) as error:
            raise self._refusal(f"list {prefix}", error) from error
        objects = [Listed(o["path"], str(o["e_tag"] or ""), o["size"]) for o in found["objects"]]
        return list(found["common_prefixes"]), objects

    def first(self, prefix: str) -> Listed | None:
        """Return the first object below a prefix, or None when there is none."""
        try:
            found = next(iter(obstore.list(self._store, prefix, chunk_size=1)), None)
        except (BaseError, OSError) as error:
            raise self._refusal(f"list {prefix}", error) from error
        return Listed(found[0]["path"], str(found[0]["e_tag"] or ""), found[0]["size"]) if found else None

    def below(self, prefix: str) -> list[Listed]:
        """Return every object below a prefix."""
        try:
            pages = obstore.list(self._store, prefix, chunk_size=1000)
            return [Listed(o["path"], str(o["e_tag"] or ""), o["size"]) for page in pages for o in page]
        except (BaseError, OSError) as error:
            raise self._refusal(f"list {prefix}", error) from error

    def _refusal(self, doing: str, error: Exception) -> AwsError:
        return AwsError(
            f"{self.environment.name}: could not {doing}",
            reason=str(error).split(", source:")[0],
            next_step=f"check your permissions (ViewerPolicy):\npik status --env {self.environment.name}",
        )


def in_parallel(work: Callable[[U], T], items: Iterable[U]) -> Iterator[T]:
    """Yield ``work(item)`` for every item, in order."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        yield from pool.map(work, items)
