"""Networks that detector files need and no library has."""
