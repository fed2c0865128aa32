"""Replays: planned, run from a manifest, and recorded; and which events of a window were sent.

Import from the modules: a plan is in :mod:`pik.replays.planning`, running it in :mod:`pik.replays.running`, what the
replays table records in :mod:`pik.replays.records` and :mod:`pik.replays.runs`.
"""
