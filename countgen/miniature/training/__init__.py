"""Training of the miniature's weights, stage by stage: `python -m countgen.miniature.training STAGE`."""
