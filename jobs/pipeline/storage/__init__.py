"""Local folders, buckets and memory behind one interface. Knows nothing of jobs."""
