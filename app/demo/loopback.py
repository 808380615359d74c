"""Addresses that only this machine can reach."""

LOOPBACKS = ("127.0.0.1", "localhost", "::1")
"""The addresses and the name of the loopback interface."""
