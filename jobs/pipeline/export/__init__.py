"""From the labels of a run to files in the layouts that other programs read."""
