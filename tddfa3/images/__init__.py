"""Photographs, resampling and run-length encoded masks."""
