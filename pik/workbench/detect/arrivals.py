"""What a detector reads from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd


class Arrivals(Protocol):
    """Whatever has arrivals to ask for: a :class:`~pik.workbench.workbench.Workbench`, or an incident in memory."""

    def events(self, *selection: Any, **named: Any) -> pd.DataFrame:
        """Return arrivals as a frame (:func:`pik.workbench.metadata.events`)."""
