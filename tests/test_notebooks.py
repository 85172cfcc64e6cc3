"""Every notebook keeps the rules of `notebook_lint`, and every rule notices a notebook that breaks it."""

from pathlib import Path

import notebook_lint as lint
import pytest
from nbformat import NotebookNode, v4

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = [*sorted((ROOT / "notebooks").glob("*.ipynb")), ROOT / "docs" / "template.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_keeps_the_rule(path):
    """The first one's setup cell is the measure for the others."""
    assert lint.problems(path, lint.setup_of(lint.load(NOTEBOOKS[0]))) == {}


# ------------------------------------------------------------------------------- each rule can say no

SETUP = "import sys"


def sound() -> NotebookNode:
    """A small notebook without fault: a title, setup, a picture, an exercise, its hint and its solution."""
    about = {"image/png": {"alt": "A gray square."}}
    picture = v4.new_output("display_data", data={"image/png": "iVBORw0KGgo="}, metadata=about)
    folded = {"tags": ["hide-input"], "jupyter": {"source_hidden": True}}
    cells = [
        v4.new_markdown_cell("# Title\n\n![a badge](badge.svg)"),
        v4.new_code_cell(SETUP, outputs=[printed("ready")]),
        v4.new_code_cell("show(x[..., 0])", outputs=[picture]),
        v4.new_code_cell("def my_sum(a): ...\n\n\ncheck.sum(my_sum)", outputs=[printed("not attempted yet")]),
        v4.new_markdown_cell("<details><summary>Hint</summary>Add.</details>"),
        v4.new_code_cell("# @title Solution\ncheck.sum(sum)", metadata=folded, outputs=[printed("1: passed.")]),
        v4.new_code_cell(""),
    ]
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for count, cell in enumerate(lint.code(notebook), start=1):
        cell.execution_count = count
    return notebook


def printed(text: str) -> NotebookNode:
    return v4.new_output("stream", name="stdout", text=text + "\n")


TITLE, FIRST, PICTURE, STUB, HINT, SOLUTION, EMPTY = range(7)  # the cells of `sound`


def says(text):
    return lambda nb: nb.cells[FIRST].outputs.append(printed(text))


def shows(kind, data):
    return lambda nb: nb.cells[FIRST].outputs.append(v4.new_output("display_data", data={kind: data}))


def source(index, text):
    return lambda nb: nb.cells[index].update(source=text)


def tagged(tag):
    return lambda nb: nb.cells[FIRST].metadata.update(tags=[tag])


CHANGED = [
    ("valid", lambda nb: nb.cells[TITLE].update(colour="red")),
    ("valid", lambda nb: nb.cells[FIRST].outputs[0].pop("name")),
    ("valid", lambda nb: nb.update(nbformat_minor=4) or [cell.pop("id") for cell in nb.cells]),
    ("kernelspec", lambda nb: nb.metadata.pop("kernelspec")),
    ("kernelspec", lambda nb: nb.metadata.kernelspec.update(name="course")),
    ("metadata", lambda nb: nb.metadata.update(widgets={})),
    ("metadata", lambda nb: nb.cells[FIRST].metadata.update(execution={})),
    ("ids", lambda nb: nb.cells[HINT].update(id=nb.cells[TITLE].id)),
    ("executed", lambda nb: nb.cells[FIRST].update(execution_count=None)),
    ("executed", lambda nb: nb.cells[STUB].update(execution_count=2)),
    ("tags", tagged("nbval-ignore-ouput")),
    ("errors", lambda nb: nb.cells[FIRST].outputs.append(v4.new_output("error", ename="E", evalue="", traceback=[]))),
    ("alt", lambda nb: nb.cells[PICTURE].outputs[0].update(metadata={})),
    ("alt", lambda nb: nb.cells[PICTURE].outputs[0].metadata["image/png"].update(alt=" ")),
    ("alt", shows("image/svg+xml", "<svg/>")),
    ("clean", shows("text/html", "<b>/home/ada/x</b>")),
    ("solutions", lambda nb: nb.cells.pop(SOLUTION)),
    ("solutions", lambda nb: nb.cells[SOLUTION].update(metadata={})),
    ("solutions", lambda nb: nb.cells[SOLUTION].update(outputs=[printed("not yet")])),
    ("size", shows("text/plain", "A" * lint.MOST_BYTES)),
]
UNCLEAN = ["at /home/ada/x.png", "/root/.cache", "in '/tmp/x'", "/work/course", "/Users/ada", r"C:\Users\ada"]
UNCLEAN += ["UserWarning: slow", "Traceback (most recent call last):"]
SOURCES = [
    ("alt", TITLE, "# Title\n\n![](badge.svg)"),
    ("alt", TITLE, '# Title\n\n<img src="badge.svg">'),
    ("alt", TITLE, '# Title\n\n<img src="badge.svg" alt="">'),
    ("headings", TITLE, "![a badge](badge.svg)"),
    ("headings", TITLE, "## Section\n\n# Title"),
    ("headings", HINT, "# Another"),
    ("headings", HINT, "### Too deep"),
    ("headings", TITLE, "# Title\n\n## Section\n\n#### Too deep"),
    ("short", PICTURE, "\n".join(["x = 1"] * 26)),
    ("narrow", PICTURE, "x = 1  # " + 80 * "-"),
    ("brief", HINT, 111 * "word "),
    ("semicolons", PICTURE, "show(x);  \nshow(y)"),
    ("solutions", SOLUTION, "x = 1"),
    ("setup", FIRST, "import os"),
    ("setup", FIRST, "\n\n".join(["import sys"] * 8)),
]
BROKEN = [*CHANGED, *(("clean", says(text)) for text in UNCLEAN)]
BROKEN += [(rule, source(index, text)) for rule, index, text in SOURCES]


def problems(change, folder: Path) -> dict[str, list[str]]:
    """What the lint finds in a sound notebook that was changed, written as it is: nbformat would mend some of that."""
    notebook, path = sound(), folder / "changed.ipynb"
    change(notebook)
    path.write_text(v4.writes(notebook), encoding="utf-8")
    return lint.problems(path, SETUP)


@pytest.mark.parametrize(("rule", "change"), BROKEN, ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(BROKEN)])
def test_a_rule_notices(rule, change, tmp_path):
    assert set(problems(change, tmp_path)) == {rule}


HARMLESS = [
    lambda nb: None,
    source(HINT, "## Section\n\n### Part\n\n## Section"),
    source(HINT, "```sh\n# a comment\n```"),
    source(HINT, "#1 is no heading"),
    source(PICTURE, "x = 1  # " + 79 * "-"),
    source(HINT, 110 * "word "),
    lambda nb: nb.cells[PICTURE].outputs[0].data.update({"image/png": "AA/tmp/Warning"}),
    *map(tagged, sorted(lint.TAGS)),
    *map(says, ("https://example.org/home/x", "data/tmp/x", "25 pixels/work/day", "Warnings: no")),
]


@pytest.mark.parametrize("change", HARMLESS)
def test_what_is_harmless_passes(change, tmp_path):
    assert problems(change, tmp_path) == {}
