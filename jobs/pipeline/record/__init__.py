"""What a run writes down: names, config, manifest, chunks, indexes, rows, part files."""
