"""The setup cell fetches the course on Colab and Kaggle, adds what they lack, and does nothing anywhere else.

And floors and lock: which versions the course promises to run with, and with which CI runs it.
"""

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import notebook_lint as lint
import pytest
import versions
from packaging.requirements import Requirement
from packaging.version import Version

from helpers.service import environment

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COLAB = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "tests" / "colab.txt").read_text(), re.MULTILINE))
LAPTOP = {"ipython", "ipywidgets", "jupyterlab", "nbval"}  # tools that a hosted notebook has, or does without
SETUP = lint.setup_of(lint.load(NOTEBOOKS[0]))


def imported(source: str) -> set[str]:
    """The packages that Python code imports, anywhere in it; lines of IPython's own (`!git`, `%pip`) are left out."""
    plain = re.sub(r"^(\s*)[!%](?:.*\\\n)*.*$", r"\1pass", source, flags=re.MULTILINE)
    found = set()
    for node in ast.walk(ast.parse(plain)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"helpers"}


# --------------------------------------------------------------------------------------- the packages


def project() -> dict:
    """What pyproject.toml says of the package."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read it")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def runtime() -> dict[str, Requirement]:
    """What `helpers` needs, by name."""
    return {needed.name: needed for needed in map(Requirement, project()["dependencies"])}


def test_both_files_name_the_same_packages_with_the_same_floors():
    optional = project()["optional-dependencies"]
    extras = [Requirement(line).name for name in ("dev", "site") for line in optional.pop(name)]
    assert list(optional) == ["jxl"]  # which no test wants
    needed_too = set(extras) - {project()["name"]}  # one extra includes the other
    learner = {name for name, _ in versions.FLOOR.findall((ROOT / "requirements.txt").read_text("utf-8"))}
    assert learner == {*runtime()} | LAPTOP
    assert versions.floors().keys() == learner | needed_too


def test_the_lock_holds_exact_versions_above_the_floors_and_nothing_else():
    found, exact = {}, re.compile(r"([\w-]+)==([\d.]+(?:post\d+)?)(?: ; [^/:@]+)?")  # no label, no path
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, version = exact.fullmatch(line).groups()
            found.setdefault(name, []).append(Version(version))
    for name, floor in versions.floors().items():
        assert min(found[name]) >= Version(floor)


def test_ci_installs_the_lock_and_a_learner_does_not():
    def says(*options: str) -> str:
        return subprocess.run(["make", "-nB", "setup", *options], cwd=ROOT, capture_output=True, text=True).stdout

    assert "export LOCK=requirements.lock" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "--lock requirements.lock" in says("LOCK=requirements.lock")
    assert "--lock" not in says("LOCK=")
    assert "--cpu" in says("LOCK=", "CPU=1") and "--cpu" not in says("LOCK=", "CPU=")


def test_what_is_imported_is_what_a_host_gets():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "helpers").rglob("*.py")]
    sources += [cell.source for path in NOTEBOOKS for cell in lint.code(lint.load(path))]
    names = {"ipython": "IPython", "pillow": "PIL", "pywavelets": "pywt", "scikit-image": "skimage"}
    got = {names.get(name, name) for name in (*runtime(), "ipython", "ipywidgets")}  # a notebook's own two
    brought = {Requirement(line).name for line in requires("scikit-image")} & {"tifffile"}
    optional = {"pillow_jxl"}  # without it, JPEG XL is left out
    used = set().union(*map(imported, sources))
    assert used - optional | {"tensorboard"} == got | brought  # which torch.utils.tensorboard imports


def test_colab_lacks_one_package_and_its_own_are_new_enough():
    needed = runtime()
    assert {*needed} - {*COLAB} == {"torchmetrics"}  # docs/guide.md says one
    for name in {*needed} & {*COLAB}:
        assert needed[name].specifier.contains(COLAB[name])


@pytest.mark.parametrize("host", [None, *environment.HOSTED])
@pytest.mark.parametrize("lacking", [(), ("torchmetrics", "tqdm")])
def test_a_host_gets_what_it_lacks_and_keeps_the_rest(monkeypatch, host, lacking):
    commands, version = [], environment.version
    done = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(environment.subprocess, "run", lambda command, **_: commands.append(command) or done)
    monkeypatch.setattr(environment, "version", lambda name: version(name) if name not in lacking else None)
    for name in environment.HOSTED:
        monkeypatch.delenv(name, raising=False)
    if host:
        monkeypatch.setenv(host, "2026")
    environment.complete()
    if not (host and lacking):
        assert commands == []
        return
    (command,) = commands
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    wanted = {str(need) if name in lacking else f"{name}=={version(name)}" for name, need in runtime().items()}
    assert {word for word in command[4:] if not word.startswith("-")} == wanted
    done.returncode, done.stderr = 1, "WARNING: x\nERROR: No matching distribution found\n"
    with pytest.raises(RuntimeError, match="not install torchmetrics.*tqdm.*No matching distribution found"):
        environment.complete()


# ------------------------------------------------------------------------------------------- the cell


def run_cell(monkeypatch, folder: Path, host: Path = Path("/nowhere"), clones: bool = True) -> list[str]:
    """The cell run in `folder`, on a host whose working folder is `host`; its shell lines are counted, not run."""
    lines = []

    def shell(line: str) -> None:
        lines.append(line)
        if line.startswith("!git clone") and clones:
            start = Path(line.split()[-1], "notebooks", "start.py")
            start.parent.mkdir(parents=True)
            start.touch()

    counted = re.sub(r"^(\s*)([!%](?:.*\\\n)*.*)$", r"\1shell(f'''\2''')", SETUP, flags=re.MULTILINE)
    monkeypatch.chdir(folder)
    exec(counted.replace('"/content"', repr(str(host))), {"shell": shell})
    return lines


def test_here_the_cell_fetches_nothing_and_a_host_fetches_the_course_once(monkeypatch, tmp_path):
    for place in (".", "notebooks", "docs"):
        assert run_cell(monkeypatch, ROOT / place) == [f'%run "{ROOT}/notebooks/start.py"']
    start = f'%run "{tmp_path}/course/notebooks/start.py"'
    clone, first = run_cell(monkeypatch, tmp_path, host=tmp_path)
    assert clone.startswith("!git clone -q --depth 1  ") and first == start
    for place in (tmp_path, tmp_path / "course" / "notebooks"):  # after a `%cd`
        assert run_cell(monkeypatch, place, host=tmp_path) == [start]


def test_without_the_course_a_sentence_says_what_to_do(monkeypatch, tmp_path):
    """Elsewhere than in the course's folder, and on a host where the clone failed."""
    for host in (Path("/nowhere"), tmp_path):
        with pytest.raises(AssertionError, match="^No course here: open this in its folder, or correct the address"):
            run_cell(monkeypatch, tmp_path, host=host, clones=False)


@pytest.mark.parametrize("before", ["", "import helpers; "])
@pytest.mark.parametrize("own", ["helpers/__init__.py", "helpers.py"])
def test_starting_makes_the_nearest_helpers_importable(tmp_path, own, before):
    """As `%run` runs it, in a process that knows another `helpers` first, or has imported it."""
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).touch()
    code = f"{before}import runpy, sys; runpy.run_path(sys.argv[1]); import helpers; print(helpers.__file__)"
    bare = {name: value for name, value in os.environ.items() if name not in environment.HOSTED}
    command = [sys.executable, "-c", code, str(ROOT / "notebooks" / "start.py")]
    environ = bare | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, check=True, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(ROOT / "helpers" / "__init__.py")
