"""Aggregate drift: do the aggregates match the raw objects, and is every event of each replay counted?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import altair
import pandas as pd

from pik.notebooks import charts
from pik.notebooks.charts import records
from pik.notebooks.findings import Finding
from pik.notebooks.investigations.base import Investigation, plural
from pik.notebooks.tables import Table
from pik.results import Verdict
from pik.workbench import aggregates, replays

if TYPE_CHECKING:
    from pik.workbench.aggregates import Drift as Compared

SENT, COUNTED, SAME = (
    "was every replay sent to its end?",
    "is every event that was sent counted?",
    "do the aggregates match the raw objects?",
)


class AggregateDrift(Investigation):
    """Which aggregates do not match the raw objects?"""

    title = "Aggregate drift"
    notebook = "investigate/aggregate_drift.ipynb"

    @property
    def replays(self) -> pd.DataFrame:
        """The replays asked for."""
        ids = [self.inputs.replay] if self.inputs.replay else None
        return self.once("replays", lambda: self.wb.replays(entity=self.inputs.entity or None, replay_ids=ids))

    @property
    def versions(self) -> pd.DataFrame:
        """The aggregate versions asked for."""
        entity, day, replay = (self.inputs.values[name] or None for name in ("entity", "day", "replay"))
        return self.once("versions", lambda: self.wb.aggregates(entity, day, replay=replay))

    @property
    def compared(self) -> list[Compared]:
        """The newest versions, computed again from the raw objects."""
        return self.once("compared", self._compare)

    def _compare(self) -> list[Compared]:
        written = self.versions[self.versions["state"].notna()]
        newest = written.sort_values(["updated", "replay_id", "entity_id", "day"], ascending=False)
        rows = records(newest.head(int(self.inputs.most)))
        return [aggregates.aggregate_drift(self.wb, row["entity_id"], row["day"], row["replay_id"]) for row in rows]

    def chart(self) -> altair.Chart:
        """How many versions count all, and how many not?"""
        sizes = Counter(str(row["completeness"]) for row in records(self.versions))
        bad = {"PARTIAL", "UNKNOWN"}
        return charts.counts(sizes, self._counted().sentence, what="completeness", unit="versions", bad=bad)

    def table(self) -> Table:
        """The versions, those that are not complete first."""
        shown = self.versions[
            ["completeness", "entity_id", "day", "replay_id", "input_count", "expected_count", "updated"]
        ].sort_values(["completeness", "updated"], ascending=[False, False])
        return Table(shown, "there is no aggregate yet")

    def drift(self) -> Table:
        """The aggregates that do not match the raw objects."""
        rows = [
            {
                "entity_id": one.version[0],
                "day": one.version[1],
                "replay_id": one.version[2],
                "values that differ": len(one.numbers),
                "not counted": len(one.missing),
                "counted, not selected": len(one.extra),
                "raw objects missing or altered": len(one.problems),
            }
            for one in self.compared
            if one.drifted
        ]
        return Table(pd.DataFrame(rows), f"{plural(len(self.compared), 'version')} computed again: no difference")

    def difference(self) -> Table:
        """What differs between the two newest versions of the same entity and day."""
        written = self.versions[self.versions["state"].notna()].sort_values("updated")
        for _, group in reversed(list(written.groupby(["entity_id", "day"], sort=True))):
            if len(group) > 1:
                older, newer = records(group.tail(2))
                diff = self.wb.aggregate_diff(older, newer)
                events = pd.concat([diff.only_in_a.assign(only_in=diff.a[2]), diff.only_in_b.assign(only_in=diff.b[2])])
                return Table(events if len(events) else diff.numbers, diff.sentence, diff.sentence)
        return Table(written.head(0), "no entity and day has two versions to compare")

    def findings(self) -> list[Finding]:
        """Report which replays and aggregates are not complete."""
        if not len(self.replays) and not len(self.versions):
            name = self.environment.name
            return [
                Finding(
                    Verdict.INCONCLUSIVE,
                    "There are no aggregates yet, because nothing was replayed.",
                    remedy=f"pik run rollout --env {name}\nits second step replays events",
                    question=SENT,
                )
            ]
        return [self._sent(), self._counted(), self._same()]

    def _sent(self) -> Finding:
        open_ = self.replays[~self.replays["complete"].fillna(value=False)]
        if not len(open_):
            sentence = f"{plural(len(self.replays), 'replay')}, each sent to the end of its window."
            return Finding(Verdict.PASSED, sentence, question=SENT)
        found = [self._unsent(row) for row in records(open_)]
        first, missing = found[0], sum(len(item["event_ids"]) for item in found)
        return Finding(
            Verdict.FAILED,
            f"{plural(len(found), 'replay')} stopped before the end: {plural(missing, 'event')} of "
            f"{', '.join(sorted({str(item['entity_id']) for item in found})[:5])} never sent.",
            open_[["replay_id", "entity_id", "sent", "requests", "requested_by", "created"]],
            remedy=f"{self.commands.replay('resume', str(first['replay_id']))}\nsends the rest",
            question=SENT,
            found=found,
        )

    def _unsent(self, row: Mapping[Any, Any]) -> dict[str, Any]:
        replay = replays.known(self.wb, replay_ids=[row["replay_id"]])[row["replay_id"]]
        selected = self.wb.events(
            entity=row["entity_id"], start=row["start_time"], end=row["end_time"], status="ACCEPTED"
        )
        left = selected[selected["sk"] > replay.after] if replay.after else selected
        return {
            "replay_id": row["replay_id"],
            "entity_id": row["entity_id"],
            "sent": row["sent"],
            "event_ids": sorted(left["event_id"]),
        }

    def _counted(self) -> Finding:
        # What was never sent is said above; here it is what was sent and is not counted.
        rows = [row for row in records(self.versions) if row["input_count"] < (row["expected_count"] or 0)]
        if not len(self.versions):
            return Finding(Verdict.INCONCLUSIVE, "There is no aggregate yet.", question=COUNTED, blocking=False)
        if not rows:
            sentence = f"{plural(len(self.versions), 'version')} of aggregates, each counts all that was sent."
            return Finding(Verdict.PASSED, sentence, question=COUNTED)
        off = "processor" not in self.wb.phase
        short = sum(row["expected_count"] - row["input_count"] for row in rows)
        why = " (the processor is off)" if off else ""
        verb = "is" if len(rows) == 1 else "are"
        return Finding(
            Verdict.FAILED,
            f"{plural(len(rows), 'version')} of {len(self.versions):,} {verb} short of "
            f"{plural(short, 'message')} sent and not counted{why}.",
            pd.DataFrame(rows)[["entity_id", "day", "replay_id", "input_count", "expected_count"]],
            remedy=self.commands.run("queue-and-dlq"),
            question=COUNTED,
            found=[{name: row[name] for name in ("entity_id", "day", "replay_id")} for row in rows],
            blocking=not off,
        )

    def _same(self) -> Finding:
        bad = [one for one in self.compared if one.drifted]
        if not self.compared:
            return Finding(Verdict.INCONCLUSIVE, "No aggregate is written yet.", question=SAME, blocking=False)
        if not bad:
            sentence = f"{plural(len(self.compared), 'version')} computed again from the raw objects: nothing differs."
            return Finding(Verdict.PASSED, sentence, question=SAME)
        entity, day, _ = bad[0].version
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        found = [
            {
                "entity_id": one.version[0],
                "day": one.version[1],
                "replay_id": one.version[2],
                "event_ids": sorted({*one.missing, *one.extra, *one.problems}),
            }
            for one in bad
        ]
        return Finding(
            Verdict.FAILED,
            f"{bad[0].sentence}{more}.",
            {" · ".join(one.version): one.sentence for one in bad[:5]},
            remedy=f"{self.commands.run('stores-reconciliation', day=day)}\nthen a replay makes a new version:\n"
            f"{self.commands.replay_day(entity, day)}",
            question=SAME,
            found=found,
        )

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        return {"replays": len(self.replays), "versions": len(self.versions), "computed_again": len(self.compared)}
