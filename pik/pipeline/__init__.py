"""What runs in Lambda: ingest, replay and the processor. Pure-Python dependencies only."""
