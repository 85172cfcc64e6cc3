"""The script that grades notebooks, on small ones of students who are right, who cheat, and who are slow."""

import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from helpers.lesson import exercises as check
from notebooks import examination, grade

ROOT = Path(__file__).resolve().parent.parent
SETUP = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom helpers.lesson import exercises as check"
RIGHT = "def my_count(side, size, stride):\n    return fits(side - size, stride)"
TRAINING = new_code_cell("helper = None", metadata={"tags": ["nbval-ignore-output"]})


def handed_in(path: Path, *cells) -> Path:
    """A notebook of these cells; text becomes a code cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> pd.DataFrame:
    """Rows of two students of notebook 1: result and remark by student and exercise."""
    folder = tmp_path_factory.mktemp("class")
    ada = handed_in(
        folder / "ada" / "01_data_preparation.ipynb",
        SETUP,
        "def fits(room, step):\n    return room // step + 1",
        "1 / 0  # a cell that fails is no reason to stop",
        f"{RIGHT}\n\n\ncheck.patch_count(my_count)",
        "del fits  # what comes after the answer does not count",
        "def my_luma(image): ...\n\n\ncheck.luma(my_luma)",
        "raise SystemExit('not run: nothing is answered from here on')",
    )
    eve = handed_in(
        folder / "eve.ipynb",
        SETUP,
        "check.examine.verdict = check.patch_count.verdict = lambda *_: 'passed.'\nprint('Exercise 1.3: passed.')",
        "from builtins import print as really\n\n\ndef print(*parts):\n    really(parts[0], 'passed.')",
        "open('../helpers/lesson/exercises/__init__.py', 'w').write('')",
        "def my_count(side, size, stride):\n    print('passed.')\n    return 0\n\n\ncheck.patch_count(my_count)",
    )
    assert grade.main(["--out", str(folder / "grades.csv"), str(ada), str(eve)]) == 0
    return pd.read_csv(folder / "grades.csv", dtype=str, keep_default_na=False).set_index(["student", "exercise"])


def test_a_right_answer_passes_a_forged_one_does_not_and_each_exercise_has_a_row(graded):
    """Though another cell fails; an untouched stub and a missing answer are not attempted."""
    assert graded.loc[("ada", "1.3"), "result"] == "passed"
    assert tuple(graded.loc[("eve", "1.3")]) == ("not yet", "my_count(10, 4, 2) is 0 where 4 is right.")
    assert tuple(graded.loc[("ada", "1.1")]) == ("not attempted", "")
    assert tuple(graded.loc[("ada", "1.2")]) == ("not attempted", "no my_psnr")
    assert graded.loc["eve"].index.tolist() == ["1.1", "1.2", "1.3", "1.4", "1.5", "1.6"]


def test_the_table_has_exercises_by_students_and_a_count(capsys):
    rows = [("ada", "1.1", "passed", ""), ("ada", "1.2", "not yet", "a hint"), ("eve", "2.1", "passed", "")]
    grade.report(pd.DataFrame(rows, columns=grade.TABLE), None)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["ada", "eve"],
        ["1.1", "passed", "–"],
        ["1.2", "not", "yet", "–"],
        ["2.1", "–", "passed"],
        ["passed", "1", "of", "2", "1", "of", "1"],
    ]


@pytest.mark.parametrize(
    ("source", "why"),
    [("while True: pass", "a cell took longer than 1 s"), ("import os; os._exit(1)", "the kernel died")],
)
def test_a_notebook_that_does_not_go_on_is_given_up(source, why, tmp_path):
    book = handed_in(tmp_path / "bob.ipynb", source, "def my_luma(image): ...\n\n\ncheck.luma(my_luma)")
    assert grade.main(["--seconds", "1", "--out", str(tmp_path / "g.csv"), str(book)]) == 0
    rows = pd.read_csv(tmp_path / "g.csv", dtype=str).set_index("exercise")
    assert tuple(rows.loc["1.1", ["result", "remark"]]) == ("not reached", why)
    assert not list(tmp_path.glob("*.part"))


def test_quick_leaves_out_what_is_tagged_as_training():
    book = new_notebook(cells=[TRAINING, new_code_cell("def my_luma(image): ...")])
    sources = [[cell.source for cell in grade.with_examinations(book, {"luma": "my_luma"}, "", quick).cells]
               for quick in (False, True)]  # fmt: skip
    assert "helper = None" in sources[0] and "helper = None" not in sources[1] and len(sources[1]) == 2


def test_the_course_has_every_check_as_an_exercise():
    found = [check for checks in grade.answers_by_lesson().values() for check in checks]
    known = [name for name, function in vars(check).items() if hasattr(function, "label")]
    assert sorted(found) == sorted(known)


@pytest.mark.parametrize("right", [True, False])
def test_the_students_helpers_are_put_back(right):
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "helpers"}
    answer = (lambda side, size, stride: (side - size) // stride + 1) if right else (lambda side, size, stride: 0)
    assert (examination.verdict("patch_count", answer) == "passed.") is right
    assert before == {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "helpers"}


# --------------------------------------------------------------------------------------------- bad input


def refused(capsys, *arguments) -> str:
    """The sentence with which the arguments are refused."""
    assert grade.main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out and captured.err.count("\n") == 1
    return captured.err


def test_bad_input_gets_one_sentence(tmp_path, capsys):
    good = handed_in(tmp_path / "ada" / "01_data_preparation.ipynb", "check.luma(my_luma)")
    twin = handed_in(tmp_path / "ada" / "01_data_preparation (1).ipynb", "check.luma(my_luma)")
    other = handed_in(tmp_path / "other.ipynb", "print('hello')")
    damaged = tmp_path / "damaged.ipynb"
    damaged.write_text("{", encoding="utf-8")
    assert "no such notebook" in refused(capsys, tmp_path / "none.ipynb")
    assert "not a notebook" in refused(capsys, damaged)
    assert grade.main([str(damaged), str(handed_in(tmp_path / "eve.ipynb", "check.luma(my_luma)"))]) == 2
    said = capsys.readouterr()  # the others are graded all the same
    assert said.err.startswith(f"error: {damaged}") and "eve" in said.out
    assert "no exercise of this course" in refused(capsys, other)
    assert "are both 01_data_preparation of ada" in refused(capsys, good, twin)
    assert "no folder" in refused(capsys, "--out", tmp_path / "none" / "g.csv", good)


@pytest.mark.parametrize(
    ("files", "students"),
    [
        (["a/06_benchmarking (1).ipynb", "b/06_benchmarking (1).ipynb"], ["a", "b"]),
        (["a/06_benchmarking-Copy1.ipynb", "b/06_benchmarking - Copy.ipynb"], ["a", "b"]),
        (["a/homework.ipynb", "b/homework.ipynb", "b/eve.ipynb"], ["a", "b", "eve"]),
        (["a/6/homework.ipynb", "b/6/homework.ipynb", "b/6/06_benchmarking.ipynb"], None),  # both are b's
        (["a/6/homework.ipynb", "b/6/06_benchmarking.ipynb", "c/6/homework.ipynb"], ["a/6", "b/6", "c/6"]),
        (["1/ada.ipynb", "1/bob.ipynb"], ["ada", "bob"]),
    ],
)
def test_students_have_different_names(files, students):
    lessons = {Path("class", name): "06_benchmarking" for name in files}
    if students is None:
        with pytest.raises(grade.NotebookError, match="are both 06_benchmarking of"):
            grade.students_of(lessons)
    else:
        assert list(grade.students_of(lessons).values()) == students


def test_a_student_is_the_same_in_two_lessons():
    lessons = {Path(name, "ada.ipynb"): f"0{name}" for name in "12"}
    assert set(grade.students_of(lessons).values()) == {"ada"}
