"""The producer: reads events from a file, a data set or standard input and sends them to the ingest API, safely.

>>> from pik import producer
>>> summary = producer.send(producer.open_source("flights"), "local", concurrency=8)  # doctest: +SKIP
>>> summary.total, summary.safe  # doctest: +SKIP
(12208, True)
"""

from __future__ import annotations

from pik.items import Item, encode
from pik.producer.delivery import Delivery, Outcome, Retries
from pik.producer.sending import Sendable, send
from pik.producer.sources import Reading, Source, load, open_source
from pik.producer.summary import OutcomeCounts, Problem, Summary, quantiles

__all__ = [
    "Delivery",
    "Item",
    "Outcome",
    "OutcomeCounts",
    "Problem",
    "Reading",
    "Retries",
    "Sendable",
    "Source",
    "Summary",
    "encode",
    "load",
    "open_source",
    "quantiles",
    "send",
]
