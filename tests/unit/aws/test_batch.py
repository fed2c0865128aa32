"""Many items by their keys: what DynamoDB leaves undone is asked for again, after a pause, and not for ever."""

from __future__ import annotations

from typing import Any

import pytest

from pik.aws import batch
from pik.errors import AwsError


class Throttled:
    """A table that answers one key of each request, and the ``refused`` first requests not at all."""

    def __init__(self, refused: int) -> None:
        self.refused = refused
        self.requests: list[int] = []

    def batch_get_item(self, RequestItems: Any, **_: Any) -> dict[str, Any]:  # noqa: N803
        (wanted,) = RequestItems.values()
        self.requests.append(len(wanted["Keys"]))
        answered = 0 if len(self.requests) <= self.refused else 1
        left = {"t": {**wanted, "Keys": wanted["Keys"][answered:]}} if wanted["Keys"][answered:] else {}
        return {"Responses": {"t": wanted["Keys"][:answered]}, "UnprocessedKeys": left}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The limits of the pauses that were made, none of which takes any time: a pause itself is drawn by lot."""
    made: list[float] = []
    monkeypatch.setattr("time.sleep", made.append)
    monkeypatch.setattr("random.uniform", lambda _, limit: limit)
    return made


def keys(count: int) -> list[dict[str, Any]]:
    return [{"event_id": {"S": str(number)}} for number in range(count)]


def test_what_is_left_is_asked_for_again_after_growing_pauses(pauses: list[float]) -> None:
    table = Throttled(refused=5)

    assert batch.items(table, "t", [*keys(3), *keys(3)]) == keys(3)

    assert table.requests == [3] * 6 + [2, 1]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4])


def test_a_table_that_never_answers_is_an_error(pauses: list[float]) -> None:
    with pytest.raises(AwsError, match="left keys of t unread 12 times"):
        batch.items(Throttled(refused=99), "t", keys(1))
    assert len(pauses) == 12
    assert pauses[7:] == [10] * 5


def test_no_keys_are_no_request() -> None:
    assert batch.items(Throttled(0), "t", []) == []
