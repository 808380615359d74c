"""Report the results of a run as text tables, plots, one HTML page and JSON."""
