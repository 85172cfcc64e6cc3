"""The script behind `make course` and `make notebooks`, on notebooks of three cells."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from notebooks import run

FAILING = ["x = 1", "x / 0", "print('never')"]


def notebook(path: Path, *sources: str, **metadata) -> Path:
    """A notebook as an author would leave it: a kernel of another name, stale counts, somebody's widget state."""
    cells = [new_markdown_cell("# Title", id="title")]
    cells += [new_code_cell(text, id=f"cell-{i}", execution_count=40 + i) for i, text in enumerate(sources)]
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def stored(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def counts(path: Path) -> list[int | None]:
    return [cell.execution_count for cell in stored(path).cells if cell.cell_type == "code"]


# --------------------------------------------------------------------------------------- executed copies


def test_a_copy_and_a_page_are_written_and_the_notebook_is_left_alone(tmp_path, capsys):
    book = notebook(tmp_path / "lesson.ipynb", "x = 20", "print(x + 1)")
    before = book.read_bytes()
    assert run.main(["--out", str(tmp_path / "build"), str(book)]) == 0
    copy = stored(tmp_path / "build" / "notebooks" / "lesson.ipynb")
    assert copy.cells[2].outputs[0].text == "21\n"
    assert "21" in (tmp_path / "build" / "html" / "lesson.html").read_text(encoding="utf-8")
    assert book.read_bytes() == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("lesson") and lines[0].endswith(" s")
    assert lines[-1].startswith("total")


def test_the_notebook_runs_in_its_own_folder_with_passive_threads(tmp_path):
    (tmp_path / "note.txt").write_text("here", encoding="utf-8")
    cells = ["import os", "print(open('note.txt').read(), os.environ['OMP_WAIT_POLICY'])"]
    book = notebook(tmp_path / "lesson.ipynb", *cells)
    assert run.main(["--out", str(tmp_path / "build"), str(book)]) == 0
    copy = stored(tmp_path / "build" / "notebooks" / "lesson.ipynb")
    assert copy.cells[2].outputs[0].text == "here PASSIVE\n"


def test_a_failing_cell_is_named_and_the_next_notebook_still_runs(tmp_path, capsys):
    bad = notebook(tmp_path / "1_bad.ipynb", *FAILING)
    good = notebook(tmp_path / "2_good.ipynb", "print('good')")
    assert run.main(["--out", str(tmp_path / "build"), str(bad), str(good)]) == 1
    shown = capsys.readouterr()
    assert "code cell 2: x / 0" in shown.err and "ZeroDivisionError: division by zero" in shown.err
    assert len(shown.err.splitlines()) <= 5
    assert "failed" in shown.out.splitlines()[0] and "1 failed" in shown.out.splitlines()[-1]
    assert counts(tmp_path / "build" / "notebooks" / "2_good.ipynb") == [1]


def test_a_cell_that_may_fail_is_not_the_one_that_is_named(tmp_path, capsys):
    path = notebook(tmp_path / "lesson.ipynb", "1 / 0  # on purpose", "", *FAILING)
    book = stored(path)
    book.cells[1].metadata["tags"] = ["raises-exception"]
    nbformat.write(book, path)
    assert run.main(["--in-place", str(path)]) == 1
    assert "code cell 3: x / 0" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- in place


def test_in_place_keeps_the_outputs_and_nothing_of_the_machine(tmp_path):
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "my env", "language": "python"},
        "language_info": {"name": "python", "version": "3.9.1"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}},
    }
    book = notebook(tmp_path / "lesson.ipynb", "x = 20", "", "x + 1", **metadata)
    assert run.main(["--in-place", str(book)]) == 0
    after = stored(book)
    assert after.metadata == {"kernelspec": run.KERNEL, "language_info": {"name": "python"}}
    assert [cell.id for cell in after.cells] == ["title", "cell-0", "cell-1", "cell-2"]
    assert counts(book) == [1, None, 2]
    assert after.cells[3].outputs[0].data["text/plain"] == "21"
    assert all("execution" not in cell.metadata for cell in after.cells)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lesson.ipynb"]


def test_running_twice_gives_the_same_bytes(tmp_path):
    book = notebook(tmp_path / "lesson.ipynb", "for i in range(3):\n    print(i, flush=True)", "{1: 'a'}")
    run.main(["--in-place", str(book)])
    once = book.read_bytes()
    run.main(["--in-place", str(book)])
    assert book.read_bytes() == once


def test_a_notebook_that_fails_is_not_touched(tmp_path, capsys):
    book = notebook(tmp_path / "lesson.ipynb", *FAILING)
    before = book.read_bytes()
    assert run.main(["--in-place", str(book)]) == 1
    assert book.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lesson.ipynb"]


# --------------------------------------------------------------------------------------------- bad input


def test_a_missing_notebook_is_one_clear_line(tmp_path, capsys):
    assert run.main([str(tmp_path / "none.ipynb")]) == 2
    error = capsys.readouterr().err
    assert "none.ipynb" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("content", ["", "{", "{}", "not a notebook"])
def test_a_file_that_is_no_notebook_is_one_clear_line(content, tmp_path, capsys):
    path = tmp_path / "broken.ipynb"
    path.write_text(content, encoding="utf-8")
    assert run.main(["--in-place", str(path)]) in (1, 2)
    error = capsys.readouterr().err
    assert "broken.ipynb" in error and len(error.splitlines()) == 1
    assert path.read_text(encoding="utf-8") == content


def test_it_can_be_called_from_any_folder(tmp_path):
    """A relative --out is the caller's, wherever the script lies."""
    notebook(tmp_path / "lesson.ipynb", "1")
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, run.__file__, "--out", "mine", "lesson.ipynb"]
    assert subprocess.run(command, cwd=tmp_path, env=environment).returncode == 0
    assert (tmp_path / "mine" / "html" / "lesson.html").is_file()


def test_the_results_table_goes_to_the_callers_folder(tmp_path, monkeypatch):
    """The measuring runs in the course's folder, so the path that it is given must be absolute."""
    calls = []

    def record(command, **options):
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run.subprocess, "run", record)
    assert run.results_table(Path("mine") / "results.csv") == 0
    targets = [Path(command[command.index("--out") + 1]) for command in calls]
    assert targets and all(target.is_absolute() and target.parent == tmp_path / "mine" for target in targets)


def test_a_killed_measurement_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run.subprocess, "run", lambda command, **options: subprocess.CompletedProcess(command, -9))
    assert run.results_table(tmp_path / "results.csv") == 2
    assert "error: evaluate sr-x3 ended with code -9." in capsys.readouterr().err
