"""``pik.toml``: which environment is where, how well it is guarded, and who says yes; and mappings.

It is read anew each time; it is small. Without the file every environment is as in :data:`DEFAULTS`. ``local`` is the
embedded AWS and cannot be configured. A table with another name is an environment of the user's own.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

from pik import project
from pik.errors import UsageError
from pik.text import named

CONFIG_VARIABLE = "PIK_CONFIG"  # another file than the checkout's pik.toml
LOCAL_ACCOUNT = "000000000000"
Protection = Literal["open", "guarded", "protected"]
Platform = Literal["aws", "embedded"]


@dataclass(frozen=True)
class EnvironmentConfig:
    """What ``pik.toml`` says of one environment.

    Attributes:
        account: the AWS account it belongs to (12 digits); without it nobody can tell whether this is the right one,
            so environments that are not open need it.
        region: its region; empty: that of the profile, or of the shell.
        stack: name of its stack; empty: ``pik-<environment>``.
        profile: the AWS profile to use; empty: whatever the shell is signed in with.
        protection: ``open``: deploy as you like. ``guarded``: the phase is raised by ``pik promote`` only, with
            evidence. ``protected``: moreover, what is deployed must be proven in ``after`` first.
        after: the environment that comes before this one.
        approvers: patterns (``*`` as in file names) of the ARNs of who may approve; none: no approval is needed.
        evidence_hours: how long evidence is fresh.
        required_tags: names of the tags that your company wants on everything; ``pik doctor`` looks for them.
        platform: ``embedded``: on the embedded AWS, in an account of its own, to rehearse; ``aws``: for real.
    """

    account: str = ""
    region: str = ""
    stack: str = ""
    profile: str = ""
    protection: Protection = "open"
    after: str = ""
    approvers: tuple[str, ...] = ()
    evidence_hours: float = 24.0
    required_tags: tuple[str, ...] = ()
    platform: Platform = "aws"


BUILT_IN = ("local", "dev", "staging", "prod")
LOCAL = EnvironmentConfig(account=LOCAL_ACCOUNT, platform="embedded")
DEFAULTS: Mapping[str, EnvironmentConfig] = {
    "dev": EnvironmentConfig(),
    "staging": EnvironmentConfig(protection="guarded"),
    "prod": EnvironmentConfig(protection="protected", after="staging"),
}
# An environment of the user's own: nobody knows what depends on it, so it is guarded unless its table says otherwise.
OWN = EnvironmentConfig(protection="guarded")
# The stack is called pik-<name>, and a function's name, <stack>-ProcessorFunction-<12 characters>, has to fit into the
# 64 characters that Lambda takes: 33 for the stack. CloudFormation cuts what is longer, and policies no longer fit.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html
LONGEST_STACK = 64 - len("-ProcessorFunction-") - 12
LONGEST_NAME = LONGEST_STACK - len("pik-")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_RESERVED = dict.fromkeys(("default", "version"), "samconfig.toml has its own meaning for it")
# What names of resources without a capital letter begin with, after the stack's: pik-dev-queue-… is the queue of
# pik-dev, so what belongs to a stack called pik-dev-queue would be within reach of those who may use that queue.
RESOURCES = ("queue", "rawbucket", "evidencebucket")


def names() -> tuple[str, ...]:
    """Return every environment that there is: those built in, then those of ``pik.toml``.

    Raises UsageError when the file cannot be read or has a name that cannot be; settings are not looked at, which takes
    longer than a help text may.
    """
    return (*BUILT_IN, *(name for name in _tables() if name not in BUILT_IN))


def listed() -> str:
    """Return the names for a help text, ``local, dev, staging, prod or qa``; when the file is wrong, those built in."""
    try:
        *first, last = names()
    except UsageError:  # each command that needs the file says so
        *first, last = BUILT_IN
    return f"{', '.join(first)} or {last}"


def path() -> Path:
    """Return the file that is read: ``$PIK_CONFIG``, else ``pik.toml`` of the checkout."""
    return Path(os.environ.get(CONFIG_VARIABLE) or project.CONFIG)


def load() -> dict[str, EnvironmentConfig]:
    """Return the configuration of every environment, checked.

    Raises:
        UsageError: the file that ``PIK_CONFIG`` names is not there; the file is not TOML; or it says something that
            cannot be: then the key is named and what it may be.

    >>> load()["local"].platform
    'embedded'
    """
    file, given = path(), _tables()
    found = {"local": LOCAL, **{name: _checked(file, name, given.get(name, {})) for name in {**DEFAULTS, **given}}}
    for name, config in found.items():
        _consistent(file, name, config, found)
    _apart(file, found)
    return found


def _tables() -> dict[str, Any]:
    """The tables of the environments, their names checked."""
    file, given = path(), _document().get("environments", {})
    if not isinstance(given, dict):
        raise UsageError(f"{file.name}: environments is not a table", next_step=f"edit {file}")
    for name in given:
        wrong = unfit(name)
        if wrong:
            hint = f"one of {', '.join(DEFAULTS)}, or a name of your own such as qa or dev-2"
            raise UsageError(f"{file.name}: there is no environments.{name}", reason=wrong, next_step=hint)
    return given


def mappings() -> Any:
    """Return the table ``mappings`` of the file, as it is; :mod:`pik.mappings.catalog` checks it. Raise UsageError."""
    return _document().get("mappings", {})


def _document() -> dict[str, Any]:
    file = path()
    if os.environ.get(CONFIG_VARIABLE) and not file.exists():  # what it says of accounts and protection would not hold
        raise UsageError(
            f"there is no file {file}",
            reason=f"{CONFIG_VARIABLE} names it",
            next_step=f"correct {CONFIG_VARIABLE}, or unset it for {project.CONFIG.name} of the checkout",
        )
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{file.name} cannot be read", reason=str(error), next_step=f"edit {file}") from None
    _known(file, "", document, ("environments", "mappings"))
    return document


def _known(file: Path, where: str, given: Any, names: tuple[str, ...]) -> None:
    if not isinstance(given, dict):
        raise UsageError(f"{file.name}: {where.rstrip('.')} is not a table", next_step=f"edit {file}")
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(names)}"
            reason = "local is always the embedded AWS" if name == "local" else ""
            raise UsageError(f"{file.name}: there is no {where}{name}", reason=reason, next_step=hint)


def unfit(name: str) -> str:
    """Return why an environment cannot be called so, in words; empty when it can.

    >>> unfit("qa"), unfit("QA")
    ('', 'a name is of small letters and digits, with single hyphens between them, and begins with a letter')
    """
    if name == "local":
        return "local is always the embedded AWS"
    if not _NAME.fullmatch(name):
        return "a name is of small letters and digits, with single hyphens between them, and begins with a letter"
    if len(name) > LONGEST_NAME:
        return (
            f"it has {len(name)} characters, {LONGEST_NAME} are the most: Lambda takes 64 for a function, "
            f"pik-{name}-ProcessorFunction-<12 characters> has more"
        )
    return _RESERVED.get(name, "")


def _apart(file: Path, found: Mapping[str, EnvironmentConfig]) -> None:
    """Raise UsageError when the policies of one environment would reach the queue or the buckets of another one."""
    for one, other in permutations(found, 2):
        if {one, other} <= set(BUILT_IN):
            continue  # as before there were others
        stacks = [found[name].stack or f"pik-{name}" for name in (one, other)]
        accounts = {found[name].account for name in (one, other)} - {""}
        rest = stacks[1].removeprefix(f"{stacks[0]}-") if stacks[1].startswith(f"{stacks[0]}-") else ""
        if rest.split("-")[0] in RESOURCES and len(accounts) < 2:
            raise UsageError(
                f"{file.name}: {one} and {other} are not apart",
                reason=f"who may use {stacks[0]}-{rest.split('-')[0]}-… of {one} could use what belongs to {stacks[1]}",
                next_step=f"call {other} otherwise, or give each an account of its own",
            )


def _checked(file: Path, name: str, given: Any) -> EnvironmentConfig:
    defaults = DEFAULTS.get(name, OWN)
    if given == {}:
        return defaults
    from pydantic import TypeAdapter, ValidationError  # only here: most commands have no pik.toml to check

    _known(file, f"environments.{name}.", given, tuple(vars(defaults)))
    try:
        return TypeAdapter(EnvironmentConfig).validate_python({**vars(defaults), **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{file.name}: environments.{name}.{key} = {first['input']!r}",
            reason=first["msg"],
            next_step=f"edit {file}",
        ) from None


def _consistent(file: Path, name: str, config: EnvironmentConfig, known: Mapping[str, EnvironmentConfig]) -> None:
    def wrong(key: str, reason: str) -> UsageError:
        value = getattr(config, key)
        return UsageError(f"{file.name}: environments.{name}.{key} = {value!r}", reason=reason, next_step="edit it")

    if config.account and not (len(config.account) == 12 and config.account.isdigit()):
        raise wrong("account", "an AWS account id has 12 digits, in quotes")
    others = [other for other in known if other not in ("local", name)]
    if config.after and config.after not in others:
        raise wrong("after", f"another environment: one of {', '.join(others)}")
    if config.protection == "protected" and not config.after:
        raise wrong("after", "a protected environment needs one that comes before it")
    fits = _NAME.fullmatch(config.stack) and len(config.stack) <= LONGEST_STACK
    if name not in BUILT_IN and config.stack and not fits:
        raise wrong("stack", f"small letters, digits and single hyphens; at most {LONGEST_STACK}, longer names are cut")
    if config.evidence_hours <= 0:
        raise wrong("evidence_hours", "evidence is fresh for more than no time")
    if any(not pattern.startswith("arn:") for pattern in config.approvers):
        raise wrong("approvers", "each is the pattern of an ARN, such as arn:aws:sts::*:assumed-role/Approvers/*")
    if name != "local" and config.platform == "embedded" and config.account in ("", LOCAL_ACCOUNT):
        raise wrong("account", "to rehearse on the embedded AWS, give it an account of its own (any other 12 digits)")


def config(name: str) -> EnvironmentConfig:
    """Return the configuration of one environment, its stack named. Raise UsageError when there is no such one."""
    everything = {"local": LOCAL} if name == "local" else load()
    if name not in everything:
        raise _unknown(name, tuple(everything))
    found = everything[name]
    return found if found.stack else replace(found, stack=f"pik-{name}")


def _unknown(name: str, known: tuple[str, ...]) -> UsageError:
    """The error for an environment that is not there: what is, and how to add this one."""
    near, wrong = get_close_matches(name, known, n=1), unfit(name)
    meant = f"did you mean {near[0]}? " if near else ""
    lines = f'[environments.{name}]\naccount = "111122223333"    # its own\nregion = "eu-west-1"'
    add = "" if wrong else f"; or add it to {path().name} (docs/environments.md):\n{lines}"
    return UsageError(
        f"no such environment: {named(name)}", reason=wrong, next_step=f"{meant}there are {', '.join(known)}{add}"
    )
