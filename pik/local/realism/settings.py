"""What somebody asked of the realism mode: a seed, a compression of time, and habits left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from .dice import Dice

VARIABLE = "PIK_LOCAL_REALISM"  # such as "7", or "7 compress=10 without=lost-answers,clock-skew fail-resource=12"

SKEW_VARIABLE = "PIK_LOCAL_CLOCK_SKEW"  # seconds that the clock of the embedded AWS is ahead, for its functions
SKEW_SECONDS = 60.0

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
}


@dataclass(frozen=True)
class Settings:
    """How real it is to be.

    Attributes:
        seed: decides everything that is decided by chance; the same requests in the same order meet the same habits.
        compress: how many times faster than AWS its waits go by (10: 60 s take 6 s). The clock skew is not compressed.
        without: names of :data:`HABITS` that are left out.
        fail_resource: the how manyeth resource that CloudFormation creates fails, once; 0: none.

    >>> Settings.parse("7 compress=10 without=lost-answers,clock-skew").without == {"lost-answers", "clock-skew"}
    True
    >>> Settings.parse("7").text
    '7'
    """

    seed: int
    compress: float = 1.0
    without: frozenset[str] = field(default_factory=frozenset)
    fail_resource: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be meant."""
        unknown = sorted(self.without - HABITS.keys())
        if unknown:
            raise ValueError(f"no such habit: {', '.join(unknown)}; there are {', '.join(HABITS)}")
        if not self.compress >= 1:
            raise ValueError(f"compress is a factor of at least 1, not {self.compress:g}")
        if self.fail_resource < 0:
            raise ValueError("fail-resource counts from 1")

    @classmethod
    def parse(cls, text: str) -> Settings:
        """Return the settings that ``text`` names, as :data:`VARIABLE` has them; raise ValueError."""
        seed, *words = text.split()
        given = dict(word.partition("=")[::2] for word in words)
        unknown = given.keys() - {"compress", "without", "fail-resource"}
        if unknown:
            raise ValueError(f"realism takes SEED, compress=, without= and fail-resource=, not {', '.join(unknown)}")
        without = frozenset(filter(None, given.get("without", "").split(",")))
        return cls(int(seed), float(given.get("compress", 1)), without, int(given.get("fail-resource", 0)))

    @property
    def text(self) -> str:
        """The settings in one line, as :meth:`parse` reads them."""
        words = [str(self.seed)]
        words += [f"compress={self.compress:g}"] if self.compress != 1 else []
        words += [f"without={','.join(sorted(self.without))}"] if self.without else []
        words += [f"fail-resource={self.fail_resource}"] if self.fail_resource else []
        return " ".join(words)

    def has(self, habit: str) -> bool:
        """Whether a habit is on."""
        if habit not in HABITS:
            raise ValueError(f"no such habit: {habit}")
        return habit not in self.without

    @property
    def skew(self) -> float:
        """How many seconds the clock of AWS is ahead of this machine's, or behind it: at least 20, at most 60.

        >>> Settings(1, without=frozenset({"clock-skew"})).skew
        0.0
        """
        if not self.has("clock-skew"):
            return 0.0
        number = Dice(self.seed).fixed("clock-skew", "")
        size = SKEW_SECONDS * (1 + 2 * (2 * number % 1)) / 3
        return round(size if number < 0.5 else -size, 3)

    def seconds(self, real: float) -> float:
        """Return how long takes here what takes ``real`` seconds on AWS."""
        return real / self.compress
