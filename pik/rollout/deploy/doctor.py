"""The doctor: compare every environment with ``pik.toml`` and with every other one. Reads only."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pik import config, project
from pik.aws import event_source_mapping
from pik.aws.guard import NAMED, Mismatch, Place, hint, look
from pik.environments import Environment, environment
from pik.errors import AwsError, PikError
from pik.results import Check, Verdict
from pik.rollout.checks.verdicts import check
from pik.rollout.deploy.preflight import preflight
from pik.text import advice

Look = Callable[[Environment], tuple[Place, tuple[Mismatch, ...]]]
Preflight = Callable[[Environment, Place], Iterable[Check]]
# What two environments must never share; functions and mappings follow from the stack.
SHARED = (*sorted(NAMED), "IngestUrl", "ReplayUrl")


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says: a checklist for each environment, and one for what they share."""

    checks: dict[str, tuple[Check, ...]]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed; what could not be looked at is said, and is no failure."""
        return not any(one.verdict is Verdict.FAILED for found in self.checks.values() for one in found)

    def as_dict(self) -> dict[str, Any]:
        """Return it as one JSON-able object."""
        found = {name: [one.model_dump(mode="json") for one in checks] for name, checks in self.checks.items()}
        return {"healthy": self.healthy, "checks": found}

    def to_text(self) -> str:
        """Return it as a person reads it."""
        marks = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.INCONCLUSIVE: "?"}
        lines = []
        for name, checks in self.checks.items():
            lines.append(name)
            for one in checks:
                lines.append(f"  {marks[one.verdict]} {one.name}: {one.sentence}")
                if one.remedy:
                    lines.append(advice("      do this  ", one.remedy))
        return "\n".join(lines)


def doctor(names: Sequence[str] = (), *, looked: Look = look, asked: Preflight = preflight) -> Diagnosis:
    """Look at this machine, at each environment and the account it is in, and at what two of them share.

    ``names``: the environments; all of them when empty. Raises UsageError when ``pik.toml`` is wrong; everything else
    becomes a line of the checklist.

    >>> doctor().healthy                                              # doctest: +SKIP
    True
    """
    known = tuple(config.load())
    checks: dict[str, tuple[Check, ...]] = {"this machine": tuple(_machine())}
    places: dict[str, tuple[Environment, Place]] = {}
    for name in names or known:
        try:
            found = environment(name)
            place, differences = looked(found)
        except PikError as error:
            checks[name] = (_out_of_reach(error),)
            continue
        places[name] = (found, place)
        checks[name] = tuple(_environment(found, place, differences))
        if not found.embedded and not differences:
            checks[name] += tuple(asked(found, place))
    if len(places) > 1:
        checks["between environments"] = (shared(places),)
    return Diagnosis(checks)


def _machine() -> Iterator[Check]:
    sam = project.SAM.exists() or shutil.which("sam") is not None
    yield check("sam", sam, yes="the SAM CLI is there", no="the SAM CLI is not installed", remedy="make setup")
    there = project.EMULATOR_PYTHON.exists()
    yield check("embedded AWS", there, yes="it is installed", no="it is not installed", remedy="make setup")
    file = config.path()
    yield check(
        "pik.toml",
        True if file.exists() else None,
        yes=f"{file.name} is in order",
        no="",
        unknown=f"there is no {file.name}: every environment has its defaults",
        blocking=False,
    )


def _out_of_reach(error: PikError) -> Check:
    reason = f" ({error.reason})" if error.reason else ""
    return Check(
        name="in reach",
        verdict=Verdict.INCONCLUSIVE if isinstance(error, AwsError) else Verdict.FAILED,
        sentence=f"{error.message}{reason}",
        remedy=error.next_step,
        blocking=False,
    )


def _environment(found: Environment, place: Place, differences: Sequence[Mismatch]) -> Iterator[Check]:
    known = bool(found.config.account)
    where = f"account {place.account}, {found.region}, {found.config.protection}"
    yield check(
        "account is known",
        known or found.config.protection == "open",
        yes=where if known else f"{where}; pik.toml does not say which account it must be",
        no=f"pik.toml does not say which account {found.name} belongs to, and it is {found.config.protection}",
        remedy=f'if {place.account} is right: account = "{place.account}" below [environments.{found.name}]',
    )
    yield check(
        "every resource belongs to this environment",
        not differences,
        yes=f"stack {place.stack.name}: id, tag, parameter and every output" if place.stack else "nothing is deployed",
        no="; ".join(map(str, differences)),
        remedy=hint(found, differences) if differences else "",
    )
    if place.stack and not differences:
        yield _consumption(found, place)


def _consumption(found: Environment, place: Place) -> Check:
    """Whether what reads the queue is what the phase says."""
    assert place.stack  # noqa: S101 - asked only where there is one
    phase, dry = place.stack.phase, place.stack.parameters.get("DryRun") == "true"
    states = [one.state for one in event_source_mapping.find(found, place.stack.outputs)]
    wanted = (["Disabled"] if dry else ["Enabled"]) if phase.processor else []
    return check(
        "the queue is read as the phase says",
        states == wanted,
        yes=f"phase {phase.label}, " + (f"mapping {states[0].lower()}" if states else "nothing reads the queue"),
        no=f"phase {phase.label}, but mappings: {', '.join(states) or 'none'}",
        remedy=f"see what is on, and finish a rollback:\npik status --env {found.name}\n"
        f"pik rollback --env {found.name}",
    )


def shared(places: dict[str, tuple[Environment, Place]]) -> Check:
    """No stack, API, table, bucket or queue is reachable from two environments."""
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for name, where in places.items():
        for what in _reachable(*where):
            owners[what].append(name)
    found = sorted(owners.items(), key=lambda item: (not item[0].startswith("stack "), item[0]))  # it explains the rest
    twice = {what: names for what, names in found if len(names) > 1}
    return check(
        "nothing is shared",
        not twice,
        yes=f"no stack, API, table, bucket or queue of {', '.join(places)} is another one's",
        no="; ".join(f"{what} is reached from {' and '.join(names)}" for what, names in list(twice.items())[:5]),
        evidence={"compared": len(owners), "shared": len(twice)},
        remedy="give each environment a stack of its own (account, region or stack in pik.toml), or mend the template",
    )


def _reachable(found: Environment, place: Place) -> set[str]:
    """What an environment leads to, by names that are unique in AWS as far as they go."""
    here = f"{place.account} {found.region}"
    reached = {f"stack {found.stack} ({here})"}
    if place.stack:
        named = {name: value for name, value in place.stack.outputs.items() if name in SHARED and value}
        reached |= {f"{name} {value} ({here})" for name, value in named.items()}
    return reached
