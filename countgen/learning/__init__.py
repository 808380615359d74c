"""Training through the frozen models, for count tokens and noise adapters: loop, settings and checkpoints."""
