"""Is this machine ready for the course? Versions, device, memory, pictures, each with what to do about it."""

import dataclasses
import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

from . import datasets

REQUIREMENTS = datasets.DATA.parent / "requirements.txt"


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


def check() -> list[Finding]:
    """Everything that a notebook needs, looked at once."""
    return [_python(), *_packages(), _device(), _memory(), _disk(), _pictures(), _sets()]


def _python() -> Finding:
    found = platform.python_version()
    return Finding(sys.version_info >= (3, 10), "Python", found, "install Python 3.10 or newer")


def _packages() -> list[Finding]:
    findings = []
    if not REQUIREMENTS.is_file():
        return [Finding(False, "requirements", "requirements.txt is missing", "get the repository again")]
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        match = re.match(r"([\w-]+)\s*>=\s*([\w.]+)", line)
        if match:
            findings.append(_package(*match.groups()))
    return findings


def _package(name: str, floor: str) -> Finding:
    remedy = f"pip install '{name}>={floor}'"
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(False, name, "not installed", remedy)
    return Finding(Version(found) >= Version(floor), name, f"{found} (at least {floor})", remedy)


def _device() -> Finding:
    try:
        import torch

        from . import training

        device = training.pick_device()
        dtype = str(training.precision(device)).removeprefix("torch.")
    except Exception as why:  # a broken torch is what a check is for
        return Finding(False, "device", f"torch does not start ({why})", "install torch again: pip install torch")
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return Finding(True, "device", f"{name}{threads}, trains in {dtype}")


def _memory() -> Finding:
    try:
        gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return Finding(True, "memory", "unknown on this system")
    return Finding(gigabytes >= 3.5, "memory", f"{gigabytes:.0f} GiB", "close other programs; the course wants 4 GiB")


def _disk() -> Finding:
    gigabytes = shutil.disk_usage(datasets.DATA).free / 2**30
    return Finding(gigabytes >= 1, "disk", f"{gigabytes:.0f} GiB free", "free 1 GiB for checkpoints and downloads")


def _pictures() -> Finding:
    try:
        return Finding(True, "pictures", f"{len(datasets.bundled())} bundled")
    except ValueError as why:
        return Finding(False, "pictures", str(why), "get the repository again")


def _sets() -> Finding:
    place = datasets.course_data()
    if place.is_dir():
        return Finding(True, "image sets", str(place))
    told = "COURSE_DATA" in os.environ
    found = f"{place} is not there" + ("" if told else " (needed only to train or measure on the standard sets)")
    return Finding(not told, "image sets", found, "set COURSE_DATA to an existing folder of image sets, or unset it")
