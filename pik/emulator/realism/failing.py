"""Calls whose answer is lost, and calls that fail before anything is done."""

from __future__ import annotations

from .dice import Dice, Tally
from .middleware import CUT, Cut, Quiet
from .wire import Answer, Call

LOST_RATE = 0.005
FAILED_RATE = 0.005
API_FAILED_RATE = 0.001  # a producer's request; each of them counts for the alarm over server errors
# What the pipeline and the workbench call all day. A stack is created once, by sam, which tries nothing again.
SERVICES = ("api", "cloudwatch", "dynamodb", "lambda", "logs", "s3", "sqs", "states")
_CODES = {
    "api": (500, "InternalServerErrorException", "Internal server error"),
    "cloudwatch": (500, "InternalServiceFault", "The request processing has failed due to an unknown error."),
    "dynamodb": (500, "InternalServerError", "Internal server error"),
    "lambda": (500, "ServiceException", "An error occurred and the request cannot be processed."),
    "logs": (503, "ServiceUnavailableException", "The service cannot complete the request."),
    "s3": (500, "InternalError", "We encountered an internal error. Please try again."),
    "sqs": (500, "InternalFailure", "The request processing has failed due to an unknown error."),
    "states": (500, "InternalFailure", "The request processing has failed due to an unknown error."),
}


class LostAnswers(Quiet):
    """The effect is done and the connection is cut before the answer: the client cannot know, and sends again.

    https://aws.amazon.com/builders-library/making-retries-safe-with-idempotent-APIs/
    """

    def __init__(self, dice: Dice, tally: Tally) -> None:
        self._dice, self._tally = dice, tally

    def wants(self, call: Call) -> bool:
        """Decide now whether this call's answer is lost."""
        if call.service not in SERVICES:
            return False
        call.notes["lost"] = self._dice.fraction("lost-answers", f"{call.service}.{call.operation}") < LOST_RATE
        return bool(call.notes["lost"])

    def after(self, call: Call, answer: Answer) -> Answer | Cut:
        """Lose it."""
        self._tally.struck("lost-answers")
        return CUT


class FailedCalls(Quiet):
    """A server error, or a connection cut, before anything is done.

    AWS: "5xx: try the request again with exponential backoff";
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html#Programming.Errors.MessagesAndCodes
    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """

    def __init__(self, dice: Dice, tally: Tally) -> None:
        self._dice, self._tally = dice, tally

    def before(self, call: Call) -> Answer | Cut | None:
        """Fail at a rate, every third time without any answer."""
        subject = f"{call.service}.{call.operation}"
        rate = API_FAILED_RATE if call.service == "api" else FAILED_RATE
        if call.service not in SERVICES or self._dice.fraction("failed-calls", subject) >= rate:
            return None
        self._tally.struck("failed-calls")
        if self._dice.fraction("failed-calls how", subject) < 1 / 3:
            return CUT
        return call.error(*_CODES[call.service])
