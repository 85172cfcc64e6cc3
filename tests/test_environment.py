import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import pictures

from helpers import CourseError, datasets
from helpers import __main__ as command
from helpers.service import environment
from helpers.service.files import course_data


def finding(what: str) -> environment.Finding:
    return next(found for found in environment.check() if found.what == what)


@pytest.mark.parametrize("start", [False, True])
def test_everything_is_looked_at(start):
    findings = environment.check(start)
    whats = [found.what for found in findings]
    assert {"Python", "torch", "numpy", "device", "memory", "disk", "pictures", "image sets"} <= set(whats)
    assert ("start" in whats) != start  # which says that it was not tried
    assert len(whats) == len(set(whats))
    assert all(found.found for found in findings)


def test_what_is_looked_at_without_torch_is_what_the_course_finds(monkeypatch, tmp_path):
    assert finding("pictures").found == f"{len(datasets.bundled())} bundled"
    for told in ("", str(tmp_path), "~"):
        monkeypatch.setenv("COURSE_DATA", told)
        assert finding("image sets").found.startswith(str(course_data()))


def test_what_fails_has_a_remedy(monkeypatch, tmp_path):
    (tmp_path / "requirements.txt").write_text("torch>=99.0\n# a comment\nnot-a-package-at-all>=1\npillow>=1\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "version_info", (3, 9))
    monkeypatch.setattr(environment, "DATA", tmp_path)
    found = {one.what: one for one in environment.check()}
    for what in ("torch", "not-a-package-at-all", "image sets", "Python", "pictures"):
        assert not found[what].ok
        assert found[what].remedy
        assert str(found[what]).startswith("FAIL")
    assert "pip install 'torch>=99.0'" in str(found["torch"])
    assert found["not-a-package-at-all"].found == "not installed"
    assert found["pillow"].ok


@pytest.mark.parametrize("packaging", [True, False])
def test_versions_are_compared_as_numbers(monkeypatch, packaging):
    if not packaging:
        monkeypatch.setitem(sys.modules, "packaging.version", None)
    for found, floor, reaches in (
        ("2.10.1", "2.9", True),
        ("2.10.1", "2.11", False),
        ("2.11.0+cu128", "2.11", True),
        ("2.11.dev20260801+cpu", "2.10", True),
        ("2.11.0rc1", "2.11", not packaging),  # a version before 2.11, which the numbers alone do not say
        ("2.11-of-our-own", "2.11", True),  # no version by the rules: the numbers it is
    ):
        assert environment._reaches(found, floor) == reaches


def test_a_package_without_its_files_is_not_there(monkeypatch):
    monkeypatch.setattr(environment, "version", lambda _: "2.11.0")
    assert environment._package("pillow", "2.11").ok
    gone = environment._package("no-such-package", "2.11")
    assert not gone.ok
    assert gone.found == "2.11.0, but its files are gone"
    assert "--force-reinstall 'no-such-package>=2.11'" in gone.remedy
    monkeypatch.setattr(environment, "version", lambda _: None)  # what an installation that broke off leaves
    assert environment._package("pillow", "2.11").found == "not installed"


@pytest.mark.parametrize(
    ("says", "torch", "found"),
    [
        ("echo NVIDIA T4", "2.11.0+cu128", "NVIDIA T4"),
        ("echo NVIDIA T4; echo NVIDIA T4", "2.11.0", "NVIDIA T4, NVIDIA T4"),
        ("echo NVIDIA T4", "2.11.0+cpu", "NVIDIA T4, idle: this torch is built for the CPU alone"),
        ("echo NVIDIA-SMI has failed; exit 9", "2.11.0", "CPU, 4 threads; no GPU was found"),
        ("", "2.11.0", "CPU, 4 threads; no GPU was found"),
    ],
)
def test_the_device_is_told_without_torch(monkeypatch, tmp_path, says, torch, found):
    """With an `nvidia-smi` on the PATH that says this, or with none."""
    if says:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(environment, "version", lambda _: torch)
    monkeypatch.setattr(environment.platform, "system", lambda: "Linux")
    monkeypatch.setattr(environment.os, "cpu_count", lambda: 4)
    assert environment._driver().found == found


def test_a_set_that_was_not_asked_for_may_be_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "DATA", tmp_path)
    monkeypatch.delenv("COURSE_DATA", raising=False)
    assert environment._sets().ok
    monkeypatch.setenv("COURSE_DATA", "")  # `course_data` takes an empty one for none
    assert environment._sets().ok
    monkeypatch.setenv("COURSE_DATA", str(pictures(tmp_path / "sets")))
    assert environment._sets().found == str(tmp_path / "sets")


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("file", "is a file"),
        ("none", "is not there"),
        ("shut", "may not be read"),
        ("~no-such-user/sets", "is not there"),
    ],
)
def test_what_is_wrong_with_course_data_is_said(monkeypatch, tmp_path, place, fault):
    (tmp_path / "file").touch()
    (tmp_path / "shut").mkdir()
    monkeypatch.setattr(environment.os, "access", lambda path, _: Path(path).name != "shut")  # root may read all
    monkeypatch.setenv("COURSE_DATA", place if place.startswith("~") else str(tmp_path / place))
    found = environment._sets()
    assert not found.ok and found.found.endswith(f"{place} {fault}") and "set COURSE_DATA to a folder" in found.remedy
    with pytest.raises(CourseError, match="COURSE_DATA|looked for a folder"):
        datasets.folder("Set5")


@pytest.mark.parametrize(("made", "ok"), [("helpers.py", False), ("helpers/__init__.py", False), ("helpers/x.py", True),
                                          ("other.py", True)])  # fmt: skip
def test_a_learners_own_helpers_are_told(monkeypatch, tmp_path, made, ok):
    """`python -m helpers` would run them; with -P it runs the course's, which says so."""
    (tmp_path / made).parent.mkdir(exist_ok=True)
    (tmp_path / made).write_text("print('mine')")
    monkeypatch.chdir(tmp_path)
    assert environment._own_helpers().ok == ok
    if not ok:
        assert made in environment._own_helpers().found and "python -P -m helpers" in environment._own_helpers().remedy
    if sys.version_info >= (3, 11):
        path = os.pathsep.join([str(environment.ROOT), os.environ.get("PYTHONPATH", "")])
        how = {"env": os.environ | {"PYTHONPATH": path}, "capture_output": True, "text": True, "timeout": 60}
        done = subprocess.run([sys.executable, "-P", "-m", "helpers", "check"], check=False, cwd=tmp_path, **how)
        assert ("FAIL  this folder" in done.stdout) == (not ok)


def test_the_courses_own_folder_has_no_other_helpers(monkeypatch):
    monkeypatch.chdir(environment.ROOT)
    assert environment._own_helpers().ok


@pytest.mark.parametrize("gigabytes", [2, 8])
def test_little_memory_is_said(monkeypatch, gigabytes):
    monkeypatch.setattr(environment.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gigabytes * 2**18}.get)
    assert finding("memory").ok == (gigabytes > 4)


# ------------------------------------------------------------------------------- a machine that is broken


def check_with(stubs: dict[str, str], folder, *options: str) -> subprocess.CompletedProcess:
    """`python -m helpers check` in a process that finds these modules before the installed ones."""
    for name, source in stubs.items():
        (folder / f"{name}.py").write_text(source)
    path = os.pathsep.join([str(folder), str(environment.ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "helpers", "check", *options],
        check=False, cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("missing", "hint"),
    [
        (["torch"], "torch does not start (ImportError: no torch here)"),
        (["torch", "numpy", "tqdm", "PIL", "packaging", "pandas"], "torch does not start"),
        (["tqdm"], "does not start (ImportError: no tqdm here)"),
        (["numpy"], "does not start (ImportError: no numpy here)"),
    ],
)
def test_check_tells_of_packages_that_do_not_start(tmp_path, missing, hint):
    result = check_with({name: f"raise ImportError('no {name}\\nhere')" for name in missing}, tmp_path, "--start")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    lines = result.stdout.splitlines()
    assert all(any(what in line for line in lines) for what in ("Python", "torch", "tqdm", "memory", "disk"))
    [at] = [index for index, line in enumerate(lines) if "does not start" in line]
    assert lines[at].startswith("FAIL")
    assert hint in lines[at]
    assert lines[at + 1].startswith("      → pip install")


def test_check_alone_starts_no_package(tmp_path):
    """So it is quick, and looks at the rest of a machine where every package is broken."""
    broken = ["torch", "torchvision", "numpy", "tqdm", "PIL", "packaging", "pandas", "scipy", "skimage", "matplotlib"]
    result = check_with({name: f"raise ImportError('no {name}')" for name in broken}, tmp_path)
    assert "Traceback" not in result.stderr
    lines = result.stdout.splitlines()
    assert not [line for line in lines if line.startswith("FAIL")]
    assert "check --start" in lines[-1]
    assert result.returncode == 0


def test_the_command_line_and_the_check_want_the_standard_library_alone(tmp_path):
    """Also that a Python too old for their annotations can read them, and say that it is too old."""
    code = "import sys; known = {*sys.modules}; import helpers.__main__, helpers.service.environment; "
    code += "print(*{*sys.modules} - known)"
    path = os.pathsep.join([str(environment.ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded - set(sys.stdlib_module_names) == {"helpers"}
    for function in (command.main, environment._start):
        assert all(isinstance(annotation, str) for annotation in function.__annotations__.values())
