"""Floors, lock and deprecations: which versions the course promises to run with, and with which CI runs it."""

import re
import subprocess
import sys
import warnings

import pytest
import venvs
import versions
from packaging.requirements import Requirement
from packaging.version import Version

LOCK = venvs.ROOT / "requirements.lock"
LAPTOP = {"ipython", "ipywidgets", "jupyterlab", "nbval"}  # tools that a hosted notebook has, or does without


def test_both_files_name_the_same_packages_with_the_same_floors():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read it")
    project = tomllib.loads((venvs.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {Requirement(line).name for line in project["dependencies"]}
    extras = [Requirement(line).name for lines in project["optional-dependencies"].values() for line in lines]
    needed_too = set(extras) - {project["name"]}  # one extra includes the other
    learner = {name for name, _ in versions.FLOOR.findall((venvs.ROOT / "requirements.txt").read_text("utf-8"))}
    assert learner == needed | LAPTOP
    assert versions.floors().keys() == learner | needed_too


def test_two_floors_of_a_package_are_refused(monkeypatch, tmp_path):
    (tmp_path / "requirements.txt").write_text("torch>=2.4\n")
    (tmp_path / "pyproject.toml").write_text('dependencies = [\n    "torch>=2.5",\n]\n')
    monkeypatch.setattr(venvs, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"torch has the floor 2.4 in requirements.txt, 2.5 in pyproject.toml"):
        versions.floors()


def test_the_lock_holds_exact_versions_above_the_floors_and_nothing_else():
    locked = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found = {}
    for line in locked:
        name, version = re.fullmatch(
            r"([\w-]+)==([\d.]+(?:post\d+)?)(?: ; [^/:@]+)?", line
        ).groups()  # no label, no path
        found.setdefault(name, []).append(Version(version))
    for name, floor in versions.floors().items():
        assert min(found[name]) >= Version(floor)


def test_ci_installs_the_lock_and_a_learner_does_not():
    def says(*options: str) -> str:
        return subprocess.run(["make", "-nB", "setup", *options], cwd=venvs.ROOT, capture_output=True, text=True).stdout

    assert "export LOCK=requirements.lock" in (venvs.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "--lock requirements.lock" in says("LOCK=requirements.lock")
    assert "--lock" not in says("LOCK=")


@pytest.mark.parametrize("category", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
@pytest.mark.parametrize(("module", "fails"), [("helpers.models.base", True), ("helpers", True), ("torch", False)])
def test_what_helpers_is_warned_of_fails_a_test(category, module, fails):
    """As a library warns of what it was called for: with the caller's name."""

    def old():
        warnings.warn("it is going to change", category, stacklevel=2)

    def call():
        exec("old()", {"__name__": module, "old": old})

    if fails:
        with pytest.raises(category):
            call()
    else:
        with pytest.warns(category):
            call()


def test_an_environment_is_made_once_and_anew_when_its_requirements_change(monkeypatch, tmp_path):
    commands = []

    def run(command, **_):
        commands.append(command[1:4])
        (tmp_path / "build" / "x").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(venvs, "ROOT", tmp_path)
    monkeypatch.setattr(venvs.subprocess, "run", run)
    for wanted, count in ((["a==1"], 2), (["a==1"], 2), (["a==2"], 4)):
        assert venvs.make("x", sys.executable, wanted) == tmp_path / "build" / "x" / "bin" / "python"
        assert len(commands) == count
    monkeypatch.setattr(venvs.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(OSError("broken off")))
    for _ in range(2):  # one that broke off is not taken for one that is there
        with pytest.raises(OSError, match="broken off"):
            venvs.make("x", sys.executable, ["a==3"])


def test_a_shim_that_leads_to_no_python_is_passed_over(tmp_path, monkeypatch):
    for name, code in (("python3.8", 127), ("python3.9", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert venvs.python_for("3.8", "3.9") == str(tmp_path / "python3.9")
    assert venvs.python_for("3.8") == sys.executable
