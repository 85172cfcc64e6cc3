"""What every notebook of the course must be like, read from its file without running it.

A notebook is read by people, on GitHub and with screen readers, and compared by nbval with what it stored. nbval says
nothing about a cell that was never run or about a misspelt tag, so these rules do. `problems` is the way in.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat.validator import iter_validate

from notebooks.editions import is_solution
from notebooks.run import Notebook, code

TAGS = {
    *("nbval-ignore-output", "nbval-skip", "nbval-raises-exception"),
    *("raises-exception", "hide-input", "changes-when-repeated", "shows-solution"),
}
MOST_LINES = 25
MOST_COLUMNS = 88  # what a page shows without a scroll bar; notebooks/ruff.toml formats to it
MOST_WORDS = 110
MOST_SETUP_LINES = 8  # what a learner has to scroll past before the first lesson
MOST_BYTES = 2_000_000
UNWANTED = {
    "a machine path": re.compile(r"(?<![\w.])/(home|root|tmp|work|Users)/|\b[A-Z]:\\+Users\\"),
    "a warning": re.compile(r"\b\w*Warning\b|\bwarnings\.warn\b"),
    "a traceback": re.compile(r"Traceback \(most recent call last\)"),
}
NO_ALT = re.compile(r"!\[\s*\][(\[]|<img\b(?![^>]*\balt\s*=\s*[\"']\s*[^\"'\s])[^>]*>", re.IGNORECASE)
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)  # a `# comment` in it is no heading
HEADING = re.compile(r"^(#{1,6})[ \t]+(.*)$", re.MULTILINE)
ELLIPSIS = re.compile(r"\.\.\.(?!\s*[,\]])")  # the stub's `...`, not the index x[..., 0]

Found = Iterator[tuple[str, str]]  # the name of a rule, and a sentence on how it is broken


def load(path: Path) -> Notebook:
    """The notebook as its file has it. (`nbformat.read` would repair some of what we look for.)"""
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))


def problems(path: Path, setup: str | None = None) -> dict[str, list[str]]:
    """What is wrong with a notebook: sentences by the name of the rule; empty where all is well.

    setup: the source that its first code cell must have, that of the other notebooks.
    """
    notebook = load(path)
    found = [*in_file(notebook, path), *in_headings(notebook), *in_exercises(notebook)]
    found += in_setup(setup_of(notebook), setup)
    for cell in notebook.cells:
        found += in_cell(cell)
        for output in cell.get("outputs", []):
            found += ((rule, f"{name_of(cell)} {why}") for rule, why in in_output(output))
    said = {}
    for rule, sentence in found:
        said.setdefault(rule, []).append(sentence)
    return said


def setup_of(notebook: Notebook) -> str:
    """The source of the first code cell."""
    return next((cell.source for cell in code(notebook)), "")


# ---------------------------------------------------------------------------------------------- parts


def name_of(cell: Notebook) -> str:
    """How to find the cell: its id, and how it begins."""
    first = (cell.source.strip().splitlines() or ["empty"])[0]
    return f"cell {cell.get('id', '?')} ({first[:40]})"


def text_of(output: Notebook) -> str:
    """All that can be read in an output; pictures and widget references are left out."""
    texts = [output.get("text", ""), *output.get("traceback", [])]
    texts += [data for kind, data in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(texts)


def is_stub(cell: Notebook) -> bool:
    """Is it an exercise that waits for the learner?"""
    return "check." in cell.source and bool(ELLIPSIS.search(cell.source)) and not is_solution(cell)


# ---------------------------------------------------------------------------------------------- rules


def in_file(notebook: Notebook, path: Path) -> Found:
    """The format, and what goes with it."""
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):  # cells have ids from then on
        yield "valid", f"nbformat {notebook.nbformat}.{notebook.nbformat_minor} is older than 4.5"
    yield from (("valid", str(why).splitlines()[0]) for why in iter_validate(notebook))
    # without it JupyterLab asks for a kernel, and nothing runs until somebody answers
    name = notebook.metadata.get("kernelspec", {}).get("name")
    if name != "python3":
        yield "kernelspec", f"the kernelspec is {name!r}, not 'python3'"
    # widget state is large and out of date
    if "widgets" in notebook.metadata:
        yield "metadata", "it holds widget state"
    # a link, a difference and a message name a cell by its id
    names = [cell.id for cell in notebook.cells if "id" in cell]
    twice = {name for name in names if names.count(name) > 1}
    yield from (("ids", f"the id {name!r} occurs {names.count(name)} times") for name in twice)
    # run once from top to bottom: nbval never compares a cell without a count
    for wanted, cell in enumerate(code(notebook), start=1):
        if cell.execution_count != wanted:
            yield "executed", f"{name_of(cell)} has execution_count {cell.execution_count}, not {wanted}"
    # GitHub shows no large notebook, and a checkout keeps every version of it
    if path.stat().st_size >= MOST_BYTES:
        yield "size", f"{path.stat().st_size:,} bytes, {MOST_BYTES:,} are too many"


def in_headings(notebook: Notebook) -> Found:
    """One title, at the top, and below it no level skipped: contents and screen readers go by them."""
    words = [FENCED.sub("", cell.source) for cell in notebook.cells if cell.cell_type == "markdown"]
    found = [(len(marks), text) for source in words for marks, text in HEADING.findall(source)]
    if [level for level, _ in found[:1]] != [1]:
        yield "headings", "it does not begin with a title, a heading of level 1"
    for (above, _), (level, text) in zip(found, found[1:], strict=False):
        if level == 1:
            yield "headings", f"{text!r} is a second title"
        elif level > above + 1:
            yield "headings", f"{text!r} has level {level} right below level {above}"


def in_exercises(notebook: Notebook) -> Found:
    """An exercise can be solved: the next code cell is its solution, folded, and was seen to pass."""
    cells = code(notebook)
    for stub, answer in zip(cells, [*cells[1:], None], strict=True):
        if not is_stub(stub):
            continue
        if answer is None or not is_solution(answer):
            yield "solutions", f"{name_of(stub)}: the next code cell is not its solution (`# @title Solution`)"
            continue
        if not answer.metadata.get("jupyter", {}).get("source_hidden"):
            yield "solutions", f"{name_of(stub)}: its solution is not folded"
        if not any("passed." in text_of(output) for output in answer.outputs):
            yield "solutions", f"{name_of(stub)}: its solution does not say 'passed.'"


def in_setup(found: str, wanted: str | None) -> Found:
    """The same few lines in all notebooks: who has understood them once never reads them again."""
    if wanted is not None and found != wanted:
        yield "setup", "the first code cell is not that of the other notebooks"
    lines = sum(bool(line.strip()) for line in found.splitlines())
    if lines > MOST_SETUP_LINES:
        yield "setup", f"the first code cell has {lines} lines, more than {MOST_SETUP_LINES}"


def in_cell(cell: Notebook) -> Found:
    """A cell that fits on the screen, and a text that is read before the next thing happens."""
    name, lines, words = name_of(cell), cell.source.splitlines(), len(cell.source.split())
    if "execution" in cell.metadata:  # makes each difference noisy
        yield "metadata", f"{name} holds times"
    # nbval passes over a misspelt tag without a word
    yield from (("tags", f"{name} has the tag {tag!r}") for tag in cell.metadata.get("tags", []) if tag not in TAGS)
    if cell.cell_type == "markdown":
        if words > MOST_WORDS:
            yield "brief", f"{name} has {words} words, more than {MOST_WORDS}"
        if NO_ALT.search(cell.source):
            yield "alt", f"{name} holds a picture without alt text"
        return
    if len(lines) > MOST_LINES:
        yield "short", f"{name} has {len(lines)} lines, more than {MOST_LINES}"
    for line in lines:
        if len(line) > MOST_COLUMNS:
            yield "narrow", f"{name} has a line of {len(line)} columns, more than {MOST_COLUMNS}: {line[:40]}"
        if line.rstrip().endswith(";"):  # it hides the output for a person, and not for nbval: false failures
            yield "semicolons", f"{name} has a line that ends in ';'; write `_ = …` instead"


def in_output(output: Notebook) -> Found:
    """Nothing of the machine that ran it, nothing that looks broken, and words for those who cannot see a picture."""
    if output.output_type == "error":
        yield "errors", f"ends in {output.ename}"
        return
    yield from (("clean", f"shows {what}") for what, sign in UNWANTED.items() if sign.search(text_of(output)))
    for kind in output.get("data", {}):
        about = output.get("metadata", {}).get(kind, {})
        if kind.startswith("image/") and not str(about.get("alt", "")).strip():
            yield "alt", "shows a picture without alt text"
