"""Memory that ran out, as an error that says what to do. Imported by both parties' loops."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from moiety.errors import CapacityError

_TORCH: Final = "DefaultCPUAllocator"
"""In the text of torch's own error, which is a plain RuntimeError."""


@contextmanager
def memory_guard() -> Iterator[None]:
    """Turn what Python, the kernel and torch raise when memory runs out into one error.

    Raises:
        CapacityError: memory ran out; what was saved before is as it was.
    """
    try:
        yield
    except MemoryError as error:
        raise _out_of_memory() from error
    except RuntimeError as error:
        if _TORCH not in str(error):
            raise
        raise _out_of_memory() from error


def _out_of_memory() -> CapacityError:
    return CapacityError(
        "memory ran out",
        hint="end other programs, or train with a smaller train.batch; a saved run resumes by --resume",
    )
