"""The unit tests with the oldest versions that the course allows, or the newest (make test-floors, make test-newest).

    python tests/versions.py floors|newest [--python PYTHON] [PYTEST ARGUMENT ...]

`floors` has exactly the floors of requirements.txt and pyproject.toml, on Python 3.10; `newest` what pip finds today,
on the newest Python that is here. Exit code: pytest's. Environments are made once, under build/.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOOR = re.compile(r'^\s*"?([\w-]+)>=([\d.]+)"?,?$', re.MULTILINE)  # a line of either file


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


def floors() -> dict[str, str]:
    """The floor of each package, by its name; SystemExit where the two files disagree."""
    found = {}
    for name in ("requirements.txt", "pyproject.toml"):
        for package, floor in FLOOR.findall((ROOT / name).read_text(encoding="utf-8")):
            if found.setdefault(package, floor) != floor:
                sys.exit(f"error: {package} has the floor {found[package]} in requirements.txt, {floor} in {name}.")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", choices=["floors", "newest"])
    parser.add_argument("--python", help="by default python3.10, or the newest there is")
    options, rest = parser.parse_known_args()
    if options.which == "floors":
        wanted = [f"{name}=={floor}" for name, floor in floors().items()]
        python = make("floors", options.python or python_for("3.10"), wanted)
    else:
        wanted = [f"{name}>={floor}" for name, floor in floors().items()]
        python = make("newest", options.python or python_for("3.14", "3.13", "3.12"), wanted)
        newest = ["install", "--quiet", "--upgrade", "--upgrade-strategy", "eager", *wanted]
        subprocess.run([str(python), "-m", "pip", *newest], check=True)
    here = freeze(python)
    print(", ".join(f"{name} {here.get(name, 'missing')}" for name in ("torch", "numpy", "pillow", "scipy", "pandas")))
    path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
    command = [str(python), "-m", "pytest", "-q", *(rest or ["tests"])]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": path}).returncode


if __name__ == "__main__":
    sys.exit(main())
