"""The evidence bucket of an environment: records and files are put there once, and never over one another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from botocore.exceptions import ClientError

from pik import events
from pik.aws import guard
from pik.aws.guard import Place
from pik.aws.stack import aws_errors
from pik.environments import Environment
from pik.errors import AwsError, NotDeployed
from pik.ledger.entry import EVIDENCE, FIRST, FOLDER, Link, key, link_after, number_of
from pik.pipeline.aws import error_code
from pik.pipeline.backoff import backoff

_ATTEMPTS = 8
_NAMES = 50

File = tuple[str, bytes | Path, str]  # name, content, media type


@dataclass(frozen=True)
class LedgerStore:
    """Where an environment's ledger is; :func:`locate` has made sure that it is this environment's."""

    environment: Environment
    bucket: str
    stack: str
    account: str
    caller: str

    def put_if_absent(self, name: str, body: bytes, media_type: str) -> bool:
        """Store an object; return False, and change nothing, when the key is taken by something else.

        S3 answers 412 when it is taken and 409 when another write of it is under way:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        with aws_errors(self.environment, f"write {name} to the evidence bucket"):
            for attempt in range(_ATTEMPTS):
                try:
                    self.environment.client("s3").put_object(
                        Bucket=self.bucket, Key=name, Body=body, ContentType=media_type, IfNoneMatch="*"
                    )
                    return True
                except ClientError as error:
                    if error_code(error) == "PreconditionFailed":
                        # A put whose answer was lost is sent again by botocore, and then finds itself.
                        return self.get(name) == body
                    if error_code(error) != "ConditionalRequestConflict":
                        raise
                backoff(attempt, first=0.02, longest=0.5)
        raise _contended(self, name)

    def get(self, name: str) -> bytes | None:
        """Return an object's bytes, or None when there is none."""
        with aws_errors(self.environment, f"read {name} from the evidence bucket"):
            try:
                found = self.environment.client("s3").get_object(Bucket=self.bucket, Key=name)
            except ClientError as error:
                if error_code(error) == "NoSuchKey":
                    return None
                raise
            return bytes(found["Body"].read())

    def tail(self, after: int = 0) -> tuple[int, str]:
        """Return the number of the newest entry and what the next one must be chained to.

        The keys are listed to the end: a search that trusts the numbers to be without gaps would fill one.
        """
        with aws_errors(self.environment, "list the ledger"):
            pages = self.environment.client("s3").get_paginator("list_objects_v2")
            begin = {"StartAfter": key(after)} if after else {}
            found = [
                number
                for page in pages.paginate(Bucket=self.bucket, Prefix=FOLDER, **begin)
                for item in page.get("Contents", [])
                if (number := number_of(item["Key"]))
            ]
        number = max([after, *found])
        if not number:
            return 0, FIRST
        body = self.get(key(number))
        return number, link_after(body or b"")

    def put_evidence(self, folder: str, files: Iterable[File]) -> list[Link]:
        """Store files below ``evidence/<folder>/`` and return the links to them.

        A name that is taken by other bytes, as when a step is done again, gets a number.
        """
        return [self._put_file(folder, *file) for file in files]

    def _put_file(self, folder: str, name: str, content: bytes | Path, media_type: str) -> Link:
        body = content.read_bytes() if isinstance(content, Path) else content
        path = PurePosixPath(events.encode(name))
        for number in range(1, _NAMES):
            tried = path.name if number == 1 else f"{path.stem}-{number}{path.suffix}"
            at = f"{EVIDENCE}{events.encode(folder)}/{tried}"
            if self.put_if_absent(at, body, media_type):
                return Link(at, hashlib.sha256(body).hexdigest(), media_type, len(body))
        raise _contended(self, f"{EVIDENCE}{folder}/{name}")


def locate(environment: Environment, place: Place | None = None) -> LedgerStore:
    """Return where an environment's ledger is.

    ``place``: what the guard found at the beginning of the command, which is then not asked again.

    Raises:
        NotDeployed: there is no stack, hence no ledger.
        AwsError: the deployed template has no evidence bucket yet, or AWS refused or did not answer.
        Refused: what answers is another environment (:mod:`pik.aws.guard`).
    """
    name, place = environment.name, place or guard.guard(environment)
    deploy = f"pik deploy --env {name} --phase {place.stack.phase.name if place.stack else 'ingest'}"
    if place.stack is None:
        raise NotDeployed(
            f"{name}: no stack {environment.stack} in {environment.region}, so no ledger", next_step=deploy
        )
    bucket = place.stack.outputs.get("EvidenceBucket")
    if not bucket:
        raise AwsError(
            f"{name}: there is no ledger yet",
            reason="the deployed template has no evidence bucket",
            next_step=f"{deploy} (with this version's template)",
        )
    return LedgerStore(environment, bucket, place.stack.name, place.account, place.caller)


def _contended(store: LedgerStore, what: str) -> AwsError:
    return AwsError(
        f"{store.environment.name}: could not write {what}",
        reason="other writers kept writing the same key",
        next_step="run the same command again",
    )
