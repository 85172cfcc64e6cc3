"""The script behind `make course` and `make notebooks`, on notebooks of three cells.

And the one that grades notebooks, on those of students who are right, who cheat, and who are slow.
"""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers import CourseError
from notebooks import editions, examination, grade, run

ROOT = Path(__file__).resolve().parent.parent
FAILING = ["x = 1", "x / 0", "print('never')"]


def notebook(path: Path, *sources: str, **metadata) -> Path:
    """A notebook as an author would leave it: a kernel of another name, stale counts, somebody's widget state."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [new_markdown_cell("# Title", id="title")]
    cells += [new_code_cell(text, id=f"cell-{i}", execution_count=40 + i) for i, text in enumerate(sources)]
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


# --------------------------------------------------------------------------------------- executed copies


def test_copies_and_pages_are_written_and_a_failing_cell_is_named(tmp_path, monkeypatch, capsys):
    """Each runs in its own folder, with threads that wait passively; a relative --out is the caller's."""
    (tmp_path / "note.txt").write_text("here", encoding="utf-8")
    notebook(tmp_path / "1_bad.ipynb", *FAILING)
    cells = ["import os", "print(open('note.txt').read(), os.environ['OMP_WAIT_POLICY'])"]
    good = notebook(tmp_path / "2_good.ipynb", *cells)
    before = good.read_bytes()
    monkeypatch.chdir(tmp_path)
    assert run.main(["--out", "mine", "1_bad.ipynb", good.name]) == 1
    shown = capsys.readouterr()
    assert "code cell 2: x / 0" in shown.err and "ZeroDivisionError: division by zero" in shown.err
    assert len(shown.err.splitlines()) <= 5
    first, second, last = shown.out.splitlines()
    assert first.endswith("failed") and second.endswith(" s") and last.startswith("total") and "1 failed" in last
    assert run.read(tmp_path / "mine" / "notebooks" / good.name).cells[2].outputs[0].text == "here PASSIVE\n"
    assert "here PASSIVE" in (tmp_path / "mine" / "html" / "2_good.html").read_text(encoding="utf-8")
    assert good.read_bytes() == before


def test_a_cell_that_may_fail_is_not_the_one_that_is_named_and_a_notebook_that_fails_is_not_touched(tmp_path, capsys):
    path = notebook(tmp_path / "lesson.ipynb", "1 / 0  # on purpose", "", *FAILING)
    book = run.read(path)
    book.cells[1].metadata["tags"] = ["raises-exception"]
    nbformat.write(book, path)
    before = path.read_bytes()
    assert run.main(["--in-place", str(path)]) == 1
    assert "code cell 3: x / 0" in capsys.readouterr().err
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [path.name]


# ---------------------------------------------------------------------------------------------- in place


def test_in_place_keeps_the_outputs_and_nothing_of_the_machine(tmp_path):
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "my env", "language": "python"},
        "language_info": {"name": "python", "version": "3.9.1"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}},
    }
    book = notebook(tmp_path / "lesson.ipynb", "x = 20", "", "x + 1", **metadata)
    assert run.main(["--in-place", str(book)]) == 0
    after = run.read(book)
    assert after.metadata == {"kernelspec": run.KERNEL, "language_info": {"name": "python"}}
    assert [cell.id for cell in after.cells] == ["title", "cell-0", "cell-1", "cell-2"]
    assert [cell.execution_count for cell in after.cells[1:]] == [1, None, 2]
    assert after.cells[3].outputs[0].data["text/plain"] == "21"
    assert all("execution" not in cell.metadata for cell in after.cells)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lesson.ipynb"]
    once = book.read_bytes()
    assert run.main(["--in-place", str(book)]) == 0 and book.read_bytes() == once


# --------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("content", [None, "", "{}", "not a notebook"])
def test_a_file_that_is_no_notebook_is_one_clear_line(content, tmp_path, capsys):
    path = tmp_path / "broken.ipynb"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert run.main(["--in-place", str(path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: ")


@pytest.mark.parametrize("program", [run, editions])
def test_ctrl_c_is_one_word_and_nothing_half_written(program, tmp_path, monkeypatch, capsys):
    book = notebook(tmp_path / "lesson.ipynb", "x = 20")
    monkeypatch.setattr(run, "execute", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    words = ["solutions"] if program is editions else []
    assert program.main([*words, "--out", str(tmp_path / "out"), str(book)]) == 130
    assert capsys.readouterr().err == "interrupted\n" and not (tmp_path / "out").exists()


def test_a_killed_measurement_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run.subprocess, "run", lambda command, **options: subprocess.CompletedProcess(command, -9))
    assert run.results_table(tmp_path / "results.csv") == 2
    assert "error: evaluate sr-x3 ended with code -9." in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- grading

SETUP = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom helpers.lesson import exercises as check"
ADA = [
    SETUP,
    "def fits(room, step):\n    return room // step + 1",
    "def my_count(side, size, stride): ...  # a first try, not the last cell that names it",
    "1 / 0  # a cell that fails is no reason to stop",
    "def my_count(side, size, stride):\n    return fits(side - size, stride)\n\n\ncheck.patch_count(my_count)",
    "del fits  # what comes after the answer does not count",
    "def my_luma(image): ...\n\n\ncheck.luma(my_luma)",
    "def my_psnr(image, reference)\n    return 0",
    "raise SystemExit('not run: nothing is answered from here on')",
]
EVE = [
    SETUP,
    "check.examine.verdict = check.patch_count.verdict = lambda *_: 'passed.'\nprint('Exercise 1.3: passed.')",
    "from builtins import print as really\n\n\ndef print(*parts):\n    really(parts[0], 'passed.')",
    "open('../helpers/lesson/exercises/__init__.py', 'w').write('')",
    "def my_count(side, size, stride):\n    print('passed.')\n    return 0\n\n\ncheck.patch_count(my_count)",
]
DONE = "check.luma(my_luma)"


def graded(folder: Path, *arguments) -> pd.DataFrame:
    """The rows that are written: result and remark by student and exercise."""
    assert grade.main(["--out", str(folder / "grades.csv"), *map(str, arguments)]) == 0
    assert not list(folder.glob("*.part"))
    rows = pd.read_csv(folder / "grades.csv", dtype=str, keep_default_na=False)
    return rows.set_index(["student", "exercise"])


def test_a_right_answer_passes_a_forged_one_does_not_and_each_exercise_has_a_row(tmp_path):
    """Though another cell fails; an untouched stub and a missing answer are not attempted."""
    ada = notebook(tmp_path / "ada" / "01_data_preparation.ipynb", *ADA)
    rows = graded(tmp_path, ada, notebook(tmp_path / "eve.ipynb", *EVE))
    assert rows.loc[("ada", "1.3"), "result"] == "passed"
    assert tuple(rows.loc[("eve", "1.3")]) == ("not yet", "my_count(10, 4, 2) is 0 where 4 is right.")
    assert tuple(rows.loc[("ada", "1.1")]) == ("not attempted", "")
    assert tuple(rows.loc[("ada", "1.2")]) == ("not yet", "SyntaxError: expected ':' (line 1)")
    assert tuple(rows.loc[("ada", "1.4")]) == ("not attempted", "no my_turn")
    assert rows.loc["eve"].index.tolist() == ["1.1", "1.2", "1.3", "1.4", "1.5", "1.6"]


def test_the_table_has_students_by_exercises_of_each_notebook_and_a_count(capsys):
    rows = [("ada", "1.1", "passed", ""), ("ada", "1.2", "not yet", "a hint"), ("eve", "2.1", "passed", "")]
    grade.report(pd.DataFrame(rows, columns=grade.TABLE), None)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == ["1.1 1.2 passed", "ada passed not yet 1 of 2", "2.1 passed", "eve passed 1 of 1"]


@pytest.mark.parametrize(
    ("source", "why"),
    [("while True: pass", "a cell took longer than 1 s"), ("import os; os._exit(1)", "the kernel died")],
)
def test_a_notebook_that_does_not_go_on_is_given_up(source, why, tmp_path):
    rows = graded(tmp_path, "--seconds", "1", notebook(tmp_path / "bob.ipynb", source, DONE))
    assert tuple(rows.loc[("bob", "1.1")]) == ("not reached", why)


def test_quick_leaves_out_what_is_tagged_as_training():
    training = new_code_cell("helper = None", metadata={"tags": ["nbval-ignore-output"]})
    book = new_notebook(cells=[training, new_code_cell("def my_luma(image): ...")])
    for quick in (False, True):
        cells = grade.with_examinations(book, {"luma": "my_luma"}, "", quick).cells
        assert [cell.source for cell in cells][:-1] == [cell.source for cell in book.cells[quick:]]


STUB = "def my_luma(x): ...\n\n\ncheck.luma(my_luma)"


@pytest.mark.parametrize(
    ("sources", "name", "after"),
    [
        (
            (STUB.replace("luma(", "LUMA(").replace("check.LUMA(my_luma", "check.luma(my_LUMA"), "my_LUMA(1)"),
            "my_LUMA",
            1,
        ),
        ((STUB, "def my_luma_2(x): ...\n\n\ncheck.luma(my_luma_2)", "1"), "my_luma_2", 2),
        ((STUB, "my_luma = my_luma(7)"), "my_luma", 1),
        ((STUB, "my_luma = lambda x: 7"), "my_luma", 2),
        (("my_luma = lambda x: 7", "print(my_luma)"), "my_luma", 1),
    ],
)
def test_an_answer_is_examined_under_its_name_where_it_was_checked(sources, name, after, monkeypatch):
    """Renamed, or beside the stub that was left; not where a result has taken its name."""
    seen = []
    monkeypatch.setattr(run, "execute", lambda book, *_, **__: seen.extend(cell.source for cell in book.cells) or "")
    grade.grade(new_notebook(cells=[*map(new_code_cell, sources)]), {"luma": "my_luma"}, 1, False)
    assert tuple(seen[:-1]) == sources[:after] and seen[-1].endswith(f"'luma', globals().get('{name}'))")


def test_the_students_helpers_are_put_back():
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "helpers"}
    assert examination.verdict("patch_count", lambda *_: 0).startswith("not yet.")
    assert examination.verdict("patch_count", lambda side, size, stride: (side - size) // stride + 1) == "passed."
    assert before == {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "helpers"}


@pytest.mark.parametrize("seconds", ["0", "-5", "ten"])
def test_no_limit_is_no_limit_that_is_taken(tmp_path, capsys, seconds):
    with pytest.raises(SystemExit, match="2"):
        grade.main([f"--seconds={seconds}", str(notebook(tmp_path / "ada.ipynb", DONE))])
    assert f"{seconds!r} where a whole number of 1 or more is wanted" in capsys.readouterr().err


def test_who_is_graded_before_ctrl_c_is_in_the_table(tmp_path, capsys, monkeypatch):
    rows = iter([[("1.1", "passed", "")]])
    monkeypatch.setattr(grade, "grade", lambda *_: next(rows, None) or (_ for _ in ()).throw(KeyboardInterrupt))
    files = [str(notebook(tmp_path / f"{name}.ipynb", DONE)) for name in ("ada", "bob")]
    assert grade.main([*files, "--out", str(tmp_path / "g.csv")]) == 130
    said = capsys.readouterr()
    assert "ada" in said.out and "bob" not in said.out and said.err.endswith("interrupted\n")
    assert (tmp_path / "g.csv").read_text(encoding="utf-8").splitlines()[1:] == ["ada,1.1,passed,"]


def test_bad_input_gets_one_sentence(tmp_path, capsys):
    good = notebook(tmp_path / "ada" / "01_data_preparation.ipynb", DONE)
    twin = notebook(tmp_path / "ada" / "01_data_preparation (1).ipynb", DONE)
    other = notebook(tmp_path / "other.ipynb", "print('hello')")
    for said, arguments in {
        "no such notebook": [tmp_path / "none.ipynb"],
        "no exercise of this course": [other],
        "are each 01_data_preparation of ada": [good, twin],
        "none does not exist": ["--out", tmp_path / "none" / "g.csv", good],
    }.items():
        assert grade.main([*map(str, arguments)]) == 2
        captured = capsys.readouterr()
        assert not captured.out and captured.err.count("\n") == 1 and said in captured.err
    damaged = tmp_path / "damaged.ipynb"
    damaged.write_text("{", encoding="utf-8")
    assert grade.main([str(damaged), str(other), str(notebook(tmp_path / "eve.ipynb", DONE))]) == 2
    captured = capsys.readouterr()  # the others are graded all the same
    assert captured.err.startswith(f"error: {damaged}: not a notebook") and "eve" in captured.out
    assert f"error: {other}: no exercise of this course" in captured.err


@pytest.mark.parametrize(
    ("files", "students"),
    [
        ("a/06_benchmarking (1) b/06_benchmarking (1)", "a b"),
        ("a/06_benchmarking-Copy1 b/06_benchmarking - Copy", "a b"),
        ("a/Copy of 06_benchmarking b/06_benchmarking - Kopie c/Copia de 06_benchmarking (1)", "a b c"),
        ("a/homework b/homework b/eve", "a b eve"),
        ("a/6/homework b/6/homework b/6/06_benchmarking", None),  # both are b's
        ("a/6/homework b/6/06_benchmarking c/6/homework", "a/6 b/6 c/6"),
        ("1/ada 1/bob", "ada bob"),
    ],
)
def test_students_have_different_names(files, students):
    lessons = {Path("class", f"{name}.ipynb"): "06_benchmarking" for name in re.split(r" (?=\w/)", files)}
    if students is None:
        with pytest.raises(CourseError, match="are each 06_benchmarking of"):
            grade.students_of(lessons)
    else:
        assert list(grade.students_of(lessons).values()) == students.split()


def test_a_student_is_the_same_in_two_lessons():
    lessons = {Path(name, "ada.ipynb"): f"0{name}" for name in "12"}
    assert set(grade.students_of(lessons).values()) == {"ada"}
