"""How a check is written: a question, what was seen, and a verdict that never passes without data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from botocore.exceptions import BotoCoreError, ClientError

from pik import clock
from pik.environments import Environment
from pik.errors import AwsError
from pik.results import Check, Evidence, Verdict, words
from pik.rollout.checks.catalog import BY_NAME

LONGEST_EVIDENCE = 300


def check(
    name: str,
    ok: bool | None,
    *,
    yes: str,
    no: str,
    unknown: str = "there was nothing to look at",
    evidence: Mapping[str, object] | None = None,
    remedy: str = "",
    blocking: bool = True,
) -> Check:
    """Return a check: passed when ``ok``, failed when not, inconclusive when None (no data)."""
    verdict = {True: Verdict.PASSED, False: Verdict.FAILED, None: Verdict.INCONCLUSIVE}[ok]
    return Check(
        name=name,
        verdict=verdict,
        sentence={True: yes, False: no, None: unknown}[ok],
        evidence=tuple(_evidence(label, value) for label, value in (evidence or {}).items()),
        remedy="" if ok else remedy,
        blocking=blocking,
    )


def every(answers: Mapping[str, bool | None]) -> bool | None:
    """Return False when one answer is no, None when one is unknown or there are none, else True.

    >>> every({"a": True, "b": None}), every({}), every({"a": None, "b": False})
    (None, None, False)
    """
    values = list(answers.values())
    if False in values:
        return False
    return True if values and None not in values else None


def missing(answers: Mapping[str, bool | None]) -> str:
    """Name the answers that are not yes, for a sentence."""
    return ", ".join(name for name, value in answers.items() if value is not True) or "nothing"


def patience(name: str, environment: Environment, asked: float) -> float:
    """Return how many seconds a check waits for what comes late.

    On AWS at least as long as its spec says, and longer when a person asks for it. The embedded AWS is not late: there
    the two are upper limits.
    """
    usual, lateness = BY_NAME[name].patience, clock.lateness(environment)
    return max(usual * lateness, asked) if lateness else min(usual, asked)


def later(environment: Environment, phase: str, waited: float) -> str:
    """Return what helps when something had not come after ``waited`` seconds: more patience."""
    return f"pik run verify-{phase} --env {environment.name} -p patience={max(600, round(2 * waited))}"


def ask(questions: Mapping[str, Callable[[], Check]], env: str) -> tuple[Check, ...]:
    """Ask every question and return its check, complete: with the remedy and the investigation of its spec."""
    return tuple(run(name, look, env) for name, look in questions.items())


def run(name: str, look: Callable[[], Check], env: str) -> Check:
    """Run one check; what AWS or the network refuses makes it inconclusive, not the whole step a failure."""
    try:
        found = look()
    except (AwsError, ClientError, BotoCoreError) as error:
        found = check(
            name,
            None,
            yes="",
            no="",
            unknown="the check could not read what it needs",
            evidence={type(error).__name__: error, "reason": getattr(error, "reason", "")},
            remedy=getattr(error, "next_step", "")
            or "check that AWS answers and that your role may read, then run the step again",
        )
    return completed(found, env)


def completed(found: Check, env: str) -> Check:
    """Return a check with what its spec says of it (:mod:`pik.rollout.checks.catalog`)."""
    spec = BY_NAME[found.name]
    passed = found.verdict is Verdict.PASSED
    return found.model_copy(
        update={
            "blocking": found.blocking and spec.blocking,
            "remedy": "" if passed else found.remedy or spec.remedy.format(env=env),
            "investigate": "" if passed else spec.command(env),
        }
    )


def _evidence(label: str, value: object) -> Evidence:
    return Evidence(label=label, value=shorten(value), payload=isinstance(value, bytes))  # only bodies are bytes


def shorten(value: object) -> str:
    """Return a value as evidence: words, cut when long."""
    text = words(value)
    return text if len(text) <= LONGEST_EVIDENCE else f"{text[: LONGEST_EVIDENCE - 1]}…"
