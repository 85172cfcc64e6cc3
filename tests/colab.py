"""The notebooks as after a click on their badges: Colab's versions, an empty folder, no course yet (make test-colab).

    python tests/colab.py [--python PYTHON] [NOTEBOOK ...]

The environment has the packages of tests/colab.txt, and Python 3.13 as Colab where there is one. The notebooks run by
themselves in an empty folder instead of /content, beside a `google.colab` that is none; `git clone` gets this working
tree (what git knows of it) instead of GitHub's. Then the packages must be those from before, and besides them only
what was missing. Exit code 0, or 1 where a notebook fails or a package has changed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import versions

ROOT = versions.ROOT
sys.path.insert(0, str(ROOT / "docs" / "tools"))
import badges  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="by default all six")
    parser.add_argument("--python", default=versions.python_for("3.13", "3.12", "3.11"))
    options = parser.parse_args()
    requirements = (ROOT / "tests" / "colab.txt").read_text(encoding="utf-8").splitlines()
    python = versions.make("colab", options.python, requirements)
    baseline = python.parent.parent / "baseline.json"
    if not baseline.is_file():
        baseline.write_text(json.dumps(versions.freeze(python)), encoding="utf-8")
    before = json.loads(baseline.read_text(encoding="utf-8"))
    if added := [name for name in versions.freeze(python) if name not in before]:  # by an earlier run
        subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *added], check=True)
    with tempfile.TemporaryDirectory(prefix="colab-") as folder:
        place = Path(folder).resolve()  # as the cell's own `Path.cwd()` has it
        origin = publish(place / "origin.git")
        every = options.notebooks or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
        failed = sum(not click(python, path, place, origin) for path in every)
    after = versions.freeze(python)
    changed = {name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version}
    added = [f"{name} {after[name]}" for name in after if name not in before]
    print(f"{len(before)} packages before, changed: {changed or 'none'}; installed: {', '.join(added) or 'none'}")
    return int(bool(failed or changed))


def publish(origin: Path) -> Path:
    """A bare repository whose branch or tag is the working tree, as far as git knows its files."""
    git = ["git", "-C", str(ROOT)]
    kept = subprocess.run([*git, "stash", "create"], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["git", "init", "--quiet", "--bare", str(origin)], check=True)
    target = f"{kept or 'HEAD'}:refs/heads/{badges.said().branch}"
    subprocess.run([*git, "push", "--quiet", str(origin), target], check=True)
    return origin


def click(python: Path, path: Path, folder: Path, origin: Path) -> bool:
    """Run one notebook in an empty folder, and tell whether it came to its end with the course's own `helpers`."""
    content = folder / path.stem
    content.mkdir()
    book = json.loads(path.read_text(encoding="utf-8").replace('\\"/content\\"', f'\\"{content}\\"'))
    probe = f"import helpers\nassert helpers.__file__.startswith({str(content / 'course')!r}), helpers.__file__"
    cell = {"id": "probe", "metadata": {}, "execution_count": None, "outputs": [], "source": probe}
    book["cells"].append(cell | {"cell_type": "code"})
    (content / path.name).write_text(json.dumps(book), encoding="utf-8")
    runner = [str(python), str(ROOT / "notebooks" / "run.py"), "--in-place", str(content / path.name)]
    return subprocess.run(runner, env=surroundings(folder, origin), cwd=content).returncode == 0


def surroundings(folder: Path, origin: Path) -> dict[str, str]:
    """The variables of a process on Colab, for which GitHub's repository of the course is `origin`."""
    package = folder / "site" / "google" / "colab"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    given = {"COLAB_RELEASE_TAG": "faked", "PYDEVD_DISABLE_FILE_VALIDATION": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    given |= {"PYTHONPATH": str(package.parent.parent), "GIT_CONFIG_COUNT": "1"}
    given |= {"GIT_CONFIG_KEY_0": f"url.file://{origin}.insteadOf"}
    given |= {"GIT_CONFIG_VALUE_0": f"https://github.com/{badges.said().repository}.git"}
    return {name: value for name, value in os.environ.items() if name != "COURSE_DATA"} | given


if __name__ == "__main__":
    if not shutil.which("git"):
        sys.exit("error: there is no git here; install it first.")
    sys.exit(main())
