"""Environments rehearsed on one embedded AWS: staging and prod, each in an account and a region of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.client import BaseClient

from pik import ledger
from pik.aws import stack
from pik.environments import Environment, environment
from pik.ledger import Entry, Kind
from pik.rollout.gates.deployed import deployed
from pik.rollout.gates.recording import about
from tests.inventory import Inventory, inventory

STAGING, PROD = "111122223333", "444455556666"
# Whoever calls the embedded AWS with an account's id is its root; these are what pik.toml may name as approvers.
ROOT_OF_PROD = f"arn:aws:iam::{PROD}:root"


def toml(path: Path, *, hours: float = 24, approvers: tuple[str, ...] = ()) -> Path:
    """Write a pik.toml in which staging and prod are rehearsed."""
    path.write_text(
        f'[environments.staging]\nplatform = "embedded"\naccount = "{STAGING}"\nevidence_hours = {hours}\n\n'
        f'[environments.prod]\nplatform = "embedded"\naccount = "{PROD}"\nregion = "eu-west-1"\n'
        f"evidence_hours = {hours}\napprovers = {list(approvers)}\n"
    )
    return path


def verified(env: Environment, verdict: str = "passed") -> Entry:
    """Put a verification of what is deployed into the ledger, as a runbook would."""
    now = deployed(env)
    predicate = {"phase": now.phase.name, "verdict": verdict, "sentence": f"as {verdict} as can be", "run": "by-hand"}
    return ledger.append(env, Kind.VERIFICATION, subjects=about(now), predicate=predicate)


@dataclass(frozen=True)
class State:
    """Everything that a refusal must leave alone: every store item by item, and the stack."""

    stores: Inventory
    parameters: dict[str, str]
    outputs: dict[str, str]
    resources: dict[str, str]
    updated: str

    @classmethod
    def of(cls, env: Environment) -> State:
        """Look at it; the ledger is left out, because a refusal is recorded there."""
        found = inventory(env)
        stores = {name: items for name, items in found.stores.items() if name != "EvidenceBucket"}
        there = stack.require(env)
        return cls(
            Inventory(stores, found.queues), there.parameters, there.outputs, stack.resources(env), str(there.updated)
        )


@contextmanager
def calls(monkeypatch: Any) -> Iterator[list[str]]:
    """Record every AWS call that is made meanwhile, by the name of its operation."""
    made: list[str] = []
    call = BaseClient._make_api_call

    def recording(self: BaseClient, operation: str, arguments: Any) -> Any:
        made.append(operation)
        return call(self, operation, arguments)

    with monkeypatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", recording)
        yield made


def overwrite(env: Environment, key: str, body: bytes) -> None:
    """Write over what is in the evidence bucket, as somebody would who takes its policy away first."""
    s3, bucket = env.client("s3"), env.outputs()["EvidenceBucket"]
    policy = s3.get_bucket_policy(Bucket=bucket)["Policy"]
    s3.delete_bucket_policy(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=key, Body=body)
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)


def named(name: str) -> Environment:
    """Return an environment as pik.toml has it now."""
    return environment(name)
