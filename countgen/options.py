"""What may be asked of one image besides its prompt and its models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from countgen import methods
from countgen.methods import MethodFunction
from countgen.methods.settings import Settings
from countgen.methods.step import Budget
from countgen.methods.stopping import DEFAULT_WORTH
from countgen.number_slider import Calibration
from countgen.number_slider.shifts import NumberOffset
from countgen.prompts import Target, check_prompt
from countgen.tokens.file import CountToken

UNTIL = ("critic", "judge")
DEFAULT_MAX_EVALUATIONS = 400


@dataclass(frozen=True, kw_only=True)
class Options:
    """How one image is generated. `Run`, `generate` and `generate_batch` take these fields as keyword arguments too.

    Attributes:
        targets: object classes and counts; read from the prompt by default.
        method: one of `countgen.methods.available()`: "plain" (one seed, nothing tuned), "search" (best of N
            seeds), "noise" (gradients on one seed after the other), "lmn" (the same through D2D's latent modifier
            network), "auto" (search, then gradients on the nearest), "edit" (one seed, its image kept), the peers
            "best_of_n", "image_select" and "reno", or a plug-in; or a function like theirs.
        settings: of the method, for example `NoiseSettings(learning_rate=0.1)`; its defaults where None.
        seed: 0 to 2**32 - 1; the same seed and budget in evaluations give the same image.
        max_seconds, max_evaluations: the budget; 400 evaluations where neither is given.
        until: "critic" stops when the critics confirm the count. "judge" also evaluates the judge and continues
            until it agrees; the judge is then not independent, and the recipe records this.
        sure: probability of a right count from which on the critics confirm it, above 0 and below 1; lower is faster.
        worth: evaluations that a right image is worth: a run also ends where another evaluation is expected to gain
            less than it costs; `math.inf` to spend the whole budget. Where None, 400 up to `sure` 0.98, and above it
            so many more as the probability of a wrong count is smaller.
        token: a learned token that replaces the number it was trained for.
        number_offset: objects by which the prompt embeddings are moved along the number axis: float, or
            {class: offset}; missing classes 0. 0 is the prompt as written. Where None, calibrated methods (search,
            auto, edit) without a token move counts beyond the model's number words as its calibration says.
        calibration: of the number axis, from `countgen.number_slider.load_calibration`; the shipped one where None.
        negative_prompt: as in diffusers; for models that use guidance.
        deterministic: compute on one CPU thread with deterministic algorithms, so that the image does not depend on
            the number of threads; slower. The recipe records it, and the image is regenerated in the same way.

    Raises:
        ValueError: an unknown method, settings of another method, a seed or a budget outside its range, or a token
            together with a number offset.
        PromptError: a negative prompt that is too long or is not text.
    """

    targets: tuple[Target, ...] | None = None
    method: str | MethodFunction = "auto"
    settings: Settings | None = None
    seed: int = 0
    max_seconds: float | None = None
    max_evaluations: int | None = None
    until: str = "critic"
    sure: float = methods.DEFAULT_SURE
    worth: float | None = None
    token: CountToken | None = None
    number_offset: NumberOffset | None = None
    calibration: Calibration | None = None
    negative_prompt: str | None = None
    deterministic: bool = False

    def __post_init__(self) -> None:
        expected = methods.load(self.method).settings_class
        if self.settings is not None and type(self.settings) is not expected:
            raise ValueError(f"method {self.method!r} takes {expected.__name__}, got {type(self.settings).__name__}")
        if self.until not in UNTIL:
            raise ValueError(f"until must be one of {', '.join(UNTIL)}, got {self.until!r}")
        if isinstance(self.sure, bool) or not isinstance(self.sure, int | float) or not 0 < self.sure < 1:
            raise ValueError(f"sure must be a probability above 0 and below 1, such as 0.98, got {self.sure!r}")
        if self.worth is not None and (isinstance(self.worth, bool) or not self.worth > 0):
            raise ValueError(f"worth must be a number of evaluations above 0, or inf, got {self.worth!r}")
        if type(self.seed) is not int or not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, got {self.seed!r}")
        if self.number_offset and self.token is not None:
            raise ValueError("a token and a number offset exclude each other: give one of them")
        if self.negative_prompt:
            check_prompt(self.negative_prompt)
        self.budget()

    def budget(self, stop_requested: Callable[[], bool] = lambda: False) -> Budget:
        """Return a budget with these limits that begins now, and ends at once when a stop is requested."""
        return Budget(*self.limits, stop_requested=stop_requested)

    @property
    def price(self) -> float:
        """Evaluations that a right image is worth, the default included."""
        if self.worth is not None:
            return self.worth
        return DEFAULT_WORTH * max(1.0, (1 - methods.DEFAULT_SURE) / (1 - self.sure))

    @property
    def limits(self) -> tuple[float | None, int | None]:
        """Seconds and evaluations at most, the default of 400 evaluations included."""
        if self.max_seconds is None and self.max_evaluations is None:
            return None, DEFAULT_MAX_EVALUATIONS
        return self.max_seconds, self.max_evaluations


class EditFields(TypedDict, total=False):
    """The fields of `Options` that `countgen.edit` takes; the original image decides about the others."""

    settings: Settings | None
    max_seconds: float | None
    max_evaluations: int | None
    until: str
    sure: float
    worth: float | None
    token: CountToken | None
    calibration: Calibration | None


class OptionFields(EditFields, total=False):
    """The fields of `Options`, for keyword arguments that editors complete."""

    targets: tuple[Target, ...] | None
    method: str | MethodFunction
    seed: int
    number_offset: NumberOffset | None
    negative_prompt: str | None
    deterministic: bool
