"""Benchmarks: ``python -m bench``. What they measure and how to read them: docs/bench.md."""
