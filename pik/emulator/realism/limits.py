"""Limits that AWS has, and an API that is not everywhere yet."""

from __future__ import annotations

from collections.abc import Callable, Collection

from .dice import Dice, Tally
from .middleware import Cut, Quiet
from .settings import RealismSettings
from .wire import Answer, Call

REQUEST_BYTES = 6_291_456  # of a synchronous invocation
API_BYTES = 10 * 1024 * 1024
CONCURRENCY = 10  # of a new account
EVENT_BYTES = 4_000  # what API Gateway puts around a body, about
FRESH_SECONDS = 15.0


class LambdaLimits(Quiet):
    """A request to a function is at most 6 MiB, also when API Gateway makes it, which sends the body in base64.

    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html (invocation payload), 10 MB:
    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html.
    The other limit, :data:`CONCURRENCY` invocations at once, is a setting of the emulator.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def before(self, call: Call) -> Answer | Cut | None:
        """Refuse what is too large."""
        if call.service == "api":
            size = len(call.body)
            if size <= API_BYTES and (size + 2) // 3 * 4 + EVENT_BYTES <= REQUEST_BYTES:
                return None
            self._tally.struck("lambda-limits")
            return call.error(413, "RequestTooLargeException", "Request Too Long")
        if call.operation != "Invoke" or call.service != "lambda" or len(call.body) <= REQUEST_BYTES:
            return None
        self._tally.struck("lambda-limits")
        message = f"Request must be smaller than {REQUEST_BYTES} bytes for the InvokeFunction operation"
        return call.error(413, "RequestTooLargeException", message)


class FreshApis(Quiet):
    """A REST API that was just created is unknown to some of API Gateway's hosts for some seconds.

    They answer 403 ("Missing Authentication Token") or 500; what a client is to do is to try again:
    https://docs.aws.amazon.com/apigateway/latest/developerguide/how-to-deploy-api.html. How long it takes is not
    documented. ``apis`` are the ids of those that exist; what exists at the start is not new.
    """

    def __init__(
        self,
        settings: RealismSettings,
        dice: Dice,
        tally: Tally,
        apis: Callable[[], Collection[str]],
        now: Callable[[], float],
    ) -> None:
        self._dice, self._tally, self._apis, self._now = dice, tally, apis, now
        self._seconds = settings.seconds(FRESH_SECONDS)
        self._since: dict[str, float] = dict.fromkeys(apis(), float("-inf"))

    def tick(self) -> None:
        """Note the APIs that are new."""
        now = self._now()
        for api in self._apis():
            self._since.setdefault(api, now)

    def before(self, call: Call) -> Answer | Cut | None:
        """Answer in a new API's place."""
        if call.service != "api":
            return None
        if call.subject not in self._since:  # created after the last tick, which a busy machine delays
            self.tick()
        if self._now() - self._since.get(call.subject, float("-inf")) >= self._seconds:
            return None
        self._tally.struck("fresh-apis")
        if self._dice.fraction("fresh-apis", call.operation) < 0.3:
            return call.error(500, "InternalServerErrorException", "Internal server error")
        return call.error(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
