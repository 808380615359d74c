"""The card of the embedded models."""
