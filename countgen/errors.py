"""Exceptions of this project, all under `CountGenError`."""


class CountGenError(Exception):
    """Base class of the exceptions; the message says what to do."""


class PromptError(CountGenError, ValueError):
    """A prompt that does not state one number for each object class."""


class RecipeError(CountGenError, ValueError):
    """The image has no readable recipe, or the recipe cannot be stored as JSON."""


class ImageWriteError(CountGenError, OSError):
    """An image could not be written; nothing half-written is left behind."""


class StoppedError(CountGenError):
    """A run cannot continue; the best candidate so far is kept."""


class StopRequestedError(StoppedError):
    """`countgen.Run.stop` was called between two forward passes of an evaluation, which is not finished."""


class NonFiniteLossError(StoppedError, ArithmeticError):
    """The loss became infinite or not a number."""


class DoesNotFitError(StoppedError, ValueError):
    """The device's memory is too small; the message names an option that needs less."""


class EndpointError(StoppedError, OSError):
    """A server gave no image; the message says what it answered."""


class TokenFileError(CountGenError, ValueError):
    """A file that is not a count token, is damaged, or belongs to another model."""


class CheckpointError(CountGenError, ValueError):
    """The checkpoint of a training run is damaged, or belongs to another run."""


class FolderInUseError(CountGenError, ValueError):
    """Another run is writing to the folder."""
