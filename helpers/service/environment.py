"""Is this machine ready for the course? Versions, memory, pictures, each with what to do about it.

It must run where things are broken, and at once: it looks at files and versions, and starts torch and the modules of
the course only where that is asked for. At the top it imports the standard library alone.
"""

from __future__ import annotations  # `str | None` is read by Pythons that are too old, and these must be told so

import dataclasses
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import import_module, invalidate_caches
from importlib.metadata import PackageNotFoundError, version

from .files import DATA, course_data, reason

ROOT = DATA.parent
HOSTED = ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE")  # by these variables Kaggle's own kagglehub knows the two
SETS = "set COURSE_DATA to a folder of image sets that you may read, or unset it"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is well, what was found, and the remedy where it is not."""

    ok: bool
    what: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'ok  ' if self.ok else 'FAIL'}  {self.what:<14} {self.found}"
        return line if self.ok else f"{line}\n      → {self.remedy}"


def check(start: bool = False) -> list[Finding]:
    """Everything that a notebook needs, looked at once: a second's work, or with `start` some seconds.

    start: import torch and every module, and ask torch for its device; only so a broken installation is noticed.
    """
    free, pictures = shutil.disk_usage(ROOT).free / 2**30, len([*(DATA / "images").glob("*.png")])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    floors = re.findall(r"^([\w-]+)>=([\w.]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    sets, readable = course_data(), os.path.isdir(course_data()) and os.access(course_data(), os.R_OK | os.X_OK)
    lacking = "" if readable else ": no folder that you may read; only training and the standard tables want it"
    told_memory = "not known" if memory is None else f"{memory:.0f} GiB"
    told = "not tried; check --start imports torch and all modules, and tells the device"
    return [
        Finding(sys.version_info >= (3, 10), "Python", platform.python_version(), "install Python 3.10 or newer"),
        *(_package(name, floor) for name, floor in floors),
        Finding(memory is None or memory >= 3.5, "memory", told_memory, "close other programs; the course wants 4 GiB"),
        Finding(free >= 1, "disk", f"{free:.0f} GiB free", "free 1 GiB for checkpoints and downloads"),
        Finding(pictures > 0, "pictures", f"{pictures} bundled", "get the repository again"),
        Finding(readable or not os.environ.get("COURSE_DATA"), "image sets", f"{sets}{lacking}", SETS),
        _start() if start else Finding(True, "start", told),
    ]


def _package(name: str, floor: str) -> Finding:
    found = _version(name)
    numbers = [[int(number) for number in re.findall(r"\d+", text)] for text in (found, floor)]
    about = f"{found or 'not installed'} (at least {floor})"
    return Finding(numbers[0] >= numbers[1], name, about, f"pip install '{name}>={floor}'")


def _version(name: str) -> str:
    """The version that is installed; an empty one where there is none, or where an installation broke off."""
    try:
        return version(name) or ""
    except PackageNotFoundError:
        return ""


def _start() -> Finding:
    """What keeps torch or the helpers, with the packages that they import, from starting; else torch's device."""
    modules = (path.relative_to(ROOT).with_suffix("").parts for path in sorted((ROOT / "helpers").rglob("[!_]*.py")))
    for name in ("torch", *map(".".join, modules)):
        try:
            import_module(name)
        except Exception as why:  # whatever a broken package raises
            remedy = "pip install -r requirements.txt; if nothing changes, with --force-reinstall"
            return Finding(False, "start", f"{name} does not start ({type(why).__name__}: {reason(why)})", remedy)
    from . import devices

    device = devices.pick_device()
    dtype = str(devices.precision(device)).removeprefix("torch.")
    return Finding(True, "device", f"{device}, trains in {dtype}; all modules start")


def complete() -> None:
    """On Colab and Kaggle, install what `helpers` needs and they lack; elsewhere do nothing, and touch no network.

    pip is given the versions of what is there, such as torch==2.11.0+cu128, so that it keeps the host's own builds.
    Raises RuntimeError where it cannot.
    """
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # by hand: Python 3.10 has no reader of TOML
    lines = re.findall(r'"(.+)"', re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1])
    names = {line: re.match(r"[\w-]+", line)[0] for line in lines}
    wanted = {line: f"{name}=={found}" if (found := _version(name)) else line for line, name in names.items()}
    missing = [line for line in lines if wanted[line] == line]
    if not missing or not any(name in os.environ for name in HOSTED):
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted.values()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(f"pip could not install {' '.join(missing)} ({why}); is the internet switched on here?")
    invalidate_caches()  # so that this process sees them
