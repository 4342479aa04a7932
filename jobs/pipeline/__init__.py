"""What the programs are made of: configuration, shards, chunks, storage, actors, schema."""
