"""The student's edition has no solutions and runs untouched; in the solutions' edition every check passes."""

import ast
import inspect
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import notebook_lint as lint
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbformat.validator import iter_validate

from helpers.lesson import exercises as check
from notebooks import editions, run

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def ids(book):
    return [cell.id for cell in book.cells]


def sources(book):
    return {cell.id: cell.source for cell in book.cells}


def given_cells(path):
    """(exercise, its cell in the student's edition) where cells below call its solution."""
    student = sources(editions.edition(path, "student"))
    pairs = [(e, student.get(e.solution.id)) for e in editions.exercises(lint.load(path))]
    return [pair for pair in pairs if pair[1]]


def functions_of(source):
    """Functions and networks, by what they are called with: a network's forward."""
    found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return {node.name: node if isinstance(node, ast.FunctionDef) else node.body[-1] for node in found}


# ------------------------------------------------------------------------------------- the six notebooks


def test_every_check_has_its_exercise():
    used = Counter(e.check for path in NOTEBOOKS for e in editions.exercises(lint.load(path)))
    assert used == Counter(name for name, value in vars(check).items() if hasattr(value, "course"))
    assert {e.given for path in NOTEBOOKS for e, _ in given_cells(path)} >= {"solution_round_trip", "solution_count"}


@each_notebook
def test_exercises_are_those_that_the_lint_finds_and_solutions_take_what_stubs_take(path):
    """And so does what the course has for cells below."""
    book = lint.load(path)
    found = editions.exercises(book)
    assert [e.stub.id for e in found] == [cell.id for cell in lint.code(book) if lint.is_stub(cell)]
    assert [e.solution.id for e in found] == [cell.id for cell in lint.code(book) if lint.is_solution(cell)]
    assert len(found) >= 4
    for exercise in found:
        functions = functions_of(exercise.stub.source) | functions_of(exercise.solution.source)
        assert ast.unparse(functions[exercise.mine].args) == ast.unparse(functions[exercise.given].args)
    for exercise, source in given_cells(path):
        course = getattr(check, exercise.check).course
        assert source.endswith(f"{exercise.given} = check.usable(check.{exercise.check}, {exercise.mine})")
        (stub,) = functions_of(exercise.stub.source).values()
        if exercise.mine.startswith("My"):
            assert isinstance(course(), torch.nn.Module)
            continue
        assert list(inspect.signature(course).parameters)[: len(stub.args.args)] == [a.arg for a in stub.args.args]


@each_notebook
def test_the_students_edition_is_the_same_notebook_without_solutions_and_outputs(path):
    before, after = lint.load(path), editions.edition(path, "student")
    assert not list(iter_validate(after))
    assert not any(cell.outputs or cell.execution_count for cell in after.cells if cell.cell_type == "code")
    text = "\n".join(cell.source for cell in after.cells)
    solutions = editions.exercises(before)
    for exercise in solutions:
        assert exercise.stub.source in text and not re.search(rf"(?:def|class) {exercise.given}\b", text)
        inside = functions_of(exercise.solution.source).values()
        results = [n for f in inside for n in ast.walk(f) if isinstance(n, ast.Return)]
        assert not any(ast.unparse(result) in text for result in results)
    given = [e.solution.id for e, _ in given_cells(path)]
    hidden = {e.solution.id for e in solutions} - {*given}
    hidden |= {cell.id for cell in before.cells if "shows-solution" in cell.metadata.get("tags", [])}
    assert ids(after) == [name for name in ids(before) if name not in hidden]
    changed = {name for name, source in sources(after).items() if source != sources(before)[name]}
    assert changed == {"title", *given}  # the title has lost its badge, which opens the notebook that has them
    prose = "\n".join(cell.source for cell in after.cells if cell.cell_type == "markdown")
    assert "Open in Colab" not in prose
    assert not re.search(r"(?<!where a )folded solution|solution (below|above)|next cell (is|has) (the|its) sol", prose)


@each_notebook
def test_a_filled_in_stub_differs_by_its_function_alone(path):
    before, after = lint.load(path), editions.edition(path, "solutions")
    assert not list(iter_validate(after))
    found = editions.exercises(before)
    assert ids(after) == [name for name in ids(before) if name not in {e.solution.id for e in found}]
    assert not any("solution_" in cell.source or editions.is_solution(cell) for cell in after.cells)
    for exercise in found:
        filled = sources(after)[exercise.stub.id]
        first = re.split(rf"(?:def|class) {exercise.mine}\b", exercise.stub.source)[0]
        last = f"\n\n\ncheck.{exercise.check}"
        assert filled.startswith(first) and filled.endswith(f"{last}({exercise.mine})")
        inside = filled.removeprefix(first).split(last)[0]
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
        texts = {
            FIRST: CHECK,
            EXERCISE: STUB,
            ANSWER: SOLUTION,
            BELOW: "!true\nprint(solution_next(7))",
            **dict(changes),
        }
        book = new_notebook(cells=[new_markdown_cell("# Title", id="title")])
        for place, text in texts.items():
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
    assert ids(book) == ["title", "cell-1", "cell-2", "cell-3", "cell-4"]
    assert book.cells[ANSWER].source.endswith("\nsolution_next = check.usable(check.next, my_next)")
    assert book.cells[ANSWER].metadata == {}
    assert not run.execute(book, path.parent)
    assert book.cells[BELOW].outputs[0].text == "-1\n"
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", ["import math", "import math as ONE", "from math import pi as ONE", "ONE: int = 1"])
def test_what_others_define_too_needs_nobody_and_what_nothing_below_calls_leaves_no_cell(line, lesson):
    """The stub imports math; the cell below has a ONE of its own."""
    path = lesson({ANSWER: SOLUTION.replace("ONE = 1", line), BELOW: "ONE = math.pi\nprint(ONE, 'solution_next')"})
    assert made("student", path) == 0
    assert ids(lint.load(path.parent / "out" / "lesson.ipynb")) == ["title", "cell-1", "cell-2", "cell-4"]


def test_solutions_are_filled_in_and_executed(lesson):
    path = lesson()
    assert made("solutions", path) == 0
    book = lint.load(path.parent / "out" / "lesson.ipynb")
    filled = "import math\n\n\nONE = 1\n\n\ndef my_next(n):\n    return n + ONE\n\n\ncheck.next(my_next)"
    assert [cell.source for cell in book.cells[EXERCISE:]] == [filled, "!true\nprint(my_next(7))"]
    assert [cell.outputs[0].text for cell in book.cells[EXERCISE:]] == ["Exercise 1.1: passed.\n", "8\n"]
    assert book.metadata.kernelspec == run.KERNEL


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({ANSWER: SOLUTION.replace("ONE\n", "2\n")}, "cell cell-2: Exercise 1.1: not yet. Go on by one."),
        ({BELOW: "1 / 0"}, "code cell 3: 1 / 0"),
    ],
)
def test_solutions_that_fail_are_named_and_not_written(changes, said, lesson, capsys):
    path, good = lesson(changes), lesson(name="good.ipynb")
    assert made("solutions", path, str(good)) == 1
    shown = capsys.readouterr()
    assert said in shown.err and "1 of 2" in shown.out
    assert [file.name for file in (path.parent / "out").iterdir()] == ["good.ipynb"]


# ------------------------------------------------------------------------------------------- bad input

BROKEN = [
    ({ANSWER: None}, "cell-2: my_next has no solution"),
    ({ANSWER: None, BELOW: None}, "cell-2: my_next has no solution"),
    ({EXERCISE: None}, "cell-3: a solution, but the code cell before it is no stub"),
    ({EXERCISE: STUB.replace("...", "return 4")}, "cell-3: a solution, but"),
    ({ANSWER: SOLUTION.replace("solution_next", "solution_last")}, "to solve my_next, but does not define solution_n"),
    ({ANSWER: SOLUTION.replace("check.n", "check.l")}, "last line should be check.next(solution_next)"),
    ({ANSWER: SOLUTION.rsplit("\n", 1)[0]}, "cell-3: its last line should be check.next(solution_next)"),
    ({ANSWER: SOLUTION.replace("(solution_next)", "(my_next)")}, "last line should be check.next(sol"),
    ({BELOW: "x = = 1"}, "cell-4: not Python: invalid syntax, line 1"),
]
LOST = [SOLUTION.replace("ONE = 1", line) for line in ("ONE = 1", "import math as ONE", "class ONE: ...")]
ONLY_THERE = [({ANSWER: text, BELOW: "print(ONE)"}, "cell-3: only this solution defines ONE") for text in LOST]


def refused(capsys, edition, out, *paths) -> str:
    assert editions.main([edition, "--out", str(out), *map(str, paths)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("edition", "changes", "said"),
    [(e, *case) for e in editions.EDITIONS for case in BROKEN] + [("student", *case) for case in ONLY_THERE],
)
def test_a_notebook_that_does_not_fit_is_one_clear_line(edition, changes, said, lesson, capsys):
    bad, good = lesson(changes), lesson(name="good.ipynb")
    line = refused(capsys, edition, bad.parent / "out", good, bad)
    assert line.startswith(f"error: {bad}: cell cell-") and said in line
    assert not (bad.parent / "out").exists()


def test_files_and_folders_that_cannot_be_are_one_clear_line(lesson, tmp_path, capsys):
    path, broken = lesson(), tmp_path / "broken.ipynb"
    before = path.read_bytes()
    for content in (None, "", "{", "{}", "not a notebook"):
        if content is not None:
            broken.write_text(content, encoding="utf-8")
        assert refused(capsys, "student", tmp_path / "out", broken).startswith(f"error: {broken}: ")
    assert "give another folder" in refused(capsys, "student", path.parent / "x" / "..", path)
    refused(capsys, "student", path / "out", path)
    assert path.read_bytes() == before
    with pytest.raises(SystemExit, match="2"):
        editions.main(["teacher"])


def test_it_can_be_called_from_any_folder(lesson):
    """A relative --out is the caller's, wherever the script lies."""
    path = lesson()
    command = [sys.executable, editions.__file__, "student", "--out", "mine", "lesson.ipynb"]
    assert subprocess.run(command, cwd=path.parent, env={**os.environ, "PYTHONPATH": ""}).returncode == 0
    assert (path.parent / "mine" / "lesson.ipynb").is_file()


# ------------------------------------------------------------------------------------- whole notebooks


def test_what_a_learner_worked_on_is_not_replaced(tmp_path, capsys):
    lesson = run.lessons()[0]
    make = ["student", "--out", str(tmp_path), str(lesson)]
    assert editions.main(make) == editions.main(make) == 0  # untouched, it may be written again
    book = run.read(tmp_path / lesson.name)
    run.code(book)[5].source += "\nanswer = 42"
    run.write(book, tmp_path / lesson.name)
    capsys.readouterr()
    assert editions.main(make) == 2 and "has been worked on" in capsys.readouterr().err
    assert "answer = 42" in run.code(run.read(tmp_path / lesson.name))[5].source
    assert editions.main([*make, "--overwrite"]) == 0
    assert "answer = 42" not in run.code(run.read(tmp_path / lesson.name))[5].source


@pytest.mark.long
def test_an_untouched_students_notebook_runs():
    book = editions.edition(NOTEBOOKS[5], "student")
    assert not run.execute(book, NOTEBOOKS[5].parent)
    said = "".join(lint.text_of(output) for _, output in lint.outputs(book))
    assert said.count("not attempted yet") == len(editions.exercises(lint.load(NOTEBOOKS[5])))
    assert "passed." not in said


@pytest.mark.slow
def test_all_checks_of_a_whole_notebook_pass(tmp_path):
    path = NOTEBOOKS[0]
    assert editions.main(["solutions", "--out", str(tmp_path), str(path)]) == 0
    book = lint.load(tmp_path / path.name)
    said = "".join(lint.text_of(output) for _, output in lint.outputs(book))
    assert said.count("passed.") == len(editions.exercises(lint.load(path)))
    assert not list(lint.executed(book)) and not list(lint.clean(book))
