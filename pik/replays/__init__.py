"""Replays: what was sent, as the replays table records it, and which events of a window that is.

Import from the modules: :mod:`pik.replays.records` and :mod:`pik.replays.sent`.
"""
