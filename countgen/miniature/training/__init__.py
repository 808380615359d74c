"""How the weights of the miniature were trained, stage by stage: `python -m countgen.miniature.training STAGE`."""
