"""A driver's side: plan chunks, hand them to actors, watch, report."""
