"""How faithful the critics are, on rendered scenes with known counts."""
