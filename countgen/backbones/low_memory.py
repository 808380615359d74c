"""Continue with memory="low" when a device's memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from accelerate.utils.memory import clear_device_cache

from countgen.backbones.model_files import is_out_of_memory
from countgen.errors import DoesNotFitError

if TYPE_CHECKING:
    from countgen.backbones.base import Backbone

logger = logging.getLogger(__name__)

T = TypeVar("T")


def retry_with_low_memory(backbone: Backbone, call: Callable[[], T], recover: Callable[[], object] = lambda: None) -> T:
    """Return what a call returns; if memory runs out, set the backbone's memory to "low" and call again.

    Args:
        backbone: whose `save_memory` is called.
        call: without arguments.
        recover: called before the second call, to free what the first one left or to repeat what it needs.

    Raises:
        DoesNotFitError: the device's memory is too small with memory="low" too.
    """
    try:
        return call()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if backbone.memory == "low":
            raise DoesNotFitError(
                f'{backbone.device} is out of memory, with memory="low" too; try a smaller height and width, fewer '
                "steps, a draft decoder, another dtype or another model"
            ) from error

    # Outside the handler: the traceback of the error holds the tensors of the failed call.
    logger.warning('%s is out of memory: %s continues with memory="low", slower', backbone.device, backbone.name)
    backbone.save_memory()

    def again() -> T:
        recover()
        clear_device_cache(garbage_collection=True)
        return call()

    return retry_with_low_memory(backbone, again)
