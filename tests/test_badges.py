"""Badges, setup cells and links name the repository that pyproject.toml names, and `make badges` changes them all."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import notebook_lint as lint
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs" / "tools"))
import badges  # noqa: E402

NEW = badges.Course("Ann-B/a.course", "v1.2")


def test_all_places_name_the_repository_of_pyproject():
    said = badges.said()
    remedy = f"make badges REPO={badges.origin(ROOT) or said.repository} BRANCH={said.branch}"
    assert not badges.outdated(ROOT, said), f"to mend it: {remedy}"


def test_each_notebook_has_its_own_badge_and_fetches_the_course():
    course, readme = badges.said(), (ROOT / "README.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        source = "\n".join(cell.source for cell in lint.load(path).cells)
        assert badges.BADGE.findall(source) == [(*course, path.name)]
        assert badges.CLONE.findall(source) == [(course.branch, course.repository)]
        assert f"/{path.name})" in readme


@pytest.fixture
def copy(tmp_path) -> Path:
    """The course's files of text, in another place."""
    for path in badges.files(ROOT):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def texts(root: Path) -> dict[str, str]:
    found = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in found}


def run(root: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "docs" / "tools" / "badges.py"), "--root", str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_all_are_made_to_name_another_and_back(copy):
    before, old = texts(copy), badges.said(copy)
    done = run(copy, "--repository", NEW.repository, "--branch", NEW.branch)
    assert done.returncode == 0, done.stderr
    assert "all name Ann-B/a.course at v1.2" in done.stdout
    assert badges.said(copy) == NEW
    assert not badges.outdated(copy, NEW)
    after = texts(copy)
    assert not [name for name, text in after.items() if old.repository in text]
    assert before.keys() == after.keys()
    assert "as before" in run(copy, "--repository", NEW.repository).stdout
    assert texts(copy) == after
    assert run(copy, "--repository", old.repository, "--branch", old.branch).returncode == 0
    assert texts(copy) == before


def test_of_a_notebook_only_sources_change(copy):
    badges.rewrite(copy, NEW)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        mine, theirs = (json.loads((root / "notebooks" / path.name).read_text("utf-8")) for root in (ROOT, copy))
        changed = [cell["id"] for cell, other in zip(mine["cells"], theirs["cells"], strict=True) if cell != other]
        assert {"title", "setup"} <= {*changed}
        for cell in [*mine["cells"], *theirs["cells"]]:
            cell.pop("source")
        assert mine == theirs
        assert lint.problems(copy / "notebooks" / path.name) == {}


def test_after_a_break_it_is_run_again(copy, monkeypatch):
    replace, left = os.replace, iter(range(3))

    def full(*paths):
        if next(left, None) is None:
            raise OSError("the disk is full")
        replace(*paths)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="full"):
        badges.rewrite(copy, NEW)
    assert badges.outdated(copy, NEW)
    assert badges.said(copy) != NEW
    monkeypatch.undo()
    badges.rewrite(copy, NEW)
    assert not badges.outdated(copy, NEW)


def test_a_file_that_cannot_be_written_stays_whole(copy, monkeypatch):
    before = texts(copy)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        badges.rewrite(copy, NEW)
    assert texts(copy) == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "name the repository: make badges REPO=owner/name"),
        (["--repository", "course"], "'course' is no repository"),
        (["--repository", "https://github.com/a/b"], "no repository"),
        (["--repository", "a/b.git"], "no repository"),
        (["--repository", "a/.."], "no repository"),
        (["--repository", "a b/c"], "no repository"),
        (["--branch", "a..b"], "'a..b' is no branch"),
        (["--branch", "-x/y"], "is no branch"),
        (["--branch", "a b"], "is no branch"),
        (["--branch", "x.lock"], "is no branch"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(copy, options, sentence):
    before = texts(copy)
    done = run(copy, *[f"{name}={value}" for name, value in zip(options[::2], options[1::2], strict=True)])
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert texts(copy) == before


def test_a_damaged_file_stops_it_before_anything_is_written(copy):
    before = texts(copy)
    (copy / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    assert "no [tool.course]" in run(copy, "--repository", "a/b").stderr
    assert texts(copy).items() - before.items() == {("pyproject.toml", "[project]\n")}


OLD = "me/course"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://github.com/me/course", "https://github.com/Ann-B/a.course"),
        ("see github.com/me/course; it", "see github.com/Ann-B/a.course; it"),
        ("at github.com/me/course.", "at github.com/Ann-B/a.course."),
        ("(https://github.com/me/course#part)", "(https://github.com/Ann-B/a.course#part)"),
        ("git@github.com/me/course.git", "git@github.com/Ann-B/a.course.git"),
        ("github.com/me/course/blob/main/x.py", "github.com/Ann-B/a.course/blob/v1.2/x.py"),
        ("github.com/me/course/tree/other/x", "github.com/Ann-B/a.course/tree/other/x"),
        ("github.com/me/course/blob/main-2/x", "github.com/Ann-B/a.course/blob/main-2/x"),
        ("raw.githubusercontent.com/me/course/main/x.png", "raw.githubusercontent.com/Ann-B/a.course/v1.2/x.png"),
        ("https://me.github.io/course/", "https://ann-b.github.io/a.course/"),
        ("https://github.com/me/course.git && cd course", "https://github.com/Ann-B/a.course.git && cd a.course"),
        *[(other, other) for other in ("github.com/me/course-2", "github.com/me/course.js", "github.com/you/course")],
        *[(other, other) for other in ("github.com/home/course", "me/course", "https://me.github.io/other")],
    ],
)
def test_own_links_are_changed_and_no_others(text, wanted):
    assert badges.renamed(text, OLD, {"main"}, NEW) == wanted


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("notebooks/02_srcnn.ipynb", "--branch main", "--branch dev"),
        ("notebooks/02_srcnn.ipynb", "course/blob/main", "course/blob/dev"),
        ("README.md", "git clone https://github.com/me/course", "git clone https://github.com/x/y"),
    ],
)
def test_a_file_that_names_another_is_found_and_mended(copy, name, old, new):
    course = badges.Course("me/course", "main")
    badges.rewrite(copy, course)
    path = copy / name
    right = path.read_text(encoding="utf-8")
    assert old in right
    path.write_text(right.replace(old, new), encoding="utf-8")
    assert badges.rewrite(copy, course) == [path]
    assert path.read_text(encoding="utf-8") == right


def test_another_name_in_pyproject_is_found(copy):
    """As in a fork that changed nothing else."""
    path = copy / "pyproject.toml"
    path.write_text(path.read_text(encoding="utf-8").replace(f'branch = "{badges.said().branch}"', 'branch = "dev"'))
    assert copy / "notebooks" / "06_benchmarking.ipynb" in badges.outdated(copy, badges.said(copy))


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("https://github.com/ann/course.git", "ann/course"),
        ("https://github.com/ann/course", "ann/course"),
        ("git@github.com:ann/my.course.git", "ann/my.course"),
        ("https://example.org/ann/course.git", None),
    ],
)
def test_the_remote_is_offered_to_a_fork(tmp_path, address, wanted):
    for command in (["init", "-q"], ["remote", "add", "origin", address]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    assert badges.origin(tmp_path) == wanted
    assert badges.origin(tmp_path / "nowhere") is None
