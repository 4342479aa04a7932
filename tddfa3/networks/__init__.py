"""Detectors and backbones, and what runs them on CPUs and GPUs."""
