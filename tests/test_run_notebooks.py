"""The script behind `make course` and `make notebooks`, on notebooks of three cells."""

import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from notebooks import editions, run

FAILING = ["x = 1", "x / 0", "print('never')"]


def notebook(path: Path, *sources: str, **metadata) -> Path:
    """A notebook as an author would leave it: a kernel of another name, stale counts, somebody's widget state."""
    cells = [new_markdown_cell("# Title", id="title")]
    cells += [new_code_cell(text, id=f"cell-{i}", execution_count=40 + i) for i, text in enumerate(sources)]
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def stored(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


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
    assert stored(tmp_path / "mine" / "notebooks" / good.name).cells[2].outputs[0].text == "here PASSIVE\n"
    assert "here PASSIVE" in (tmp_path / "mine" / "html" / "2_good.html").read_text(encoding="utf-8")
    assert good.read_bytes() == before


def test_a_cell_that_may_fail_is_not_the_one_that_is_named_and_a_notebook_that_fails_is_not_touched(tmp_path, capsys):
    path = notebook(tmp_path / "lesson.ipynb", "1 / 0  # on purpose", "", *FAILING)
    book = stored(path)
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
    after = stored(book)
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
