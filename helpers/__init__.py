"""Helpers of the course on learned image compression and restoration; modules load when first used."""

from importlib import import_module

__version__ = "0.1.0"

_MODULES = (
    "images",
    "degradations",
    "metrics",
    "losses",
    "models",
    "datasets",
    "training",
    "recipes",
    "zoo",
    "evaluation",
    "plots",
    "widgets",
    "exercises",
)


def __getattr__(name: str):
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'helpers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
