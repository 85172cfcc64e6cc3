"""Environments of other versions, for the scripts that try the course in them; each is made once, under build/."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def python_for(*versions: str) -> str:
    """The first of these Pythons ("3.13") that starts (a shim may lead to none), or the one that runs this."""
    for python in filter(None, (shutil.which(f"python{version}") for version in versions)):
        if subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            return python
    return sys.executable


def make(name: str, python: str, requirements: list[str]) -> Path:
    """The Python of the environment build/NAME, which has these requirements; it is made anew when they change."""
    folder = ROOT / "build" / name
    inside, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join([f"# {python}", *requirements, ""])
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return inside
    print(f"setting up {folder.relative_to(ROOT)} (several GB with PyTorch, once) ...", flush=True)
    subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    part = stamp.with_suffix(".part")
    part.write_text(wanted, encoding="utf-8")
    subprocess.run([str(inside), "-m", "pip", "install", "--quiet", "--no-input", "-r", str(part)], check=True)
    part.rename(stamp)
    return inside


def freeze(python: Path) -> dict[str, str]:
    """The version of each package in an environment, by its name."""
    command = [str(python), "-m", "pip", "list", "--format=freeze"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)
