"""No common misspelling in what people read: notebooks, documents, and the words of the code."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = "gool,markey,reconnet,theis,whats"  # four of the literature, and a variable
FOLDERS = ("helpers", "docs", "tests", "notebooks", "data/quizzes")
TEXTS = [path for folder in (*FOLDERS, ".", "data") for path in sorted((ROOT / folder).glob("*.md"))]
TEXTS += [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
NOTEBOOKS = [*sorted((ROOT / "notebooks").glob("*.ipynb")), ROOT / "docs" / "template.ipynb"]


def misspelt(*paths: Path) -> str:
    """What codespell finds in files: a line for each, with the place and the right word."""
    command = [sys.executable, "-m", "codespell_lib", "--ignore-words-list", NAMES, *map(str, paths)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert not found.stderr, found.stderr
    return found.stdout


def words(notebook: Path, folder: Path) -> Path:
    """The sources of a notebook's cells as a text: what codespell would find in a picture's base64 is no word."""
    cells = nbformat.read(notebook, as_version=4).cells
    path = folder / f"{notebook.stem}.txt"
    path.write_text("\n\n".join(cell.source for cell in cells), encoding="utf-8")
    return path


def test_texts_and_code_have_no_common_misspelling():
    assert len(TEXTS) > 60
    assert not (found := misspelt(*TEXTS)), found


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_common_misspelling(notebook, tmp_path):
    assert not (found := misspelt(words(notebook, tmp_path))), found


def test_a_misspelling_is_found(tmp_path):
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("One does not receive it.".replace("ei", "ie"))]
    )
    nbformat.write(book, tmp_path / "book.ipynb")
    assert "receive" in misspelt(words(tmp_path / "book.ipynb", tmp_path))
