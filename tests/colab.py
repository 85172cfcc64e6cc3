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

import venvs

ROOT = venvs.ROOT
sys.path.insert(0, str(ROOT / "docs" / "tools"))
import badges  # noqa: E402

PROBE = "import IPython, helpers, torch; print('probe', helpers.__file__, torch.__version__, IPython.__version__)"


def main() -> int:
    options = parse()
    requirements = (ROOT / "tests" / "colab.txt").read_text(encoding="utf-8").splitlines()
    python = venvs.make("colab", options.python, requirements)
    baseline = python.parent.parent / "baseline.json"
    if not baseline.is_file():
        baseline.write_text(json.dumps(venvs.freeze(python)), encoding="utf-8")
    before = json.loads(baseline.read_text(encoding="utf-8"))
    forget(python, [name for name in venvs.freeze(python) if name not in before])
    failed = 0
    with tempfile.TemporaryDirectory(prefix="colab-") as folder:
        place = Path(folder).resolve()  # as the cell's own `Path.cwd()` has it
        origin = publish(place / "origin.git")
        for path in options.notebooks:
            failed += not click(python, path, place, origin)
    after = venvs.freeze(python)
    changed = {name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version}
    added = [f"{name} {after[name]}" for name in after if name not in before]
    print(f"{len(before)} packages before, changed: {changed or 'none'}; installed: {', '.join(added) or 'none'}")
    return int(bool(failed or changed))


def parse() -> argparse.Namespace:
    every = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, default=every, metavar="NOTEBOOK", help="by default all six")
    parser.add_argument("--python", default=venvs.python_for("3.13", "3.12", "3.11"))
    return parser.parse_args()


def forget(python: Path, names: list[str]) -> None:
    """Uninstall what an earlier run has added."""
    if names:
        subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *names], check=True)


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
    cell = {"id": "probe", "metadata": {}, "execution_count": None, "outputs": [], "source": PROBE}
    book["cells"].append(cell | {"cell_type": "code"})
    (content / path.name).write_text(json.dumps(book), encoding="utf-8")
    runner = [str(python), str(ROOT / "notebooks" / "run.py"), "--in-place", str(content / path.name)]
    done = subprocess.run(runner, env=surroundings(folder, origin), cwd=content)
    if done.returncode:
        return False
    ran = json.loads((content / path.name).read_text(encoding="utf-8"))["cells"]
    probe = printed(ran.pop())
    stored = json.loads(path.read_text(encoding="utf-8"))["cells"]
    compared = [(old, new) for old, new in zip(stored, ran, strict=True) if "nbval-ignore-output" not in tags(old)]
    other = [old["id"] for old, new in compared if printed(old) != printed(new)]
    print(f"{path.stem}: {probe.strip()}; {len(compared) - len(other)} of {len(compared)} cells print what is stored")
    print(*(f"    another text: {name}" for name in other), sep="\n", end="\n" if other else "")
    return str(content / "course" / "helpers") in probe


def printed(cell: dict) -> str:
    streams = [output["text"] for output in cell.get("outputs", []) if output.get("name") == "stdout"]
    return "".join("".join(text) for text in streams)


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


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
