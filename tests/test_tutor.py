"""What an assistant beside a learner reads: as the checks are today; and no solution but where it belongs."""

import re
import shutil
import sys
from pathlib import Path

import notebook_lint as lint
import pytest

from helpers.lesson import exercises
from helpers.service.files import DATA
from notebooks import editions, run
from notebooks.editions import TITLE

sys.path.insert(0, str(DATA.parent / "docs" / "tools"))
import tutor  # noqa: E402

PAGE = tutor.PAGE.read_text(encoding="utf-8")
CHECKS = {name: check for name, check in vars(exercises).items() if hasattr(check, "label")}


def test_it_is_made_of_todays_checks():
    assert tutor.page() == PAGE


@pytest.mark.parametrize("path", run.lessons(), ids=lambda path: path.stem)
def test_the_metadata_are_those_of_todays_checks_and_solutions(path):
    book = run.read(path)
    if not any("evaluation_criteria" in cell.metadata for cell in book.cells):
        pytest.skip("`make tutor` has not written them yet")
    assert tutor.annotated(path) == book


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


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The page and the notebooks in another folder."""
    paths = [Path(shutil.copy(path, tmp_path)) for path in run.lessons()]
    monkeypatch.setattr(tutor, "PAGE", tmp_path / "AGENTS.md")
    monkeypatch.setattr(run, "lessons", lambda: paths)
    return paths


def call(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["tutor.py", *options])
    return tutor.main()


def test_what_has_drifted_is_told_and_written(copy, monkeypatch, capsys):
    assert call(monkeypatch, "--check") == 1 and not tutor.PAGE.exists()
    assert call(monkeypatch) == 0
    assert tutor.PAGE.read_text(encoding="utf-8") == PAGE
    assert call(monkeypatch, "--check") == 0
    book = run.read(copy[1])
    editions.exercises(book)[0].stub.metadata["evaluation_criteria"] = "another"
    run.write(book, copy[1])
    capsys.readouterr()
    assert call(monkeypatch, "--check") == 1
    assert capsys.readouterr().out == f"drifted: {copy[1].name}\n"


def test_exercises_carry_what_jupyter_ai_tutor_reads_and_nothing_else_changes(copy, monkeypatch):
    before = {path: run.read(path) for path in copy}
    call(monkeypatch)
    for path in copy:
        after = run.read(path)
        assert not any(lint.problems(path).values())
        for found in editions.exercises(after):
            asked = found.stub.metadata.pop("evaluation_criteria")
            assert getattr(exercises, found.check).label in asked and f"check.{found.check}({found.mine})" in asked
            assert not [line for line in found.answer.splitlines() if len(line) > 20 and line.strip() in asked]
            answer = found.stub.metadata.pop("reference_solution")
            assert answer and answer in found.solution.source
        for cell in before[path].cells:
            for name in ("evaluation_criteria", "reference_solution"):
                cell.metadata.pop(name, None)
        assert after == before[path]


def test_the_students_edition_carries_no_solution(copy, monkeypatch):
    call(monkeypatch)
    for path in copy:
        given, book = editions.edition(path, "student"), run.read(path)
        assert not [cell for cell in given.cells if "reference_solution" in cell.metadata]
        assert sum("evaluation_criteria" in cell.metadata for cell in given.cells) == len(editions.exercises(book))
