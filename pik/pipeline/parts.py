"""A part of a manifest is sent: claimed, sent, written down, a few hundred lines at a time.

``PART#<number>`` has ``next``, the first line that is not sent, and ``version``, which each write of it moves on. While
lines are being sent it also has ``to``, the line they end before, and ``until``, when whoever sends them has ended in
any case. Whoever is killed in between leaves ``to``: those lines may be sent or not, so they are sent before anything
else, and counted once. ``lands``: until then a request whose answer was lost may still arrive at the queue.

What is written down is moved in one transaction with ``next``: a row for each window's lines, as for any replay
(:mod:`pik.pipeline.replay`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError

from pik import events
from pik.pipeline import aws, manifest, queue
from pik.pipeline.http import STORE_FAILURES
from pik.pipeline.manifest import Part
from pik.pipeline.settings import Settings

CHUNK = 250  # lines that are claimed at once, at most
# A transaction takes 100 items: two rows for each window that begins, and the two of part and state.
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
MOST_WINDOWS = 49
# How long a request may still arrive whose answer nobody waits for: longer than any connection of ours stays open.
LANDING = 60  # seconds
LEASE = 120  # seconds: the function's 29, LANDING, and 31 for clocks that differ
_REFUSED = "ConditionalCheckFailed"


class NotInState(Exception):
    """The run is not in the state in which this may be done."""


class Busy(Exception):
    """Another request sends this part; in ``seconds`` it has ended in any case."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"for {seconds} s")
        self.seconds = seconds


class Taken(Exception):
    """A window's replay id stands for another replay."""


@dataclass
class Sender:
    """Sends lines of one part, in one request. ``sent``: messages that the queue took; ``at``: the part's next line."""

    run: Mapping[str, Any]
    number: int
    part: Part
    config: Settings
    request_id: str
    has_time: Callable[[], bool]
    token: str = field(default_factory=lambda: uuid4().hex)  # a caller may choose a request's id
    sent: int = 0
    at: int = 0
    _row: dict[str, Any] = field(default_factory=dict)
    _epoch: int = 0

    def send(self, state: str, most: int | None) -> str:
        """Send the part's next lines, ``most`` at most, in a run of this state. Return what the queue did not take.

        Raises:
            NotInState: the run is in another state.
            Busy: another request sends this part.
            Taken: a window's id stands for another replay.

        """
        self._read()
        last = len(self.part.lines) if most is None else min(self.at + most, len(self.part.lines))
        problem = ""
        while self.at < last and not problem:
            problem = self._chunk(state, min(self.at + CHUNK, last))
            if not self.has_time():
                break
        return problem

    def settle(self, state: str) -> None:
        """Send to the end what somebody began and did not end. Raise NotInState or Busy."""
        self._read()
        if "to" in self._row:
            self._chunk(state, int(self._row["to"]))

    def _chunk(self, state: str, end: int) -> str:
        """Claim lines, send them, and write down what was sent. Return what the queue did not take."""
        begin, left = self.at, int(self._row.get("to", 0))  # what somebody left comes first, and alone
        end = left or self._limited(begin, end)
        self._claim(state, begin, end)
        reached, unsure, late, problem = self._deliver(begin, end)
        unsure = max(unsure, left)
        self._write(begin, reached, unsure if reached < unsure else 0, late)
        return problem

    def _limited(self, begin: int, end: int) -> int:
        """The end of what one transaction can write down."""
        windows = 0
        for at in range(begin, end):
            windows += self.part.begins(at)
            if windows > MOST_WINDOWS:
                return at
        return end

    # --- the rows -----------------------------------------------------------------------------------------------------

    @property
    def _key(self) -> dict[str, str]:
        return {"PK": events.replay_pk(self.run["replay_id"]), "SK": f"PART#{self.number:05d}"}

    def _read(self) -> None:
        found = aws.client("dynamodb").get_item(
            TableName=self.config.replays_table, Key=aws.to_item(self._key), ConsistentRead=True
        )
        self._row = aws.from_item(found["Item"]) if "Item" in found else {}
        self.at = int(self._row.get("next", 0))

    def _claim(self, state: str, begin: int, end: int) -> None:
        now, version = events.epoch(events.now()), int(self._row.get("version", 0))
        if "to" in self._row and int(self._row["until"]) >= now:
            raise Busy(max(1, int(self._row["until"]) - now))
        row = {**self._key, "sent": 0, "expired": 0, "lands": 0, **self._row}
        row |= {"next": begin, "to": end, "until": now + LEASE, "token": self.token, "version": version + 1}
        writes = [
            {
                "ConditionCheck": {
                    "TableName": self.config.replays_table,
                    "Key": aws.to_item({"PK": row["PK"], "SK": "STATE"}),
                    "ConditionExpression": "#state = :state",
                    "ExpressionAttributeNames": {"#state": "state"},
                    "ExpressionAttributeValues": aws.to_item({":state": state}),
                }
            },
            # Exactly what was read: what this was computed from.
            self._put(row, "version = :version", {":version": version})
            if self._row
            else self._put(row, "attribute_not_exists(PK)"),
            *self._heads(begin, end),
        ]
        try:
            aws.transact(writes)
        except ClientError as failure:
            of_state, of_part, *of_heads = aws.cancellation_codes(failure) or ["", ""]
            if of_part == _REFUSED and self._is_mine(row):
                return
            if of_state == _REFUSED:
                raise NotInState from None
            if of_part == _REFUSED:
                raise Busy(max(1, int(self._row.get("until", 0)) - now)) from None
            if _REFUSED in of_heads:
                begun = [at for at in range(begin, end) if self.part.begins(at)]
                raise Taken(self._window(begun[of_heads.index(_REFUSED) // 2]).replay_id) from None
            raise
        self._row = row

    def _is_mine(self, row: Mapping[str, Any]) -> bool:
        """Whether the row is what this request wrote: it was written, and the answer was lost."""
        self._read()
        return all(self._row.get(name) == row[name] for name in ("version", "token"))

    def _window(self, at: int) -> manifest.Window:
        return self.part.windows[self.part.lines[at].window]

    def _heads(self, begin: int, end: int) -> Iterator[dict[str, Any]]:
        """Two rows for each window that begins: what it is, and the one by which its entity's replays are found."""
        for at in range(begin, end):
            if not self.part.begins(at):
                continue
            window = self._window(at)
            digest = manifest.selection_sha256(window, self.run["digest"])
            head = {
                "PK": events.replay_pk(window.replay_id),
                "SK": "HEAD",
                "replay_id": window.replay_id,
                "entity_id": window.entity_id,
                "start_time": window.start_time,
                "end_time": window.end_time,
                "include_duplicates": window.include_duplicates,
                "selection_sha256": digest,
                "requested_by": self.run["requested_by"],
                "created": self.run["created"],
                "run": self.run["replay_id"],
            }
            yield self._put(head, "attribute_not_exists(PK) OR selection_sha256 = :digest", {":digest": digest})
            of_entity = {"PK": events.entity_replays_pk(window.entity_id), "SK": head["PK"]}
            yield self._put({**of_entity, "replay_id": window.replay_id})

    def _write(self, begin: int, reached: int, unsure: int, late: bool) -> None:
        """Write down what was sent. ``unsure``: the line before which those end that may be sent or not."""
        live = [at for at in range(begin, reached) if self._is_live(at)]
        version = int(self._row["version"])
        row = {**self._row, "next": reached, "sent": int(self._row["sent"]) + len(live), "version": version + 1}
        row["expired"] = int(row["expired"]) + reached - begin - len(live)
        if late:
            row["lands"] = events.epoch(events.now()) + LANDING
        if unsure:
            row |= {"to": unsure, "until": 0}
        else:
            row = {name: value for name, value in row.items() if name not in {"to", "until"}}
        part = self._put(row, "version = :version", {":version": version})
        try:
            aws.transact([part, *(self._put(page) for page in self._pages(begin, reached, set(live)))])
        except ClientError as failure:
            if aws.cancellation_codes(failure)[:1] != [_REFUSED]:
                raise
            if not self._is_mine(row):  # it took so long that another took over
                raise Busy(1) from None
        self._row, self.at = row, reached

    def _pages(self, begin: int, reached: int, live: set[int]) -> Iterator[dict[str, Any]]:
        """A row for each window's lines, as each request of any replay writes one."""
        start = begin
        for at in range(begin, reached):
            window = self.part.lines[at].window
            if at + 1 < reached and self.part.lines[at + 1].window == window:
                continue
            sent = [self.part.lines[n].row for n in range(start, at + 1) if n in live]
            days = Counter(row["event_time"][:10] for row in sent if row["status"] == events.ACCEPTED)
            yield {
                "PK": events.replay_pk(self._window(at).replay_id),
                "SK": f"PAGE#{self.part.before(start) or 'START'}",
                "next": self.part.lines[at].row["SK"],
                "complete": self.part.ends(at),
                "scanned": at + 1 - start,
                "matched": len(sent),
                "sent": len(sent),
                "days": dict(days),
                "request_id": self.request_id,
                "finished": events.now(),
            }
            start = at + 1

    def _put(
        self,
        row: Mapping[str, Any],
        condition: str = "",
        values: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"TableName": self.config.replays_table, "Item": aws.to_item(row)}
        found |= {"ConditionExpression": condition} if condition else {}
        found |= {"ExpressionAttributeValues": aws.to_item(values)} if values else {}
        return {"Put": found}

    # --- the queue ----------------------------------------------------------------------------------------------------

    def _is_live(self, at: int) -> bool:
        """Whether a line's event is kept: raw objects go when their retention is over."""
        return int(self.part.lines[at].row["expires_at"]) > self._epoch

    def _deliver(self, begin: int, end: int) -> tuple[int, int, bool, str]:
        """Send lines. Return the line reached; where those end that may be sent or not; whether a request may still
        arrive; and what went wrong."""
        self._epoch, late = events.epoch(events.now()), False
        at = begin
        while at < end and (at == begin or self.has_time()):
            batch = range(at, min(at + queue.BATCH, end))
            live = [number for number in batch if self._is_live(number)]
            try:
                done = queue.send(self.config.queue_url, [self._body(number) for number in live]) if live else None
            except STORE_FAILURES as failure:
                return at, batch.stop, True, f"the queue did not answer: {aws.error_name(failure)}"
            late = late or (done is not None and done.late)
            if done and done.refused:
                first = live[min(done.refused)]
                self.sent += sum(number < first for number in live)
                return first, batch.stop, late, f"the queue did not take {len(done.refused)} messages"
            self.sent += len(live)
            at = batch.stop
        return at, 0, late, ""

    def _body(self, at: int) -> str:
        window, row = self._window(at), self.part.lines[at].row
        message = queue.message(
            row, replay_id=window.replay_id, entity_id=window.entity_id, bucket=self.config.raw_bucket
        )
        return queue.dumps(message)
