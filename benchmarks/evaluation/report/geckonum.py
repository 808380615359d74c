"""How often published models drew the number asked for, counted by people: GeckoNum's annotations.

Source: Kajić et al. 2024, Evaluating Numerical Reasoning in Text-to-Image Models, arXiv 2406.14774; CC BY 4.0.
https://github.com/google-deepmind/geckonum_benchmark_t2i, commit c28e751: task 1 of `geckonum_annotations.zip`.
"""

from __future__ import annotations

from collections.abc import Collection

from countgen.benchmarks.evaluation.report.table import Table, percent
from countgen.benchmarks.evaluation.statistics import wilson_interval

MODELS = ("DALL-E 3", "Imagen-A", "Imagen-B", "Imagen-C", "Imagen-D", "Muse-A", "Muse-B")
RIGHT: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((466, 500), (300, 498), (309, 488), (723, 977), (358, 500), (364, 494), (366, 493)),
    2: ((352, 500), (304, 500), (279, 496), (708, 989), (265, 497), (334, 499), (319, 499)),
    3: ((327, 500), (216, 495), (144, 494), (553, 983), (96, 500), (213, 491), (210, 499)),
    4: ((215, 500), (136, 496), (76, 499), (353, 995), (69, 499), (118, 497), (138, 497)),
    5: ((106, 500), (51, 497), (43, 499), (196, 995), (40, 500), (49, 498), (91, 500)),
    6: ((32, 200), (9, 200), (9, 199), (47, 398), (7, 200), (17, 200), (15, 200)),
    7: ((18, 200), (8, 200), (6, 198), (25, 399), (6, 199), (11, 200), (11, 200)),
    8: ((9, 200), (4, 198), (5, 199), (17, 400), (3, 199), (9, 200), (12, 200)),
    9: ((19, 200), (4, 200), (4, 200), (9, 399), (3, 200), (5, 199), (6, 200)),
    10: ((7, 200), (0, 200), (2, 200), (9, 398), (2, 200), (0, 200), (7, 199)),
}
"""By number asked for and model: images in which most annotators counted that number, and all images.

Of the prompts `numeric_simple` and `numeric_sentence`, which ask for one number of one noun, such as "4 koalas."; an
answer that is not this number, such as "3-4" or "10+", is wrong.
"""


def human_table(counts: Collection[int]) -> list[Table]:
    """Return the table of the numbers of objects that a report has too; none if it has none of them."""
    rows = tuple(
        (str(count), *(percent(right / images, wilson_interval(right, images)) for right, images in RIGHT[count]))
        for count in sorted(RIGHT.keys() & set(counts))
    )
    note = (
        "GeckoNum (Kajić et al. 2024, CC BY 4.0): other prompts, of one noun; five people counted each image. "
        "It shows how hard a number is, and is no comparison with the methods above."
    )
    return [Table("Published models, right by people, %", ("", *MODELS), rows, note)] if rows else []
