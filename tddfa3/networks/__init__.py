"""Detectors, backbones, and the engines that run them on CPUs and GPUs."""
