"""Helpers of the course on learned image compression and restoration; modules load when first used."""

import ctypes
from contextlib import suppress
from importlib import import_module

from .service.errors import CourseError as CourseError

__version__ = "0.2.0.dev0"

_MODULES = (  # each imports only what stands before it; four are packages of their own
    "service images degradations wavelets metrics losses rangecoder entropy models zoo datasets training recipes codec "
    "sensing baselines own evaluation comparison detective lesson publishing"
).split()


def __getattr__(name: str):
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'helpers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


# Let glibc keep freed memory for the next large tensor. Else it asks the system for a fresh
# mapping, which is cleared page by page: up to a third of the time of float32 convolutions
# on a CPU (`tests/benchmark.py restoring`). A process then gives back only what is free at
# the end of its memory, beyond 1 GB; it may hold its peak. Without glibc nothing happens.
with suppress(AttributeError, OSError, TypeError):  # macOS, Windows
    ctypes.CDLL(None).mallopt(-4, 0)  # M_MMAP_MAX of malloc.h
    ctypes.CDLL(None).mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
