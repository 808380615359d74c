"""What a run found, as text tables, plots, one HTML page, JSON and Parquet."""
