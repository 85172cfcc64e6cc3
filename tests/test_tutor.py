"""AGENTS.md, which an assistant beside a learner reads: as the checks are today, and without a solution."""

import re
import sys

import pytest

from helpers.lesson import exercises
from helpers.service.files import DATA
from notebooks import run
from notebooks.editions import TITLE

sys.path.insert(0, str(DATA.parent / "docs" / "tools"))
import tutor  # noqa: E402

PAGE = tutor.PAGE.read_text(encoding="utf-8")
CHECKS = {name: check for name, check in vars(exercises).items() if hasattr(check, "label")}


def test_it_is_made_of_todays_checks():
    assert tutor.page() == PAGE


def test_it_holds_no_line_of_a_solution():
    solutions = [c.source for path in run.lessons() for c in run.code(run.read(path)) if c.source.startswith(TITLE)]
    lines = {line.strip() for source in solutions for line in source.splitlines()[1:-1] if len(line.strip()) > 16}
    assert len(lines) > 60
    assert not [line for line in lines if line in PAGE]


@pytest.mark.parametrize("name", CHECKS)
def test_each_exercise_is_there_with_the_mistakes_that_its_check_names(name):
    check = CHECKS[name]
    assert len(re.findall(rf"^\*\*(?:Exercise|Build) {check.label}\*\*", PAGE, re.MULTILINE)) == 1
    if hasattr(check, "task"):
        hints = {hint for case in check.cases for hint in list(check.task(*case))[1]}
        plain = [hint for hint in hints if not re.search(r"\d", hint)]  # others hold a number of the case
        assert all(f"- {hint}\n" in PAGE for hint in plain)


def test_a_page_that_has_drifted_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tutor, "PAGE", tmp_path / "AGENTS.md")
    monkeypatch.setattr(sys, "argv", ["tutor.py", "--check"])
    assert tutor.main() == 1 and not tutor.PAGE.exists()
    monkeypatch.setattr(sys, "argv", ["tutor.py"])
    assert tutor.main() == 0
    assert tutor.PAGE.read_text(encoding="utf-8") == PAGE
