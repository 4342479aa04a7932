"""What the networks and the 3DMM are loaded from: bundles, and the ways to make them."""
