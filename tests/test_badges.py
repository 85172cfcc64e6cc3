"""Badges, setup cells and links name the repository that pyproject.toml names, and `make badges` changes them all."""

import json
import shutil
from pathlib import Path

import badges
import notebook_lint as lint
import pytest

ROOT = Path(__file__).resolve().parent.parent

NEW = badges.Course("Ann-B/a.course", "v1.2")


def test_all_places_name_the_repository_of_pyproject():
    course, readme = badges.said(), (ROOT / "README.md").read_text(encoding="utf-8")
    remedy = f"make badges REPO={course.repository} BRANCH={course.branch}"
    assert not badges.outdated(ROOT, course), f"to mend it: {remedy}"
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        source = "\n".join(cell.source for cell in lint.load(path).cells)
        assert badges.BADGE.findall(source) == [(*course, path.name)]
        assert badges.CLONE.findall(source) == [(course.repository, course.branch)]
        assert f"/{path.name})" in readme


@pytest.fixture
def copy(tmp_path) -> Path:
    """The course's files of text, in another place; of the notebooks, of several megabytes, one."""
    for path in (path for path in badges.files(ROOT) if path.suffix != ".ipynb" or path.stem == "02_srcnn"):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def texts(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in badges.files(root)}


def test_all_are_made_to_name_another_and_back(copy, capsys):
    before, old = texts(copy), badges.said(copy)
    line = ["--root", str(copy), "--repository"]
    assert badges.main([*line, NEW.repository, "--branch", NEW.branch]) == 0
    assert "all name Ann-B/a.course at v1.2" in capsys.readouterr().out
    assert badges.said(copy) == NEW and not badges.outdated(copy, NEW)
    after = texts(copy)
    assert before.keys() == after.keys() and not [name for name, text in after.items() if old.repository in text]
    for name in (name for name in after if name.endswith(".ipynb")):  # of which only sources have changed
        assert lint.problems(copy / name) == {}
        mine, theirs = json.loads(before[name]), json.loads(after[name])
        for cell in [*mine["cells"], *theirs["cells"]]:
            cell.pop("source")
        assert mine == theirs
    assert badges.main([*line, NEW.repository]) == 0 and "as before" in capsys.readouterr().out
    assert texts(copy) == after
    assert badges.main([*line, old.repository, "--branch", old.branch]) == 0 and texts(copy) == before


def test_bad_input_is_refused_in_a_sentence(copy, capsys):
    before = texts(copy)
    wrong = {"": "name the repository: make badges REPO=owner/name"}
    wrong |= {f"--repository={name}": "is no repository" for name in ("course", "https://x.org/a/b", "a/b.git", "a/..")}
    wrong |= {f"--branch={name}": "is no branch" for name in ("a..b", "-x/y", "a b", "x.lock")}
    for option, sentence in wrong.items():
        assert badges.main(["--root", str(copy), *filter(None, [option])]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and sentence in line
    assert texts(copy) == before
    (copy / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    assert badges.main(["--root", str(copy), "--repository", "a/b"]) == 2
    assert "no [tool.course]" in capsys.readouterr().err


LINKS = """
https://github.com/me/course | https://github.com/Ann-B/a.course
at github.com/me/course. | at github.com/Ann-B/a.course.
git@github.com/me/course.git | git@github.com/Ann-B/a.course.git
github.com/me/course/blob/main/x.py | github.com/Ann-B/a.course/blob/v1.2/x.py
github.com/me/course/tree/other/x | github.com/Ann-B/a.course/tree/other/x
github.com/me/course/blob/main-2/x | github.com/Ann-B/a.course/blob/main-2/x
raw.githubusercontent.com/me/course/main/x.png | raw.githubusercontent.com/Ann-B/a.course/v1.2/x.png
https://me.github.io/course/ | https://ann-b.github.io/a.course/
https://github.com/me/course.git && cd course | https://github.com/Ann-B/a.course.git && cd a.course
"""
OTHERS = "github.com/me/course-2 github.com/me/course.js github.com/you/course me/course https://me.github.io/other"


def test_own_links_are_changed_and_no_others():
    pairs = [line.split(" | ") for line in LINKS.strip().splitlines()] + [[other] * 2 for other in OTHERS.split()]
    for text, wanted in pairs:
        assert badges.renamed(text, "me/course", {"main"}, NEW) == wanted


def test_a_file_that_names_another_is_found_and_mended(copy):
    course = badges.Course("me/course", "main")
    badges.rewrite(copy, course)
    path = copy / "notebooks" / "02_srcnn.ipynb"
    right = path.read_text(encoding="utf-8")
    for old in ("--branch main", "course/blob/main", "github.com/me"):
        path.write_text(right.replace(old, f"{old}x"), encoding="utf-8")
        assert old in right and badges.rewrite(copy, course) == [path]
        assert path.read_text(encoding="utf-8") == right


def test_the_readme_says_that_its_badges_lead_nowhere_while_they_name_the_placeholder(copy):
    badges.rewrite(copy, badges.Course(badges.PLACEHOLDER, "main"))
    title, _, rest = (copy / "README.md").read_text(encoding="utf-8").partition("\n\n")
    assert title.startswith("# ") and rest.startswith(badges.NOTE)
    badges.rewrite(copy, NEW)
    assert badges.NOTE not in (copy / "README.md").read_text(encoding="utf-8")
