"""Every notebook keeps the rules of `notebook_lint`, and every rule notices a notebook that breaks it."""

from pathlib import Path

import nbformat
import notebook_lint as lint
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = [*sorted((ROOT / "notebooks").glob("*.ipynb")), ROOT / "docs" / "template.ipynb"]
RULES = [*lint.RULES, "size", "setup"]


@pytest.fixture(scope="module")
def found() -> dict[Path, dict[str, list[str]]]:
    """The problems of all notebooks; the first one's setup cell is the measure for the others."""
    setup = lint.setup_of(lint.load(NOTEBOOKS[0]))
    return {path: lint.problems(path, setup) for path in NOTEBOOKS}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_keeps_the_rule(path, rule, found):
    assert not found[path].get(rule), "\n".join(found[path][rule])


# ------------------------------------------------------------------------------- each rule can say no

SETUP = "import sys"


def sound() -> nbformat.NotebookNode:
    """A small notebook without fault: a title, setup, a picture, an exercise, its hint and its solution."""
    v4 = nbformat.v4
    picture = v4.new_output(
        "display_data", data={"image/png": "iVBORw0KGgo="}, metadata={"image/png": {"alt": "A gray square."}}
    )
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


def printed(text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", name="stdout", text=text + "\n")


def stored(notebook: nbformat.NotebookNode, folder: Path) -> Path:
    """Written as it is: nbformat would refuse or mend some of what the tests break."""
    path = folder / "broken.ipynb"
    path.write_text(nbformat.v4.writes(notebook), encoding="utf-8")
    return path


TITLE, FIRST, PICTURE, STUB, HINT, SOLUTION, EMPTY = range(7)  # the cells of `sound`


def says(text):
    return lambda nb: nb.cells[FIRST].outputs.append(printed(text))


def shows(kind, data):
    return lambda nb: nb.cells[FIRST].outputs.append(nbformat.v4.new_output("display_data", data={kind: data}))


def source(index, text):
    return lambda nb: nb.cells[index].update(source=text)


def tagged(tag):
    return lambda nb: nb.cells[FIRST].metadata.update(tags=[tag])


def error(nb):
    nb.cells[FIRST].outputs.append(nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=["no"]))


BROKEN = {
    "a key that the format does not know": ("valid", lambda nb: nb.cells[TITLE].update(colour="red")),
    "an output without its name": ("valid", lambda nb: nb.cells[FIRST].outputs[0].pop("name")),
    "an old format": ("valid", lambda nb: nb.update(nbformat_minor=4) or [cell.pop("id") for cell in nb.cells]),
    "no kernelspec": ("kernelspec", lambda nb: nb.metadata.pop("kernelspec")),
    "another kernel": ("kernelspec", lambda nb: nb.metadata.kernelspec.update(name="course")),
    "widget state": ("metadata", lambda nb: nb.metadata.update(widgets={})),
    "times of execution": ("metadata", lambda nb: nb.cells[FIRST].metadata.update(execution={})),
    "an id twice": ("ids", lambda nb: nb.cells[HINT].update(id=nb.cells[TITLE].id)),
    "outputs stripped": ("executed", lambda nb: nb.cells[FIRST].update(execution_count=None)),
    "a cell run again": ("executed", lambda nb: nb.cells[SOLUTION].update(execution_count=9)),
    "two cells run in the wrong order": ("executed", lambda nb: nb.cells[STUB].update(execution_count=2)),
    "a misspelt tag": ("tags", tagged("nbval-ignore-ouput")),
    "a tag of another tool": ("tags", tagged("remove-cell")),
    "an error": ("errors", error),
    "a home folder": ("clean", says("saved to /home/ada/course/x.png")),
    "the administrator's home folder": ("clean", says("/root/.cache/x")),
    "a temporary folder": ("clean", says("in '/tmp/abc/x.png'")),
    "a working folder": ("clean", says("/work/course")),
    "a home folder on a Mac": ("clean", says("/Users/ada/course")),
    "a home folder on Windows": ("clean", says(r"C:\Users\ada")),
    "a path in HTML": ("clean", shows("text/html", "<b>/home/ada/x</b>")),
    "a warning": ("clean", says("UserWarning: slow")),
    "a traceback": ("clean", says("Traceback (most recent call last):")),
    "a picture without alt text": ("alt", lambda nb: nb.cells[PICTURE].outputs[0].update(metadata={})),
    "a picture with blank alt text": (
        "alt",
        lambda nb: nb.cells[PICTURE].outputs[0].metadata["image/png"].update(alt=" "),
    ),
    "a drawing without alt text": ("alt", shows("image/svg+xml", "<svg/>")),
    "a Markdown picture without alt text": ("alt", source(TITLE, "# Title\n\n![](badge.svg)")),
    "an HTML picture without alt text": ("alt", source(TITLE, '# Title\n\n<img src="badge.svg">')),
    "an HTML picture with empty alt text": ("alt", source(TITLE, '# Title\n\n<img src="badge.svg" alt="">')),
    "no title": ("headings", source(TITLE, "![a badge](badge.svg)")),
    "a section before the title": ("headings", source(TITLE, "## Section\n\n# Title")),
    "a second title": ("headings", source(HINT, "# Another")),
    "a level skipped": ("headings", source(HINT, "### Too deep")),
    "a level skipped in one cell": ("headings", source(TITLE, "# Title\n\n## Section\n\n#### Too deep")),
    "a long cell": ("short", source(PICTURE, "\n".join(["x = 1"] * 26))),
    "a long line": ("narrow", source(PICTURE, "x = 1  # " + 80 * "-")),
    "a long text": ("brief", source(HINT, 111 * "word ")),
    "a semicolon at the end": ("semicolons", source(PICTURE, "show(x);")),
    "a semicolon within": ("semicolons", source(PICTURE, "show(x);  \nshow(y)")),
    "a stub without solution": ("solutions", lambda nb: nb.cells.pop(SOLUTION)),
    "another cell before the solution": ("solutions", source(SOLUTION, "x = 1")),
    "an open solution": ("solutions", lambda nb: nb.cells[SOLUTION].metadata.jupyter.update(source_hidden=False)),
    "a solution without metadata": ("solutions", lambda nb: nb.cells[SOLUTION].update(metadata={})),
    "a solution that fails": ("solutions", lambda nb: nb.cells[SOLUTION].update(outputs=[printed("not yet")])),
    "another setup": ("setup", source(FIRST, "import os")),
    "a long setup": ("setup", source(FIRST, "\n\n".join(["import sys"] * 8))),
    "a large file": ("size", shows("image/png", "A" * lint.MOST_BYTES)),
}


def test_a_sound_notebook_has_no_problems(tmp_path):
    assert NOTEBOOKS and lint.problems(stored(sound(), tmp_path), SETUP) == {}


@pytest.mark.parametrize(("rule", "change"), BROKEN.values(), ids=BROKEN)
def test_a_rule_notices(rule, change, tmp_path):
    notebook = sound()
    change(notebook)
    found = lint.problems(stored(notebook, tmp_path), SETUP)
    also = {"alt"} if rule == "size" else set()  # the large picture has no alt text either
    assert set(found) - also == {rule}, found


def test_every_rule_is_broken_once():
    assert {rule for rule, _ in BROKEN.values()} == set(RULES)


HARMLESS = {
    "sections": source(HINT, "## Section\n\n### Part\n\n## Section"),
    "a comment": source(HINT, "```sh\n# a comment\n```"),
    "a number": source(HINT, "#1 is no heading"),
    "a line at the limit": source(PICTURE, "x = 1  # " + 79 * "-"),
    "a shell line": source(PICTURE, "!" + 88 * "x"),
    "a text at the limit": source(HINT, 110 * "word "),
    "a picture that holds a path": lambda nb: nb.cells[PICTURE].outputs[0].data.update({"image/png": "AA/tmp/Warning"}),
    **{tag: tagged(tag) for tag in sorted(lint.TAGS)},
    **{text: says(text) for text in ("https://example.org/home/x", "data/tmp/x", "25 pixels/work/day", "Warnings: no")},
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_is_harmless_passes(change, tmp_path):
    notebook = sound()
    change(notebook)
    assert lint.problems(stored(notebook, tmp_path), SETUP) == {}
