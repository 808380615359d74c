"""Training through the frozen models: loop, settings and checkpoints."""
