"""The unit tests with the oldest versions that the course allows, or the newest (make test-floors, make test-newest).

    python tests/versions.py floors|newest [--python PYTHON] [PYTEST ARGUMENT ...]

`floors` has exactly the floors of requirements.txt and pyproject.toml, on Python 3.10; `newest` what pip finds today,
on the newest Python that is here. The environments lie under build/. Exit code: pytest's.
"""

import argparse
import os
import re
import subprocess
import sys

import venvs

FLOOR = re.compile(r'^\s*"?([\w-]+)>=([\d.]+)"?,?$', re.MULTILINE)  # a line of either file


def floors() -> dict[str, str]:
    """The floor of each package, by its name; SystemExit where the two files disagree."""
    found = {}
    for name in ("requirements.txt", "pyproject.toml"):
        for package, floor in FLOOR.findall((venvs.ROOT / name).read_text(encoding="utf-8")):
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
        python = venvs.make("floors", options.python or venvs.python_for("3.10"), wanted)
    else:
        wanted = [f"{name}>={floor}" for name, floor in floors().items()]
        python = venvs.make("newest", options.python or venvs.python_for("3.14", "3.13", "3.12"), wanted)
        newest = ["install", "--quiet", "--upgrade", "--upgrade-strategy", "eager", *wanted]
        subprocess.run([str(python), "-m", "pip", *newest], check=True)
    here = venvs.freeze(python)
    print(", ".join(f"{name} {here.get(name, 'missing')}" for name in ("torch", "numpy", "pillow", "scipy", "pandas")))
    path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
    command = [str(python), "-m", "pytest", "-q", *(rest or ["tests"])]
    return subprocess.run(command, cwd=venvs.ROOT, env=os.environ | {"PATH": path}).returncode


if __name__ == "__main__":
    sys.exit(main())
