"""A replay as the replays table records it: its selection, and what each of its requests did."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

Row = dict[str, Any]
REQUEST = timedelta(minutes=1)  # after which a request for a replay has ended, and is recorded: API Gateway's 29 s


@dataclass(frozen=True)
class Replay:
    """One replay: ``head``, what it is for; ``pages``, what each of its requests did, by where the request began."""

    replay_id: str
    head: Row
    pages: dict[str, Row] = field(repr=False)

    @property
    def of_run(self) -> str:
        """The run of a plan that it is a window of; empty when somebody asked the API for it."""
        return str(self.head.get("run", ""))

    @cached_property
    def chain(self) -> list[Row]:
        """The requests in which each event was sent, once: from the start on, each begins where the one before ended.

        Of a run's window every request counts: its parts are sent side by side, and no line is in two of them.
        """
        return sorted(self.pages.values(), key=lambda page: str(page["next"])) if self.of_run else self._from_start

    @cached_property
    def _from_start(self) -> list[Row]:
        found, seen, at = list[Row](), set[str](), "START"
        while at in self.pages and at not in seen:
            seen.add(at)
            page = self.pages[at]
            found.append(page)
            at = str(page["next"])
            if page["complete"]:
                break
        return found

    @property
    def complete(self) -> bool:
        """Whether the window was sent to its end."""
        return bool(self._from_start) and self._from_start[-1]["complete"] is True

    @property
    def after(self) -> str:
        """Sort key of the last row of the events table before which all were dealt with; empty when none was."""
        return str(self._from_start[-1]["next"]) if self._from_start else ""

    @cached_property
    def expected(self) -> Counter[str]:
        """How many events its aggregates must count, by day."""
        return sum((Counter({d: int(n) for d, n in page["days"].items()}) for page in self.chain), Counter[str]())

    def total(self, name: str) -> int:
        """Sum of ``scanned``, ``matched`` or ``sent`` over its requests."""
        return sum(int(page[name]) for page in self.chain)

    def row(self) -> Row:
        """The replay as a row of the frame."""
        return {
            **self.head,
            "complete": self.complete,
            "finished": max((str(page["finished"]) for page in self.chain), default=None),
            "requests": len(self.chain),
            **{name: self.total(name) for name in ("scanned", "matched", "sent")},
            "expected": self.expected.total(),
            "days": dict(sorted(self.expected.items())),
        }


def replays_of(rows: Iterable[Row]) -> dict[str, Replay]:
    """Return the replays that rows of the replays table record, by id, oldest first."""
    heads, pages = dict[str, Row](), defaultdict[str, dict[str, Row]](dict)
    for row in rows:
        if row["SK"] == "HEAD":
            heads[row["PK"]] = row
        elif row["SK"].startswith("PAGE#"):  # the others name an entity's replays
            pages[row["PK"]][row["SK"].removeprefix("PAGE#")] = row
    ordered = sorted(heads.items(), key=lambda pair: (str(pair[1]["created"]), pair[0]))
    return {head["replay_id"]: Replay(head["replay_id"], head, dict(pages[pk])) for pk, head in ordered}
