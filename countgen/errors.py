"""The few exceptions that are this project's own, all under `CountGenError`."""


class CountGenError(Exception):
    """Anything this project refuses or cannot do, with what to do about it in the message."""


class PromptError(CountGenError, ValueError):
    """A prompt that does not say exactly how many of what."""


class RecipeError(CountGenError, ValueError):
    """A picture without a readable recipe, or a recipe that JSON cannot hold."""


class ImageWriteError(CountGenError, OSError):
    """A picture could not be written; nothing half-written is left behind."""


class NonFiniteLossError(CountGenError, ArithmeticError):
    """The loss became infinite or not a number; what was found before is kept."""
