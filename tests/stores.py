"""The pipeline's stores as tests name them, and the settings of functions that use them."""

from __future__ import annotations

from pik.pipeline.settings import Settings

#: The keys of each table, as in the template.
KEYS: dict[str, tuple[str, ...]] = {
    "events": ("PK", "SK"),
    "dedupe": ("event_id",),
    "aggregates": ("PK", "SK"),
    "replays": ("PK", "SK"),
}
SETTINGS = Settings(
    environment="unit",
    dry_run=False,
    retention_days=365,
    aggregator="daily-summary",
    events_table="events",
    dedupe_table="dedupe",
    aggregates_table="aggregates",
    replays_table="replays",
    raw_bucket="raw",
    max_receive_count=20,
    queue_url="queue",
    dead_letter_queue_url="dlq",
)
