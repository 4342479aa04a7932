"""Pixels in and out: photographs, resampling, run-length masks."""
