"""How the embedded models were made, from scene to weights: `python -m countgen.benchmarks.miniature STAGE`."""
