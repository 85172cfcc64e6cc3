"""Fixtures of all tests."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# Two torch threads that wait actively on a busy machine are ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

settings.register_profile("course", deadline=None, max_examples=50)  # on a busy machine, the first example takes long
settings.load_profile("course")

# Of several processes that test (pytest -n), each takes its share of the cores; so do the kernels that it begins.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

# Begun in the background of a shell without a terminal, Python ignores Ctrl-C, which some tests press.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = (*(f"0{number}_" for number in range(1, 7)), "test_site", "test_editions", "test_zoo")


def pytest_collection_modifyitems(items):
    """Longest files first, so that no process waits for another at the end; a minute for a notebook's next message.

    nbval waits five seconds, and a busy machine pauses longer; a cell that hangs still ends after its own time.
    """
    items.sort(key=lambda item: not item.path.name.startswith(LONG))
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = 60


@pytest.fixture
def figures(monkeypatch):
    """Each figure and its alt text that a notebook would show."""
    from matplotlib import pyplot

    from helpers.lesson import plots

    seen = []
    monkeypatch.setattr(plots, "show", lambda figure, alt, **_: seen.append((figure, alt)))
    yield seen
    pyplot.close("all")


@pytest.fixture(scope="session")
def course_data() -> Path:
    """The folder of standard image sets; a test that needs it is skipped where there is none."""
    folder = Path(os.environ.get("COURSE_DATA", "")).expanduser()
    if not os.environ.get("COURSE_DATA") or not folder.is_dir():
        pytest.skip("COURSE_DATA names no folder of image sets")
    return folder.resolve()
