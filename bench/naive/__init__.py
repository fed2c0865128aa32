"""What a first version of such a pipeline often looks like; the project's ingest is measured against it."""
