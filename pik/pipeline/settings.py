"""Every environment variable the Lambda functions read, in one place. ``template.yaml`` sets them; a test compares."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

ENVIRONMENT = "PIK_ENVIRONMENT"
DRY_RUN = "PIK_DRY_RUN"
RETENTION_DAYS = "PIK_RETENTION_DAYS"
AGGREGATOR = "PIK_AGGREGATOR"
EVENTS_TABLE = "PIK_EVENTS_TABLE"
DEDUPE_TABLE = "PIK_DEDUPE_TABLE"
AGGREGATES_TABLE = "PIK_AGGREGATES_TABLE"
REPLAYS_TABLE = "PIK_REPLAYS_TABLE"
RAW_BUCKET = "PIK_RAW_BUCKET"
MAX_RECEIVE_COUNT = "PIK_MAX_RECEIVE_COUNT"
QUEUE_URL = "PIK_QUEUE_URL"
DEAD_LETTER_QUEUE_URL = "PIK_DEAD_LETTER_QUEUE_URL"

METRICS_NAMESPACE = "PipelineInvestigationKit"
# What Powertools adds to each line, and the log group says already: a tenth of what an event costs in logs.
NOT_LOGGED = ("function_arn", "function_memory_size")


@dataclass(frozen=True)
class Settings:
    """What one function was deployed with. A store that a function has no business with is an empty string."""

    environment: str
    dry_run: bool
    retention_days: int
    aggregator: str
    events_table: str
    dedupe_table: str
    aggregates_table: str
    replays_table: str
    raw_bucket: str
    max_receive_count: int  # after so many receives SQS moves a message to the dead-letter queue; 0: not known
    queue_url: str
    dead_letter_queue_url: str


@cache
def settings() -> Settings:
    """Read the function's settings once per worker."""
    env = os.environ.get
    return Settings(
        environment=env(ENVIRONMENT, ""),
        dry_run=env(DRY_RUN, "false").lower() == "true",
        retention_days=int(env(RETENTION_DAYS, "365")),
        aggregator=env(AGGREGATOR, "daily-summary"),
        events_table=env(EVENTS_TABLE, ""),
        dedupe_table=env(DEDUPE_TABLE, ""),
        aggregates_table=env(AGGREGATES_TABLE, ""),
        replays_table=env(REPLAYS_TABLE, ""),
        raw_bucket=env(RAW_BUCKET, ""),
        max_receive_count=int(env(MAX_RECEIVE_COUNT, "0")),
        queue_url=env(QUEUE_URL, ""),
        dead_letter_queue_url=env(DEAD_LETTER_QUEUE_URL, ""),
    )
