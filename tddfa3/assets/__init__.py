"""Bundles, from which the networks and the 3DMM are loaded, and the ways to make them."""
