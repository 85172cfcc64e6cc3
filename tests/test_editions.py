"""The student's edition has no solutions and runs untouched; in the solutions' edition every check passes.

What an assistant beside a learner reads is as the checks are today; no solution stands where it does not belong.
"""

import ast
import inspect
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import nbformat
import notebook_lint as lint
import pytest
import torch
import tutor
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbformat.validator import iter_validate

from helpers.lesson import exercises as check
from notebooks import editions, run

NOTEBOOKS = run.lessons()
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def sources(book):
    return {cell.id: cell.source for cell in book.cells}


def printed(book):
    """All that its cells have printed."""
    return "".join(lint.text_of(output) for cell in book.cells for output in cell.get("outputs", []))


def functions_of(source):
    """Functions and networks, by what they are called with: a network's forward."""
    found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return {node.name: node if isinstance(node, ast.FunctionDef) else node.body[-1] for node in found}


# ------------------------------------------------------------------------------------- the six notebooks


def test_every_check_has_its_exercise():
    found = [exercise for path in NOTEBOOKS for exercise in editions.exercises(lint.load(path))]
    assert Counter(e.check for e in found) == Counter(n for n, value in vars(check).items() if hasattr(value, "course"))
    assert {e.given for e in found if e.needed} >= {"solution_round_trip", "solution_count"}


@each_notebook
def test_exercises_are_those_that_the_lint_finds_and_solutions_take_what_stubs_take(path):
    """And so does what the course has for cells below."""
    book = lint.load(path)
    found = editions.exercises(book)
    assert [e.stub.id for e in found] == [cell.id for cell in lint.code(book) if lint.is_stub(cell)]
    assert [e.solution.id for e in found] == [cell.id for cell in lint.code(book) if lint.is_solution(cell)]
    for exercise in found:
        functions = functions_of(exercise.stub.source) | functions_of(exercise.solution.source)
        stub = functions[exercise.mine].args
        assert ast.unparse(stub) == ast.unparse(functions[exercise.given].args)
        course = getattr(check, exercise.check).course
        if exercise.mine.startswith("My"):
            assert isinstance(course(), torch.nn.Module)
        elif exercise.needed:
            assert list(inspect.signature(course).parameters)[: len(stub.args)] == [a.arg for a in stub.args]


@each_notebook
def test_the_students_edition_is_the_same_notebook_without_solutions_and_outputs(path):
    before, after = lint.load(path), editions.edition(path, "student")
    assert not list(iter_validate(after))
    assert not any(cell.outputs or cell.execution_count for cell in after.cells if cell.cell_type == "code")
    was, now = sources(before), sources(after)
    text = "\n".join(now.values())
    hidden = {cell.id for cell in before.cells if "shows-solution" in cell.metadata.get("tags", [])}
    changed = {"title"}  # it has lost its badge, which opens the notebook that has them
    for exercise in editions.exercises(before):
        assert exercise.stub.source in text and not re.search(rf"(?:def|class) {exercise.given}\b", text)
        inside = functions_of(exercise.solution.source).values()
        results = [n for f in inside for n in ast.walk(f) if isinstance(n, ast.Return)]
        assert not any(ast.unparse(result) in text for result in results)
        (changed if exercise.needed else hidden).add(exercise.solution.id)
        if exercise.needed:
            usable = f"{exercise.given} = check.usable(check.{exercise.check}, {exercise.mine})"
            assert now[exercise.solution.id].endswith(usable)
    assert list(now) == [name for name in was if name not in hidden]
    assert {name for name in now if now[name] != was[name]} == changed
    prose = "\n".join(cell.source for cell in after.cells if cell.cell_type == "markdown")
    assert "Open in Colab" not in prose
    assert not re.search(r"(?<!where a )folded solution|solution (below|above)|next cell (is|has) (the|its) sol", prose)


@each_notebook
def test_a_filled_in_stub_differs_by_its_function_alone(path):
    before, after = lint.load(path), editions.edition(path, "solutions")
    assert not list(iter_validate(after))
    found, filled = editions.exercises(before), sources(after)
    assert list(filled) == [name for name in sources(before) if name not in {e.solution.id for e in found}]
    assert not any("solution_" in source or source.startswith(editions.TITLE) for source in filled.values())
    for exercise in found:
        source = filled[exercise.stub.id]
        first = re.split(rf"(?:def|class) {exercise.mine}\b", exercise.stub.source)[0]
        last = f"\n\n\ncheck.{exercise.check}"
        assert source.startswith(first) and source.endswith(f"{last}({exercise.mine})")
        inside = source.removeprefix(first).split(last)[0]
        assert inside in re.sub(r"\bSolution(?=[A-Z])", "My", re.sub(r"\bsolution_", "my_", exercise.solution.source))
        assert exercise.mine in functions_of(inside)


# ------------------------------------------------------------------------------- a notebook of five cells

CHECK = """class check:
    usable = staticmethod(lambda check, answer: (lambda n: -1))

    @staticmethod
    def next(answer):
        print("Exercise 1.1:", "passed." if answer(3) == 4 else "not yet. Go on by one.")"""
STUB = "import math\n\n\ndef my_next(n): ...\n\n\ncheck.next(my_next)"
SOLUTION = "# @title Solution\nONE = 1\n\n\ndef solution_next(n):\n    return n + ONE\n\n\ncheck.next(solution_next)"
TITLE, FIRST, EXERCISE, ANSWER, BELOW = range(5)


@pytest.fixture
def lesson(tmp_path):
    """Writes a small notebook, its cells replaced where told (None: left out)."""

    def write(changes=(), name="lesson.ipynb"):
        texts = {FIRST: CHECK, EXERCISE: STUB, ANSWER: SOLUTION, BELOW: "!true\nprint(solution_next(7))"}
        book = new_notebook(cells=[new_markdown_cell("# Title", id="title")])
        for place, text in (texts | dict(changes)).items():
            if text is not None:
                book.cells.append(new_code_cell(text, id=f"cell-{place}", execution_count=place, metadata={"tags": []}))
        book.cells[-1].outputs = [new_output("stream", name="stdout", text="8\n")]
        nbformat.write(book, tmp_path / name)
        return tmp_path / name

    return write


def made(edition, path, *more):
    return editions.main([edition, "--out", str(path.parent / "out"), str(path), *more])


def test_a_students_notebook_goes_on_with_what_it_is_given(lesson):
    path = lesson()
    before = path.read_bytes()
    assert made("student", path) == 0
    book = lint.load(path.parent / "out" / "lesson.ipynb")
    assert list(sources(book)) == ["title", "cell-1", "cell-2", "cell-3", "cell-4"]
    assert book.cells[ANSWER].source.endswith("\nsolution_next = check.usable(check.next, my_next)")
    assert book.cells[ANSWER].metadata == {}
    assert not run.execute(book, path.parent)
    assert book.cells[BELOW].outputs[0].text == "-1\n"
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", ["import math", "from math import pi as ONE", "ONE: int = 1"])
def test_what_others_define_too_needs_nobody_and_what_nothing_below_calls_leaves_no_cell(line, lesson):
    """The stub imports math; the cell below has a ONE of its own."""
    path = lesson({ANSWER: SOLUTION.replace("ONE = 1", line), BELOW: "ONE = math.pi\nprint(ONE, 'solution_next')"})
    assert made("student", path) == 0
    assert list(sources(lint.load(path.parent / "out" / "lesson.ipynb"))) == ["title", "cell-1", "cell-2", "cell-4"]


def test_solutions_are_filled_in_and_executed(lesson):
    path = lesson()
    assert made("solutions", path) == 0
    book = lint.load(path.parent / "out" / "lesson.ipynb")
    filled = "import math\n\n\nONE = 1\n\n\ndef my_next(n):\n    return n + ONE\n\n\ncheck.next(my_next)"
    assert [cell.source for cell in book.cells[EXERCISE:]] == [filled, "!true\nprint(my_next(7))"]
    assert [cell.outputs[0].text for cell in book.cells[EXERCISE:]] == ["Exercise 1.1: passed.\n", "8\n"]
    assert book.metadata.kernelspec == run.KERNEL


def test_solutions_that_fail_are_named_and_not_written(lesson, capsys):
    wrong, broken = lesson({ANSWER: SOLUTION.replace("ONE\n", "2\n")}, "a.ipynb"), lesson({BELOW: "1 / 0"}, "b.ipynb")
    assert made("solutions", wrong, str(broken), str(lesson())) == 1
    shown = capsys.readouterr()
    assert "cell cell-2: Exercise 1.1: not yet. Go on by one." in shown.err and "code cell 3: 1 / 0" in shown.err
    assert "1 of 3" in shown.out and [file.name for file in (wrong.parent / "out").iterdir()] == ["lesson.ipynb"]


# ------------------------------------------------------------------------------------------- bad input

BROKEN = [
    ({ANSWER: None}, "cell-2: my_next has no solution"),
    ({ANSWER: None, BELOW: None}, "cell-2: my_next has no solution"),
    ({EXERCISE: None}, "cell-3: a solution, but the code cell before it is no stub"),
    ({ANSWER: SOLUTION.replace("solution_next", "solution_last")}, "to solve my_next, but does not define solution_n"),
    ({ANSWER: SOLUTION.replace("(solution_next)", "(my_next)")}, "last line should be check.next(solution_next)"),
    ({BELOW: "x = = 1"}, "cell-4: not Python: invalid syntax, line 1"),
]
LOST = [SOLUTION.replace("ONE = 1", line) for line in ("import math as ONE", "class ONE: ...")]
ONLY_THERE = [({ANSWER: text, BELOW: "print(ONE)"}, "cell-3: only this solution defines ONE") for text in LOST]


def refused(capsys, edition, out, *paths) -> str:
    assert editions.main([edition, "--out", str(out), *map(str, paths)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(("changes", "said"), BROKEN + ONLY_THERE)
def test_a_notebook_that_does_not_fit_is_one_clear_line(changes, said, lesson, capsys):
    bad, good = lesson(changes), lesson(name="good.ipynb")
    line = refused(capsys, "student", bad.parent / "out", good, bad)
    assert line.startswith(f"error: {bad}: cell cell-") and said in line
    assert not (bad.parent / "out").exists()


def test_files_and_folders_that_cannot_be_are_one_clear_line(lesson, tmp_path, capsys):
    path = lesson()
    before = path.read_bytes()
    missing = tmp_path / "missing.ipynb"
    assert refused(capsys, "solutions", tmp_path / "out", missing).startswith(f"error: {missing}: ")
    assert "give another folder" in refused(capsys, "student", path.parent / "x" / "..", path)
    refused(capsys, "student", path / "out", path)
    assert path.read_bytes() == before


def test_what_a_learner_worked_on_is_not_replaced(lesson, capsys):
    path = lesson()
    out = path.parent / "out" / path.name
    assert made("student", path) == made("student", path) == 0  # untouched, it may be written again
    for cell in (0, BELOW):  # a note, or code
        book = run.read(out)
        book.cells[cell].source += "\nanswer = 42"
        run.write(book, out)
        assert "has been worked on" in refused(capsys, "student", out.parent, path)
        assert run.read(out) == book
        assert made("student", path, "--overwrite") == 0
        assert "answer = 42" not in out.read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------- whole notebooks


@pytest.mark.long
def test_an_untouched_students_notebook_runs():
    book = editions.edition(NOTEBOOKS[5], "student")
    assert not run.execute(book, NOTEBOOKS[5].parent)
    assert printed(book).count("not attempted yet") == len(editions.exercises(lint.load(NOTEBOOKS[5])))
    assert "passed." not in printed(book)


@pytest.mark.slow
def test_all_checks_of_a_whole_notebook_pass(tmp_path):
    path = NOTEBOOKS[0]
    assert editions.main(["solutions", "--out", str(tmp_path), str(path)]) == 0
    assert printed(lint.load(tmp_path / path.name)).count("passed.") == len(editions.exercises(lint.load(path)))
    assert not {"executed", "clean"} & lint.problems(tmp_path / path.name).keys()


# --------------------------------------------------------------------------------------------------------- the tutor

PAGE = tutor.PAGE.read_text(encoding="utf-8")
CHECKS = {name: function for name, function in vars(check).items() if hasattr(function, "label")}


def test_it_is_made_of_todays_checks():
    assert tutor.page() == PAGE


@each_notebook
def test_exercises_carry_what_jupyter_ai_tutor_reads_of_todays_checks_and_solutions(path):
    book = run.read(path)
    assert tutor.annotated(path) == book
    for found in editions.exercises(book):
        asked, answer = (found.stub.metadata[name] for name in ("evaluation_criteria", "reference_solution"))
        assert getattr(check, found.check).label in asked and f"check.{found.check}({found.mine})" in asked
        assert answer and answer in found.solution.source
        lines = {line.strip() for line in answer.splitlines() if len(line.strip()) > 16}
        assert not [line for line in lines if line in PAGE or line in asked]
    student = editions.edition(path, "student")
    assert not [cell for cell in student.cells if "reference_solution" in cell.metadata]
    assert sum("evaluation_criteria" in cell.metadata for cell in student.cells) == len(editions.exercises(book))


@pytest.mark.parametrize("name", CHECKS)
def test_each_exercise_is_there_with_the_mistakes_that_its_check_names(name):
    examined = CHECKS[name]
    assert len(re.findall(rf"^\*\*(?:Exercise|Build) {examined.label}\*\*", PAGE, re.MULTILINE)) == 1
    if hasattr(examined, "task"):
        hints = {hint for case in examined.cases for hint in list(examined.task(*case))[1]}
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
