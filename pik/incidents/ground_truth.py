"""The truth about an incident, as it is kept aside: what a perfect investigation would say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pik.events import format_time
from pik.incidents.model import Arrived, Incident


def truth(incident: Incident, arrivals: Sequence[Arrived] | None = None) -> dict[str, Any]:
    """Return what is wrong with the stream, JSON-able.

    ``source``, ``start``, ``end``: where to look (event times, half-open). ``event_ids``, ``entities``: the events that
    the incident is about, none for a healthy stream and none for a dropped window, whose events never were.
    ``arrivals``: how many arrivals are the incident's doing. Beside these, each incident's own facts, such as
    ``window``. ``arrivals`` given are those that really were sent, when they are not the incident's own.
    """
    sent = incident.arrivals if arrivals is None else arrivals
    injected = [arrived for arrived in sent if arrived.injected]
    return {
        "incident": incident.name,
        "seed": incident.seed,
        "source": incident.source,
        "start": format_time(incident.start),
        "end": format_time(incident.end),
        "event_ids": sorted({arrived.parsed.event_id for arrived in injected}),
        "entities": sorted({arrived.event["entity_id"] for arrived in injected}),
        "arrivals": len(injected),
        **incident.facts,
    }
