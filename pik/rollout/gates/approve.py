"""Approve a promotion: an approver agrees that what is deployed, or planned, goes to a phase. Recorded in the ledger.

Every operator can write into the ledger, under any name. Therefore an approval is also a file below ``approvals/`` of
the evidence bucket, where only the approvers' policy allows writing. An entry without this file is not an approval.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import rfc8785

from pik import events, ledger, phases
from pik.aws import stack
from pik.aws.guard import Place, guard
from pik.environments import Environment
from pik.errors import Refused
from pik.ledger import Entry, Kind
from pik.rollout.gates.decide import may_approve
from pik.rollout.gates.deployed import Deployed, deployed
from pik.rollout.gates.recording import about
from pik.rollout.plan.plan import Plan

FOLDER = "approvals/"


def approve(environment: Environment, to: str, *, comment: str = "", plan: Plan | None = None) -> Entry:
    """Record that the caller approves phase ``to`` for what is deployed, or for what ``plan`` would deploy.

    An approval counts until the environment changes or it is too old, for exactly this template and code, and not for
    a promotion by the one who approved.

    Raises:
        Refused: ``pik.toml`` does not name the caller as an approver of this environment.
        NotDeployed: there is nothing to approve.

    >>> print(approve(environment("prod"), "processor"))              # doctest: +SKIP
    ledger entry 118 · 9f3c2a41d0b7e55c
    """
    target, place = phases.phase(to), guard(environment)
    if not may_approve(environment.config, place.caller):
        patterns = ", ".join(environment.config.approvers) or "nobody"
        raise Refused(
            f"{place.caller} is not listed in `approvers` of {environment.name}",
            reason=f"pik.toml lists {patterns}",
            next_step="ask one of the approvers, or have pik.toml changed in a review",
        )
    there = deployed(environment, place.stack or stack.require(environment))
    if plan:
        there = Deployed(there.phase, plan.target.template, plan.target.code, there.parameters)
    sentence = f"approved: phase {target.label}" + (f" ({comment})" if comment else "")
    approval = {"phase": target.name, "template": there.template, "code": there.code, "by": place.caller}
    body = rfc8785.dumps({**approval, "time": events.now()})
    key = f"{FOLDER}{hashlib.sha256(body).hexdigest()}.json"
    ledger.locate(environment, place).put_if_absent(key, body, "application/json")
    predicate = {"sentence": sentence, "phase": target.name, "comment": comment, "plan": plan.digest if plan else ""}
    predicate |= {"approval": key}
    return ledger.append(environment, Kind.APPROVAL, subjects=about(there), predicate=predicate, place=place)


def vouched(environment: Environment, entries: Iterable[Entry], place: Place | None = None) -> frozenset[int]:
    """Return the numbers of the approvals among ``entries`` whose file exists and is the same."""
    where = ledger.locate(environment, place)
    return frozenset(
        entry.number
        for entry in entries
        if entry.kind is Kind.APPROVAL and _is_approval(where.get(str(entry.predicate.get("approval", ""))), entry)
    )


def _is_approval(body: bytes | None, entry: Entry) -> bool:
    """Whether a file is the approval of this entry: its name is its hash, so it is unchanged since it was written."""
    key = str(entry.predicate.get("approval", ""))
    if body is None or key != f"{FOLDER}{hashlib.sha256(body).hexdigest()}.json":
        return False
    approval = json.loads(body)
    expected = (entry.phase, entry.digest("template"), entry.digest("code"), entry.by)
    return expected == tuple(approval.get(name) for name in ("phase", "template", "code", "by"))
