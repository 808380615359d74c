"""The few exceptions that are this project's own, all under `CountGenError`."""


class CountGenError(Exception):
    """Anything this project refuses or cannot do, with what to do about it in the message."""


class PromptError(CountGenError, ValueError):
    """A prompt that does not say exactly how many of what."""


class RecipeError(CountGenError, ValueError):
    """An image without a readable recipe, or a recipe that JSON cannot hold."""


class ImageWriteError(CountGenError, OSError):
    """An image could not be written; nothing half-written is left behind."""


class StoppedError(CountGenError):
    """A run cannot go on; what it found before is kept."""


class NonFiniteLossError(StoppedError, ArithmeticError):
    """The loss became infinite or not a number."""


class DoesNotFitError(StoppedError, ValueError):
    """The device's memory will not do; the message says which option would."""


class TokenFileError(CountGenError, ValueError):
    """A file that holds no count token, a damaged one, or one of another model."""
