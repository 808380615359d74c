"""Addresses that only this machine reaches."""

LOOPBACKS = ("127.0.0.1", "localhost", "::1")
"""The loopback interface by its addresses and its name."""
