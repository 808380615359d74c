"""Sets of annotated images whose counts are right: a plan of cells, a sampler, boxes of two detectors, writers."""

from countgen.datasets.plan import Group, Plan, read_plan
from countgen.datasets.run import Dataset, dataset

__all__ = ["Dataset", "Group", "Plan", "dataset", "read_plan"]
