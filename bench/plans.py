"""``python -m bench.plans``: what `pik plan` and the change set of `sam deploy` show of the same edits.

Each edit is made to a copy of the sources, with a stack at phase 2 and messages waiting on an embedded AWS. Both are
asked, nothing is deployed. docs/plan.md gets what they said; what AWS's own change sets would show is said there by
hand, with sources.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import report
from bench.embedded import embedded
from bench.sources import edited, replaced
from pik.environments import Environment
from pik.rollout.plan import sam
from pik.rollout.plan.plan import plan
from pik.rollout.plan.planned import Plan

DOCS = Path(__file__).parent.parent / "docs" / "plan.md"
DAY = "2024-02-29"
EVENTS = 20
WIDEST = 150


@dataclass(frozen=True)
class Edit:
    """One edit: what somebody did, and to which phase the stack is to go."""

    title: str
    change: Callable[[Path], object]
    phase: str = "replay"


def _appended(folder: Path, name: str, text: str) -> None:
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write(text)


def _without_policy(folder: Path) -> None:
    replaced(
        folder,
        "template.yaml",
        "  RawBucket:\n    Type: AWS::S3::Bucket\n    DeletionPolicy: RetainExceptOnCreate\n",
        "  RawBucket:\n    Type: AWS::S3::Bucket\n",
    )


EDITS = (
    Edit("a toggle: the processor is switched on, nothing is edited", lambda _: None, "processor"),
    Edit(
        "a variable for every function, in Globals",
        lambda folder: replaced(
            folder,
            "template.yaml",
            "PIK_DRY_RUN: !Ref DryRun\n",
            'PIK_DRY_RUN: !Ref DryRun\n        POWERTOOLS_LOGGER_SAMPLE_RATE: "0.1"\n',
        ),
    ),
    Edit(
        "a table is given a name",
        lambda folder: replaced(
            folder,
            "template.yaml",
            "        - {AttributeName: event_id, AttributeType: S}\n      KeySchema:",
            "        - {AttributeName: event_id, AttributeType: S}\n      TableName: dedupe\n      KeySchema:",
        ),
    ),
    Edit("a bucket loses its DeletionPolicy", _without_policy),
    Edit("code only", lambda folder: _appended(folder, "pik/pipeline/replay.py", "\n# one more line\n")),
    Edit(
        "a role may do more",
        lambda folder: replaced(
            folder,
            "template.yaml",
            "Action: [dynamodb:ConditionCheckItem, dynamodb:GetItem, dynamodb:PutItem, dynamodb:Query]",
            "Action: [dynamodb:ConditionCheckItem, dynamodb:DeleteItem, dynamodb:GetItem, dynamodb:PutItem, "
            "dynamodb:Query]",
        ),
    ),
)


@dataclass(frozen=True)
class Told:
    """What both said of one edit: the rows of sam's table, and the plan."""

    title: str
    sam: list[str]
    plan: list[str]
    row: list[str]


@contextmanager
def stage() -> Iterator[Environment]:
    """An embedded AWS of our own: a stack at phase 2, and messages waiting."""
    from pik import producer
    from pik.aws.reading import StoreReader
    from pik.rollout.checks.replaying import replay_all, select

    with embedded("replay") as env:
        producer.send([_event(number) for number in range(EVENTS)], env)
        window = (f"{DAY}T00:00:00.000000Z", "2024-03-01T00:00:00.000000Z")
        replay_all(env, [select(StoreReader(env), f"entity-{n}", *window) for n in range(2)])
        yield env


def _event(number: int) -> dict[str, Any]:
    return {
        "source": "bench",
        "event_type": "measured",
        "entity_id": f"entity-{number % 2}",
        "event_time": f"{DAY}T00:00:{number:02d}Z",
        "payload": {"number": number},
    }


def compare(env: Environment, edit: Edit, folder: Path) -> Told:
    """Make one edit to a copy of the sources and ask both what it does. Nothing is deployed."""
    with edited(folder / "sources", edit.change):
        ours = plan(env, edit.phase)
        log = folder / "sam.log"
        built = sam.build(env, log, lambda _: None)
        sam.run(env, [*sam.deploy_arguments(env, built, ours.settings), "--no-execute-changeset"], log)
    said = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8").rpartition("$ sam deploy")[2])
    table = _table(said, _properties(env, said))
    listed = len(table) - 1 if len(table) > 1 else 0
    row = [edit.title, str(listed), str(len(ours.changes)), "refused" if ours.refusals else ""]
    return Told(edit.title, table, _ours(ours), row)


def _table(said: str, properties: dict[str, list[str]]) -> list[str]:
    """The rows of the table that `sam deploy` prints, each with what the API of the same change set adds."""
    found = re.findall(r"^([+*-] (?:Add|Modify|Delete))\s+(\S+)\s+(\S+)\s+(\S+)", said, re.MULTILINE)
    if not found:
        return [line.strip() for line in said.splitlines() if "No changes" in line] or ["(nothing)"]
    rows = [("Operation", "LogicalResourceId", "ResourceType", "Replacement", "(through the API: properties)")]
    for action, name, kind, replacement in found:
        # sam cuts what does not fit its columns
        whole = next((full for full in properties if full.startswith(name)), name)
        rows.append((action, name, kind, replacement, ", ".join(properties.get(whole, []))))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]).rstrip() for row in rows
    ]


def _properties(env: Environment, said: str) -> dict[str, list[str]]:
    """What the API tells of each resource of the change set, values asked for: the properties that differ."""
    arn = re.search(r"arn:\S+:changeSet/\S+", said)
    if arn is None:
        return {}
    client = env.client("cloudformation")
    described = client.describe_change_set(ChangeSetName=arn[0], StackName=env.stack, IncludePropertyValues=True)
    found: dict[str, list[str]] = {}
    for change in (item["ResourceChange"] for item in described["Changes"]):
        targets = [detail["Target"] for detail in change.get("Details", [])]
        found[change["LogicalResourceId"]] = list(dict.fromkeys(map(_target, targets)))
    return found


def _target(target: dict[str, Any]) -> str:
    values = f" {target.get('BeforeValue')} -> {target['AfterValue']}" if "AfterValue" in target else ""
    return f"{target.get('Name') or target['Attribute']}{values}"


def _ours(found: Plan) -> list[str]:
    """The plan as the terminal shows it; without its head and digest, which are another's each time."""
    lines = found.to_text().splitlines()[4:]
    kept = [line.rstrip() for line in lines if not line.startswith(("digest ", "next "))]
    return [re.sub(r"rollout-\d{8}T\d{6}\.\d{6}", "rollout-…", line) for line in kept]


def markdown(told: list[Told]) -> str:
    """Return the generated section."""
    head = "| edit | resources that `sam deploy` lists | resources that `pik plan` lists | result |"
    lines = ["", head, "|---|---|---|---|"]
    lines += [f"| {number}. {' | '.join(one.row)} |" for number, one in enumerate(told, start=1)]
    for number, one in enumerate(told, start=1):
        lines += ["", f"### {number}. {one.title}", "", "`sam deploy`:", "", *_block(one.sam)]
        lines += ["", "`pik plan`:", "", *_block(one.plan)]
    return "\n".join(lines) + "\n\n"


def _block(lines: list[str]) -> list[str]:
    shown = [line if len(line) <= WIDEST else f"{line[: WIDEST - 1]}…" for line in lines]
    while shown and not shown[-1].strip():
        shown.pop()
    return ["```text", *shown, "```"]


def document(text: str, path: Path = DOCS) -> None:
    """Replace the generated section of docs/plan.md."""
    report.renew(path, "comparison", text)


def smoke(say: Callable[[str], None]) -> None:
    """See that it works, on the edit that the plan must refuse. Nothing is written."""
    with stage() as env, tempfile.TemporaryDirectory() as folder:
        for edit in (one for one in EDITS if one.change is _without_policy):
            told = compare(env, edit, Path(folder))
            say(" · ".join(told.row))
            if told.row[-1] != "refused":
                raise RuntimeError(f"{edit.title}: the plan was to refuse it")


def main() -> int:
    """Compare, and renew the document."""
    told = []
    with stage() as env:
        for edit in EDITS:
            with tempfile.TemporaryDirectory() as folder:
                told.append(compare(env, edit, Path(folder)))
            print(" · ".join(told[-1].row), flush=True)
    document(markdown(told))
    print(f"written {DOCS}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
