"""Floors, lock and deprecations: which versions the course promises to run with, and with which CI runs it."""

import re
import subprocess

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
    optional = project["optional-dependencies"]
    extras = [Requirement(line).name for name in ("dev", "site") for line in optional.pop(name)]
    assert list(optional) == ["jxl"]  # which no test wants
    needed_too = set(extras) - {project["name"]}  # one extra includes the other
    learner = {name for name, _ in versions.FLOOR.findall((venvs.ROOT / "requirements.txt").read_text("utf-8"))}
    assert learner == needed | LAPTOP
    assert versions.floors().keys() == learner | needed_too


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
    assert "--cpu" in says("LOCK=", "CPU=1") and "--cpu" not in says("LOCK=", "CPU=")
