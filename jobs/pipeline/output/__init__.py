"""Readers of an output, finished or still growing."""
