"""What the programs are built from; ``docs/design.md`` says what each folder knows."""
