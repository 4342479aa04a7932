"""Measures where the time goes: ``python -m benchmarks``."""
