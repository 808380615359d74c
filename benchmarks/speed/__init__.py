"""The speed and memory benchmark of full-size models."""
