"""Small studies that chose settings; each prints what its comments and documents cite."""
