"""An actor's side: read and decode, label in batches, make rows and files, commit."""
