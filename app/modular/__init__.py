"""CountedGeneration, a block of diffusers' Modular pipelines; this folder is what its Hub repository holds."""
