"""course.py, the three commands without make: what it installs, what it runs, what it refuses. Nothing is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import notebook_lint as lint
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import course
from notebooks import run

ROOT = Path(__file__).resolve().parent.parent

PY = sys.executable
LINES = [
    ["make", "help"],
    ["make", "setup"],
    [PY, "notebooks/editions.py", "student", "--out", "it's ö"],
    [PY, "notebooks/run.py", "--in-place", "notebooks/mine.ipynb"],
    [PY, "-m", "helpers", "restore", "data/images/it's ä.png", "it's ö/ß.png", "--task", "sr-x2"],
    ["make", "badges", "REPO=a/b"],  # the last: it changes pyproject.toml, and .venv is then set up again
]


@pytest.fixture
def called(monkeypatch, tmp_path):
    """The commands that would be run, in an empty folder for .venv."""
    commands = []
    python = tmp_path / "venv" / "python"

    def run(command, check):
        commands.append(command)
        if "venv" in command:
            python.parent.mkdir(exist_ok=True)
            python.touch()

    monkeypatch.setattr(course.subprocess, "run", run)
    monkeypatch.setattr(course, "VENV", str(python.parent))
    monkeypatch.setattr(course, "STAMP", str(python.parent / "stamp"))
    monkeypatch.setattr(course, "PYTHON", str(python))
    monkeypatch.setattr(course, "PIP", str(python))
    monkeypatch.setattr(course.shutil, "which", lambda name: None)
    return commands


def test_what_is_there_is_not_installed_again(called):
    assert course.main(["setup"]) == 0
    assert " ".join(called[-1]).endswith("-r requirements.txt -e .[dev]")
    lock = ["setup", "--lock", "requirements.lock"]
    course.main(lock)
    assert called[-1][-2:] == ["-c", "requirements.lock"]
    called.clear()
    course.main(lock)
    course.main(["setup"])  # a learner's command beside CI's changes nothing
    assert called == []
    for command in ("lab", "course"):
        course.main([command])
    course.main(["test", "-n0", "tests/test_metrics.py"])
    assert "jupyterlab" in called[0] and called[1][1:] == ["notebooks/run.py", "--out", "build"]
    assert called[-1][1:] == ["-m", "pytest", "-q", "-n0", "tests/test_metrics.py"]


def test_an_installation_that_failed_is_begun_again(called, monkeypatch):
    def fail(command, check):
        raise subprocess.CalledProcessError(7, command)

    with monkeypatch.context() as broken:
        broken.setattr(course.subprocess, "run", fail)
        assert course.main(["setup"]) == 7
    assert course.main(["setup"]) == 0
    assert called


def test_an_environment_whose_python_is_gone_is_made_anew(called):
    course.main(["setup"])
    Path(course.PYTHON).unlink()
    called.clear()
    assert course.main(["setup"]) == 0 and called[0][1:3] == ["-m", "venv"]


@pytest.mark.parametrize("uv", [None, "/bin/uv"])
@pytest.mark.parametrize("cpu", [False, True])
def test_the_cpu_build_is_fetched_from_pytorchs_index_alone_and_only_when_asked(uv, cpu):
    commands = course.installation(uv, cpu, "requirements.lock", fresh=True)
    assert any(course.CPU_WHEELS in command or "--torch-backend=cpu" in command for command in commands) is cpu
    for command in commands:
        assert (course.CPU_WHEELS in command) <= (command[-4:-2] == ["torch", "torchvision"])
    assert all("-c" in command for command in commands if "install" in command)


def test_a_computer_without_a_gpu_is_told_what_it_can_save(called, capsys, monkeypatch):
    monkeypatch.setattr(course.platform, "system", lambda: "Linux")
    course.main(["setup"])
    assert "no NVIDIA driver here: `make setup CPU=1`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dance", "invalid choice: 'dance'"),
        ("course fast", "course takes no fast"),
        ("setup --lock no.lock", "no.lock is not there"),
        ("lab", "Python 3.10 or newer"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(line, said, called, capsys, monkeypatch):
    if line == "lab":
        monkeypatch.setattr(course.sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match="2"):
        course.main(line.split())
    assert said in capsys.readouterr().err and called == []


@pytest.mark.slow
def test_it_all_works_in_a_folder_with_a_space_an_umlaut_and_a_quote(tmp_path):
    """With the setup cell of a notebook, which has to find this copy, and not the one that tests run in."""
    place = Path(shutil.copytree(ROOT, tmp_path / "it's ä path", ignore=run.NOT_COPIED))
    shutil.copy(place / "data/images/chelsea.png", place / "data/images/it's ä.png")
    sources = [lint.setup_of(lint.load(run.lessons()[0])), "import helpers\nprint(helpers.__file__)"]
    cells = [new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources)]
    nbformat.write(new_notebook(cells=cells), place / "notebooks/mine.ipynb")
    Path(course.PYTHON.replace(str(ROOT), str(place))).parent.mkdir(parents=True)
    Path(course.PYTHON.replace(str(ROOT), str(place))).touch()  # which setup finds, and nobody calls
    (place / ".venv/.installed").write_text(course.fingerprint("requirements.txt", "pyproject.toml"), encoding="utf-8")
    theirs = {"PYTHONPATH", "LOCK", "CPU", "MAKEFLAGS"}  # with CI's LOCK, setup would install 6 GB
    bare = {name: value for name, value in os.environ.items() if name not in theirs}
    for line in LINES:
        if line[0] == PY or shutil.which("make"):
            done = subprocess.run(line, cwd=place, env=bare, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
    book = lint.load(place / "notebooks/mine.ipynb")
    assert book.cells[1].outputs[0].text.strip() == str(place / "helpers" / "__init__.py")
    assert (place / "it's ö/06_benchmarking.ipynb").is_file() and (place / "it's ö/ß.png").is_file()
