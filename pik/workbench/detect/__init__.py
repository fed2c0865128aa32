"""What is wrong with a stream of events: silences, late events, duplicates; and what is usual for it."""
