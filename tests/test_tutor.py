"""What an assistant beside a learner reads: as the checks are today; and no solution but where it belongs."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import tutor

from helpers.lesson import exercises
from notebooks import editions, run

PAGE = tutor.PAGE.read_text(encoding="utf-8")
CHECKS = {name: check for name, check in vars(exercises).items() if hasattr(check, "label")}


def test_it_is_made_of_todays_checks():
    assert tutor.page() == PAGE


@pytest.mark.parametrize("path", run.lessons(), ids=lambda path: path.stem)
def test_exercises_carry_what_jupyter_ai_tutor_reads_of_todays_checks_and_solutions(path):
    book = run.read(path)
    assert tutor.annotated(path) == book
    for found in editions.exercises(book):
        asked, answer = (found.stub.metadata[name] for name in ("evaluation_criteria", "reference_solution"))
        assert getattr(exercises, found.check).label in asked and f"check.{found.check}({found.mine})" in asked
        assert answer and answer in found.solution.source
        lines = {line.strip() for line in answer.splitlines() if len(line.strip()) > 16}
        assert not [line for line in lines if line in PAGE or line in asked]
    student = editions.edition(path, "student")
    assert not [cell for cell in student.cells if "reference_solution" in cell.metadata]
    assert sum("evaluation_criteria" in cell.metadata for cell in student.cells) == len(editions.exercises(book))


@pytest.mark.parametrize("name", CHECKS)
def test_each_exercise_is_there_with_the_mistakes_that_its_check_names(name):
    check = CHECKS[name]
    assert len(re.findall(rf"^\*\*(?:Exercise|Build) {check.label}\*\*", PAGE, re.MULTILINE)) == 1
    if hasattr(check, "task"):
        hints = {hint for case in check.cases for hint in list(check.task(*case))[1]}
        plain = [hint for hint in hints if not re.search(r"\d", hint)]  # others hold a number of the case
        assert all(f"- {hint}\n" in PAGE for hint in plain)


def test_what_has_drifted_is_told_and_written_and_nothing_else_changes(tmp_path, monkeypatch, capsys):
    copies = [Path(shutil.copy(path, tmp_path)) for path in run.lessons()[:2]]
    page = tmp_path / "AGENTS.md"
    monkeypatch.setattr(tutor, "PAGE", page)
    monkeypatch.setattr(tutor, "page", lambda: "a page")
    monkeypatch.setattr(run, "lessons", lambda: copies)
    before = run.read(copies[1])
    book = run.read(copies[1])
    first = editions.exercises(book)[0].stub
    first.metadata = first.metadata | {"evaluation_criteria": "another", "reference_solution": "another"}
    run.write(book, copies[1])

    def call(*options: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tutor.py", *options])
        return tutor.main(), capsys.readouterr().out

    assert call("--check") == (1, f"drifted: AGENTS.md, {copies[1].name}\n") and not page.exists()
    assert call() == (0, f"written: AGENTS.md, {copies[1].name}\n")
    assert page.read_text(encoding="utf-8") == "a page" and run.read(copies[1]) == before
    assert call("--check") == (0, "AGENTS.md and notebooks: up to date\n")
