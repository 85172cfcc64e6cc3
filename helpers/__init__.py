"""Helpers of the course on learned image compression and restoration; modules load when first used."""

import ctypes
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


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next large tensor, instead of a fresh mapping for each.

    The system clears a fresh mapping page by page: without this, float32 convolutions on a CPU spend up to a third of
    their time on it (`tests/benchmark.py restoring`). A process then gives back only what is free at the end of its
    memory, beyond 1 GB; it may hold its peak until it ends. Elsewhere than on glibc nothing happens.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, Windows
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 1 << 30)


_keep_freed_memory()
