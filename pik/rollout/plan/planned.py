"""A plan as data: what would change, what that means, and one digest over it; a file that holds it; a frame."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pik import phases
from pik.errors import UsageError
from pik.events import sha256_json
from pik.rollout.plan import planresult, planview, prediction
from pik.rollout.plan.diff import Change, PropertyChange
from pik.rollout.plan.prediction import Prediction

if TYPE_CHECKING:
    import pandas as pd

    from pik.results import StepResult

#: Of the plan file; another one is not read.
VERSION = 1
#: What was looked at, not what will be done: it may be different a minute later, and the plan is still the same.
OBSERVED = ("effects", "refusals", "prediction", "asked", "made", "by")


@dataclass(frozen=True)
class Side:
    """What is deployed, or is to be: the digests of :func:`pik.aws.stack.digests`, and every parameter's value."""

    template: str
    code: str
    parameters: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """What a deploy would do; :func:`pik.rollout.plan.plan` makes it, nothing is changed by it.

    Attributes:
        environment, account, region, stack, stack_id: where; ``stack_id`` is empty for a stack that is not there yet.
        kind: ``sources``: the template and code at hand; ``deployed``: those that are deployed, with other parameters.
        previous, phase: the phase before and after.
        base, target: what is deployed (None: nothing) and what is to be.
        changes, parameters, outputs: what differs, data stores first.
        opens_tap: the processor's event source mapping is disabled although it should not be, and is enabled again.
        effects: what the changes mean, in sentences.
        refusals: why applying it is refused; empty when it is not.
        made, by: when and by whom the plan was made.
        prediction: what the processor will write, when it starts to consume.
        asked: parameters that were asked for.
    """

    environment: str
    account: str
    region: str
    stack: str
    stack_id: str
    kind: Literal["sources", "deployed"]
    previous: str
    phase: str
    base: Side | None
    target: Side
    changes: tuple[Change, ...]
    parameters: tuple[PropertyChange, ...]
    outputs: tuple[PropertyChange, ...]
    opens_tap: bool
    effects: tuple[str, ...]
    refusals: tuple[str, ...]
    made: str
    by: str
    prediction: Prediction | None = None
    asked: dict[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all that will be done and from where; neither who made it when, nor what was predicted."""
        defining = {name: value for name, value in asdict(self).items() if name not in OBSERVED}
        return sha256_json(json.loads(json.dumps({"version": VERSION, **defining})))

    @property
    def empty(self) -> bool:
        """Whether applying it does nothing at all."""
        return self.base == self.target and not self.opens_tap

    @property
    def promotes(self) -> bool:
        """Whether it raises the phase of what is deployed: that is a promotion, with its gate and its canary."""
        return self.kind == "deployed" and _number(self.phase) > _number(self.previous)

    @property
    def applicable(self) -> bool:
        """Whether applying it is not refused."""
        return not self.refusals

    @property
    def settings(self) -> dict[str, str]:
        """The parameters whose value is set, with those of the phase."""
        old = self.base.parameters if self.base else {}
        always = {*phases.INGEST.parameters, "Environment"}
        return {n: v for n, v in self.target.parameters.items() if n in always or old.get(n) != v}

    @property
    def command(self) -> str:
        """The command that applies it, or takes the phase back; empty when there is nothing to do or it is refused."""
        where = f"--env {self.environment}"
        if _number(self.phase) < _number(self.previous):
            return f"pik rollback {where} --to {self.phase}"
        if self.empty or self.refusals:
            return ""
        if self.promotes:
            return f"pik promote {where} --to {self.phase}"
        if self.kind == "deployed":
            return f"pik plan {where} --phase {self.phase} --deployed --out FILE\npik deploy --plan FILE"
        dry = {"true": " --dry-run", "false": " --no-dry-run"}.get(self.asked.get("DryRun", ""), "")
        given = [f" --set {shlex.quote(f'{n}={v}')}" for n, v in sorted(self.asked.items()) if n != "DryRun"]
        return f"pik deploy {where} --phase {self.phase}{dry}{''.join(given)}"

    def differences(self, other: Plan) -> tuple[str, ...]:
        """Return the names of what makes two plans two."""
        names = [one.name for one in fields(self) if one.name not in OBSERVED]
        found = [name for name in names if getattr(self, name) != getattr(other, name)]
        sides = [
            f"{name}.{part.name}"
            for name in ("base", "target")
            if name in found and getattr(self, name) and getattr(other, name)
            for part in fields(Side)
            if getattr(getattr(self, name), part.name) != getattr(getattr(other, name), part.name)
        ]
        return tuple([name for name in found if not any(side.startswith(f"{name}.") for side in sides)] + sides)

    @property
    def frame(self) -> pd.DataFrame:
        """One row for each property, parameter and output that differs; of what is removed, and of no property, one."""
        import pandas as pd

        columns = ["action", "resource", "type", "store", "property", "before", "after", "replacement"]
        rows = [
            [one.action, one.id, one.type, one.store, part.path, part.before, part.after, part.replacement]
            for one in self.changes
            for part in one.properties or (PropertyChange("", None, None),)
        ]
        for kind, parts in (("parameter", self.parameters), ("output", self.outputs)):
            rows += [["change", "", kind, False, part.path, part.before, part.after, "no"] for part in parts]
        return pd.DataFrame(rows, columns=columns)

    @property
    def predicted(self) -> pd.DataFrame:
        """What the processor will write, as a frame; without a row when it does not start to consume."""
        return self.prediction.frame if self.prediction else prediction.frame(())

    def result(self) -> StepResult:
        """Return it as the result of a runbook's step."""
        return planresult.result(self)

    def as_dict(self) -> dict[str, Any]:
        """Return it as one JSON-able object, which :meth:`from_dict` reads."""
        head: dict[str, Any] = {"version": VERSION, "digest": self.digest, "empty": self.empty}
        data: dict[str, Any] = json.loads(json.dumps(head | asdict(self) | {"command": self.command}))
        if self.prediction:
            data["prediction"] |= {"exact": self.prediction.exact, "sentence": self.prediction.sentence}
        return data

    @classmethod
    def from_dict(cls, data: Any) -> Plan:
        """Return the plan of an object that :meth:`as_dict` made.

        Raises:
            UsageError: the object is no plan, has another version, or was edited.
        """
        from pydantic import TypeAdapter, ValidationError

        version = data.get("version") if isinstance(data, Mapping) else None
        if version != VERSION:
            found_version = f"its version is {version}" if version else "it has no version"
            raise UsageError(
                "this plan file cannot be read",
                reason=f"{found_version}; this pik reads version {VERSION}",
                next_step=_AGAIN,
            )
        try:
            found = TypeAdapter(cls).validate_python(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError("this file is not a plan", reason=f"{where}: {first['msg']}", next_step=_AGAIN) from None
        if found.digest != data.get("digest"):
            raise UsageError(
                "the plan was edited after it was made",
                reason=f"its digest says {str(data.get('digest'))[:16]}…, its content has {found.digest[:16]}…",
                next_step=_AGAIN,
            )
        return found

    def write(self, path: Path) -> Path:
        """Write the plan file and return its path; raise UsageError when it cannot be written."""
        try:
            path.write_text(json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path} cannot be written", reason=str(error)) from None
        return path

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Return the plan of a file.

        Raises:
            UsageError: there is no such file, or it holds no plan, or one that was edited.
        """
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read", reason=str(error), next_step=_AGAIN) from None

    def to_text(self) -> str:
        """Return it as a terminal shows it."""
        return planview.text(self)

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return planview.html(self)


_AGAIN = "make it again: pik plan … --out FILE"


def _number(phase: str) -> int:
    return phases.OFF.number if phase == phases.OFF.name else phases.phase(phase).number
