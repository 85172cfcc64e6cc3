"""Is this machine ready for the course? Versions, device, memory, pictures, each with what to do about it.

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
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements.txt"
DATA = ROOT / "data"
MODULES = {
    "ipython": "IPython",
    "pillow": "PIL",
    "pywavelets": "pywt",
    "scikit-image": "skimage",
}  # imported by another name
HOSTED = ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE")  # by these variables Kaggle's own kagglehub knows the two
_REINSTALL = "pip install -r requirements.txt; if nothing changes, pip install --force-reinstall the package named here"


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
    findings = [
        Finding(sys.version_info >= (3, 10), "Python", platform.python_version(), "install Python 3.10 or newer"),
        *_packages(),
        _memory(),
        Finding(free >= 1, "disk", f"{free:.0f} GiB free", "free 1 GiB for checkpoints and downloads"),
        Finding(pictures > 0, "pictures", f"{pictures} bundled", "get the repository again"),
        _sets(),
        _own_helpers(),
    ]
    if not start:
        told = "not tried; check --start imports torch and all modules, in some seconds"
        return [*findings, _driver(), Finding(True, "start", told)]
    broken = _start()
    return [*findings, broken] if broken else [*findings, _device()]


def _packages() -> list[Finding]:
    if not REQUIREMENTS.is_file():
        return [Finding(False, "requirements", "requirements.txt is missing", "get the repository again")]
    floors = re.findall(r"^([\w-]+)\s*>=\s*([\w.]+)", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)
    return [_package(name, floor) for name, floor in floors]


def _package(name: str, floor: str) -> Finding:
    found, wanted = _version(name), f"'{name}>={floor}'"
    if not found:
        return Finding(False, name, "not installed", f"pip install {wanted}")
    if find_spec(MODULES.get(name, name.replace("-", "_"))) is None:
        return Finding(False, name, f"{found}, but its files are gone", f"pip install --force-reinstall {wanted}")
    return Finding(_reaches(found, floor), name, f"{found} (at least {floor})", f"pip install {wanted}")


def _version(name: str) -> str:
    """The version that is installed; an empty one where there is none, or where an installation broke off."""
    try:
        return version(name) or ""
    except PackageNotFoundError:
        return ""


def _reaches(found: str, floor: str) -> bool:
    """Is a version the floor or above it? Without `packaging`, by the numbers alone: "2.11.0rc1" is then 2.11."""
    try:
        from packaging.version import Version

        return Version(found) >= Version(floor)
    except Exception:  # whatever a broken package raises, and what it says of a version that is none
        numbers = ([int(n) for n in re.match(r"[\d.]*", text)[0].split(".") if n] for text in (found, floor))
        return next(numbers) >= next(numbers)


def _start() -> Finding | None:
    """What keeps torch, or then the helpers with the packages that they import, from starting; None where all do."""
    modules = (path.relative_to(ROOT).with_suffix("").parts for path in sorted((ROOT / "helpers").rglob("[!_]*.py")))
    for name in ("torch", *map(".".join, modules)):
        try:
            import_module(name)
        except Exception as why:  # whatever a broken package raises
            return Finding(False, "start", f"{name} does not start ({_reason(why)})", _REINSTALL)
    return None


def _reason(why: Exception) -> str:
    return f"{type(why).__name__}: {' '.join(str(why).split())[:300]}"


def _driver() -> Finding:
    """The device by what the system tells of it, without torch."""
    gpus = _gpus()
    idle = "" if "+cpu" not in _version("torch") else ", idle: this torch is built for the CPU alone"
    if gpus:
        return Finding(True, "device", f"{', '.join(gpus)}{idle}")
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return Finding(True, "device", "Apple GPU" if apple else f"CPU, {os.cpu_count()} threads; no GPU was found")


def _gpus() -> list[str]:
    """The names of NVIDIA's GPUs whose driver answers."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def _device() -> Finding:
    import torch

    from . import devices

    try:
        device = devices.pick_device()
        dtype = str(devices.precision(device)).removeprefix("torch.")
    except Exception as why:  # a driver that does not fit torch, say
        return Finding(False, "device", f"torch finds none ({_reason(why)})", "install torch for this machine's driver")
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return Finding(True, "device", f"{name}{threads}, trains in {dtype}")


def _memory() -> Finding:
    try:
        gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return Finding(True, "memory", "unknown on this system")
    return Finding(gigabytes >= 3.5, "memory", f"{gigabytes:.0f} GiB", "close other programs; the course wants 4 GiB")


def _sets() -> Finding:
    told = os.environ.get("COURSE_DATA")  # an empty one counts as unset; as in `files.course_data`, without torch
    place = Path(os.path.expanduser(told or DATA / "downloads"))
    if os.path.isdir(place) and os.access(place, os.R_OK | os.X_OK):
        return Finding(True, "image sets", str(place))
    fault = "may not be read" if os.path.isdir(place) else "is a file" if os.path.exists(place) else "is not there"
    found = f"{place} {fault}" + ("" if told else " (needed only to train or measure on the standard sets)")
    remedy = "set COURSE_DATA to a folder of image sets that you may read, or unset it"
    return Finding(not told, "image sets", found, remedy)


def _own_helpers() -> Finding:
    """Is there a `helpers` of the learner's own in the working directory? Python looks for it there first."""
    first = next((name for name in ("helpers/__init__.py", "helpers.py") if os.path.isfile(name)), None)
    if first is None or os.path.samefile(first, ROOT / "helpers" / "__init__.py"):
        return Finding(True, "this folder", os.getcwd())
    found = f"it has a {first} of its own, which python -m helpers runs instead of the course's"
    return Finding(False, "this folder", found, "rename that, or call python -P -m helpers (Python 3.11 or newer)")


# ------------------------------------------------------------------------------- hosted notebooks


def complete() -> None:
    """On Colab and Kaggle, install the packages that they lack; elsewhere do nothing, and touch no network."""
    if any(name in os.environ for name in HOSTED):
        _install(_runtime())


def _runtime() -> list[str]:
    """What `helpers` needs, such as "torch>=2.6", without the tools of a laptop."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # by hand: Python 3.10 has no reader of TOML
    return re.findall(r'"(.+)"', re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1])


def _install(requirements: list[str]) -> None:
    """Install what is missing among these; RuntimeError if pip cannot, or could only by changing what is there."""
    names = {line: re.match(r"[\w-]+", line)[0] for line in requirements}
    here = {line: found for line, name in names.items() if (found := _version(name))}
    missing = [line for line in requirements if line not in here]
    if not missing:
        return
    # "torch==2.11.0+cu128" keeps the host's own build
    wanted = [f"{name}=={here[line]}" if line in here else line for line, name in names.items()]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
        raise RuntimeError(f"pip could not install {' '.join(missing)} ({why}); is the internet switched on here?")
    invalidate_caches()  # so that this process sees them
