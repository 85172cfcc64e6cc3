"""`check`, in processes of their own: on this machine, and on one where packages are missing, old or broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import CourseError, datasets
from helpers import __main__ as command
from helpers.service import environment


def python(*arguments, cwd: Path, **variables) -> subprocess.CompletedProcess:
    """A process that finds the modules of `cwd` before the installed ones, and the course's."""
    path = os.pathsep.join([str(cwd), str(environment.ROOT), os.environ.get("PYTHONPATH", "")])
    how = {"cwd": cwd, "env": os.environ | {"PYTHONPATH": path} | variables, "timeout": 200}
    return subprocess.run([sys.executable, *arguments], check=False, capture_output=True, text=True, **how)


def check(folder: Path, broken: list[str], *options: str) -> tuple[int, list[str]]:
    """Exit code and lines of `check` where these packages raise what they are imported with."""
    for name in broken:
        (folder / f"{name}.py").write_text(f"raise ImportError('no {name}\\nhere')")
    done = python("-m", "helpers", "check", *options, cwd=folder, COURSE_DATA="")
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines()


def test_check_alone_starts_no_package_and_looks_at_everything(tmp_path):
    """So it is quick, and looks at the rest of a machine where every package is broken."""
    broken = ["torch", "torchvision", "numpy", "tqdm", "PIL", "packaging", "pandas", "scipy", "skimage", "matplotlib"]
    code, lines = check(tmp_path, broken)
    assert code == 0 and all(line.startswith("ok") for line in lines)
    wanted = ["course", "Python", "torch", "numpy", "memory", "disk", "pictures", "image sets", "start"]
    assert [what for what in wanted if not any(line[6:].startswith(what) for line in lines)] == []
    assert f"{len(datasets.bundled())} bundled" in "\n".join(lines) and "check --start" in lines[-1]


@pytest.mark.parametrize("broken", [[], ["torch"]])
def test_check_start_tells_of_packages_that_do_not_start(tmp_path, broken):
    code, lines = check(tmp_path, broken, "--start")
    assert code == bool(broken) and len(lines) > 20
    if broken:
        assert lines[-2].startswith("FAIL") and "does not start (ImportError: no torch here)" in lines[-2]
        assert lines[-1].startswith("      → pip install")
    else:
        assert "trains in" in lines[-1] and lines[-1].startswith("ok    device")


FOUND = [("2.10.1", "2.9", True), ("2.10.1", "2.11", False), ("2.11.0+cu128", "2.11", True), (None, "1", False)]


@pytest.mark.parametrize(("found", "floor", "reaches"), FOUND)
def test_what_fails_has_a_remedy_and_versions_are_compared_as_numbers(monkeypatch, tmp_path, found, floor, reaches):
    (tmp_path / "requirements.txt").write_text(f"torch>={floor}\nnot-a-package-at-all>=1\n")
    version = environment.version
    monkeypatch.setattr(environment, "version", lambda name: found if name == "torch" else version(name))
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "DATA", tmp_path)
    monkeypatch.setattr(environment.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**19}.get)
    monkeypatch.setattr(sys, "version_info", (3, 9))
    about = {one.what: one for one in environment.check()}
    failing = {name for name, one in about.items() if not one.ok}
    assert failing >= {"Python", "not-a-package-at-all", "pictures", "memory"}
    assert all(one.ok or one.remedy for one in about.values())
    assert ("torch" in failing) != reaches and about["torch"].remedy == f"pip install 'torch>={floor}'"
    assert ("not installed" in about["torch"].found) == (not found)
    assert str(about["torch"]).startswith("ok  " if reaches else "FAIL")


@pytest.mark.parametrize("place", ["file", "none", "~no-such-user/sets", "", "sets"])
def test_course_data_is_what_the_course_takes_it_for(monkeypatch, tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "sets").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_DATA", place)
    [sets] = [one for one in environment.check() if one.what == "image sets"]
    assert sets.ok == (place in ("", "sets")) and "set COURSE_DATA to a folder" in sets.remedy
    with pytest.raises(CourseError, match="COURSE_DATA|looked for a folder"):
        datasets.folder("no-such-set")


def test_the_command_line_and_the_check_want_the_standard_library_alone(tmp_path):
    """Also that a Python too old for their annotations can read them, and say that it is too old."""
    code = "import sys; known = {*sys.modules}; import helpers.__main__, helpers.service.environment; "
    loaded = python("-c", code + "print(*{*sys.modules} - known)", cwd=tmp_path).stdout.split()
    assert {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names) == {"helpers"}
    for function in (command.main, environment._start):
        assert all(isinstance(annotation, str) for annotation in function.__annotations__.values())
