"""The banner: where a notebook works, in one line; prod is red."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from pik.aws import stack
from pik.aws.stack import aws_errors
from pik.environments import Environment
from pik.headless import headless
from pik.results import RESULT_STYLE

COLOURS = {"local": "#3b6ea5", "dev": "#2e7d5b", "staging": "#9a6700", "prod": "#c62828"}
ALIKE = {"open": "dev", "guarded": "staging"}  # an environment of one's own has the colour of what is as well guarded
CHANGES = "#b45309"  # of a notebook that does more than read


@dataclass(frozen=True)
class Banner:
    """Environment, account, region, stack, phase and time, as a notebook shows them."""

    environment: str
    account: str
    region: str
    stack: str
    phase: str
    when: datetime
    headless: bool
    embedded: bool = False
    protection: str = ""
    changes: str = ""  # what the notebook changes, in words; empty: nothing that is kept
    touches: str = ""  # what reading it as asked does nevertheless, such as raising a message's receive count

    def __repr__(self) -> str:
        return " · ".join(self._words)

    @property
    def _words(self) -> list[str]:
        account = "embedded AWS" if self.environment == "local" else f"account {self.account}"
        account += " (embedded AWS)" if self.embedded and self.environment != "local" else ""
        mode = ["headless run"] if self.headless else []
        when = f"{self.when:%Y-%m-%d %H:%M:%S} UTC"
        reads = f"reads; {self.touches}" if self.touches else "reads only"
        does = f"CHANGES AWS: {self.changes}" if self.changes else reads
        return [self.environment, account, self.region, self.stack, f"phase {self.phase}", when, *mode, does]

    def _repr_html_(self) -> str:
        colour = COLOURS.get(self.environment) or COLOURS[ALIKE.get(self.protection, "prod")]
        name, *rest, does = (escape(word) for word in self._words)
        frame, word = "", does
        if self.changes:
            frame = f"border:2px solid {CHANGES};"
            word = f'<strong style="background:{CHANGES};color:#fff;padding:2px 8px;border-radius:3px">{does}</strong>'
        return (
            f'<div class="pik-banner" style="{frame}border-left:8px solid {colour};padding:6px 12px;margin:4px 0">'
            f'<strong style="background:{colour};color:#fff;padding:2px 8px;border-radius:3px">{name}</strong> '
            f"{' · '.join(rest)} · {word}</div><style>{RESULT_STYLE}</style>"
        )


def banner(environment: Environment) -> Banner:
    """Look up where ``environment`` is and return its banner. Works when nothing is deployed."""
    found = stack.read(environment)
    with aws_errors(environment, "find out which account this is"):
        account = environment.client("sts").get_caller_identity()["Account"]
    return Banner(
        environment=environment.name,
        account=account,
        region=environment.region,
        stack=environment.stack,
        phase=found.phase.label if found else "off",
        when=datetime.now(UTC),
        headless=headless(),
        embedded=environment.embedded,
        protection=environment.config.protection,
    )
