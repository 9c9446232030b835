"""How much memory training takes, before it starts: see docs/training-memory.md."""
