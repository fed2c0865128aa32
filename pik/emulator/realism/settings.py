"""What somebody asked of the realism mode: a seed, a compression of time, habits left out, a region, a clock."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .dice import Dice

# Such as "7", "7 compress=10 without=lost-answers,clock-skew", or "0 only=partition region=cn-north-1".
VARIABLE = "PIK_LOCAL_REALISM"

SKEW_VARIABLE = "PIK_LOCAL_CLOCK_SKEW"  # seconds that the clock of the embedded AWS is ahead, for its functions
SKEW_SECONDS = 60.0
REGION = "us-east-1"  # the region of the embedded AWS, unless another one is asked for

# Every habit, and what it does in a few words.
HABITS: dict[str, str] = {
    "lost-answers": "the effect is done, the connection is cut",
    "failed-calls": "an internal error, or a connection cut, before anything is done",
    "throttling": "DynamoDB, SQS, Lambda, Logs, CloudWatch and API Gateway refuse calls, up to 3 s long",
    "cloudformation-throttling": "Describe, List and Get calls of CloudFormation are refused",
    "s3-busy": "S3 answers 503 SlowDown, and 409 to conditional writes",
    "transaction-conflicts": "DynamoDB cancels a transaction or refuses a write: another one is ongoing",
    "partial-batches": "a batch call succeeds and leaves entries undone",
    "queue-counts": "approximate numbers of messages are 0 to 60 s old",
    "index-lag": "a new item is missing in an index for up to 2 s",
    "mapping-states": "an event source mapping changes state for 5 to 45 s and takes no other change meanwhile",
    "slow-invocations": "an invocation runs on after its mapping is disabled",
    "late-metrics": "a data point can be read 60 to 180 s after it was made",
    "late-logs": "a log line can be read 5 to 20 s after it was written",
    "fresh-apis": "a new REST API answers 403 or 500 for 15 s",
    "lambda-limits": "requests over 6 MiB are refused, and 10 invocations run at once",
    "lifecycle": "S3 deletes what a lifecycle rule lets expire",
    "clock-skew": "the clock of AWS and of its functions is up to 60 s ahead or behind",
    "partition": "ARNs and regions of other partitions than its own are refused",
}
# Those that make an answer late or old.
_LATE = frozenset({"queue-counts", "index-lag", "mapping-states", "slow-invocations", "late-metrics", "late-logs"})
_REGION = re.compile(r"[a-z]+(-[a-z]+)+-\d+")
_WORDS = ("compress", "without", "only", "fail-resource", "region", "skew")


def only(*habits: str) -> frozenset[str]:
    """Return what is left out when these habits are the only ones. Raise ValueError for what is none.

    >>> RealismSettings(0, without=only("partition")).text
    '0 only=partition'
    """
    _check(habits)
    return frozenset(HABITS.keys() - set(habits))


def _check(habits: Iterable[str]) -> None:
    unknown = sorted(set(habits) - HABITS.keys())
    if unknown:
        raise ValueError(f"no such habit: {', '.join(unknown)}; there are {', '.join(HABITS)}")


@dataclass(frozen=True)
class RealismSettings:
    """How real it is to be.

    Attributes:
        seed: decides everything that is decided by chance; the same requests in the same order meet the same habits.
        compress: how many times faster than AWS its waits go by (10: 60 s take 6 s). The clock skew is not compressed.
        without: names of :data:`HABITS` that are left out.
        fail_resource: the how manyeth resource that CloudFormation creates fails, once; 0: none.
        region: where it is. The partition follows from it: ``cn-north-1`` is in ``aws-cn``.
        asked_skew: seconds that AWS's clock is ahead of this machine's (negative: behind) instead of the seed's number.

    >>> RealismSettings.parse("7 compress=10 without=lost-answers,clock-skew").without == {"lost-answers", "clock-skew"}
    True
    >>> RealismSettings.parse("0 only=clock-skew skew=-60").skew
    -60.0
    >>> RealismSettings.parse("7").text
    '7'
    """

    seed: int
    compress: float = 1.0
    without: frozenset[str] = field(default_factory=frozenset)
    fail_resource: int = 0
    region: str = REGION
    asked_skew: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be meant."""
        _check(self.without)
        if not self.compress >= 1:
            raise ValueError(f"compress is a factor of at least 1, not {self.compress:g}")
        if self.fail_resource < 0:
            raise ValueError("fail-resource counts from 1")
        if not _REGION.fullmatch(self.region):
            raise ValueError(f"a region is such as {REGION} or cn-north-1, not {self.region}")
        if self.asked_skew is not None and "clock-skew" in self.without:
            raise ValueError("skew goes with the habit clock-skew")

    @classmethod
    def parse(cls, text: str) -> RealismSettings:
        """Return the settings that ``text`` names, as :data:`VARIABLE` has them; raise ValueError."""
        seed, *words = text.split()
        given = dict(word.partition("=")[::2] for word in words)
        unknown = given.keys() - set(_WORDS)
        if unknown:
            raise ValueError(
                f"realism takes SEED, {', '.join(f'{word}=' for word in _WORDS)}; not {', '.join(unknown)}"
            )
        if given.keys() >= {"without", "only"}:
            raise ValueError("without= and only= exclude each other")
        named = frozenset(filter(None, given.get("without", given.get("only", "")).split(",")))
        left_out = only(*named) if "only" in given else named
        skew = float(given["skew"]) if "skew" in given else None
        region, fails = given.get("region", REGION), int(given.get("fail-resource", 0))
        return cls(int(seed), float(given.get("compress", 1)), left_out, fails, region, skew)

    @property
    def text(self) -> str:
        """The settings in one line, as :meth:`parse` reads them."""
        words, on = [str(self.seed)], HABITS.keys() - self.without
        words += [f"compress={self.compress:g}"] if self.compress != 1 else []
        if len(on) < len(self.without):
            words += [f"only={','.join(sorted(on))}"]
        else:
            words += [f"without={','.join(sorted(self.without))}"] if self.without else []
        words += [f"fail-resource={self.fail_resource}"] if self.fail_resource else []
        words += [f"region={self.region}"] if self.region != REGION else []
        words += [f"skew={self.asked_skew:g}"] if self.asked_skew is not None else []
        return " ".join(words)

    def has(self, habit: str) -> bool:
        """Whether a habit is on."""
        if habit not in HABITS:
            raise ValueError(f"no such habit: {habit}")
        return habit not in self.without

    @property
    def lateness(self) -> float:
        """How late counts, logs and metrics are, in terms of AWS: 1 as there, 0 not at all.

        >>> RealismSettings(7, compress=10).lateness, RealismSettings(7, without=only("clock-skew")).lateness
        (0.1, 0.0)
        """
        return 0.0 if self.without >= _LATE else 1 / self.compress

    @property
    def skew(self) -> float:
        """How many seconds the clock of AWS is ahead of this machine's, or behind it: by seed 20 to 60.

        >>> RealismSettings(1, without=frozenset({"clock-skew"})).skew
        0.0
        """
        if not self.has("clock-skew"):
            return 0.0
        if self.asked_skew is not None:
            return self.asked_skew
        number = Dice(self.seed).fixed("clock-skew", "")
        size = SKEW_SECONDS * (1 + 2 * (2 * number % 1)) / 3
        return round(size if number < 0.5 else -size, 3)

    def seconds(self, real: float) -> float:
        """Return how long takes here what takes ``real`` seconds on AWS."""
        return real / self.compress
