"""How this process deals with memory that is free again."""

import ctypes
import platform

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed() -> None:
    """Keeps freed memory for the next use instead of giving it back to the system, with glibc; elsewhere does nothing.

    TensorFlow allocates every activation anew in every step. Given back in between, a step of the default model meets
    some ten thousand pages that the system has to find and clear first, a seventh of the processors' time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for parameter in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
        mallopt(parameter, 1 << 30)
