"""A request that may be sent twice is sent again when its answer is lost."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from pik.aws import exchange
from pik.aws.exchange import Exchange, repeated
from pik.errors import AwsError

LOST = AwsError("local: no answer", reason="RemoteProtocolError: Server disconnected without sending a response.")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_a_lost_answer_is_asked_for_again() -> None:
    answer = Exchange(b"", 200, {})

    assert repeated(Mock(side_effect=[LOST, LOST, answer])) is answer


def test_an_api_that_never_answers_is_given_up() -> None:
    send = Mock(side_effect=LOST)

    with pytest.raises(AwsError, match="no answer"):
        repeated(send)
    assert send.call_count == exchange.LOST_ATTEMPTS
