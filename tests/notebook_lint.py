"""What every notebook of the course must be like, read from its file without running it.

A notebook is read by people, on GitHub and with screen readers, and compared by nbval with what it stored. nbval says
nothing about a cell that was never run or about a misspelt tag, so these rules do. `problems` is the way in.
"""

import re
from collections.abc import Callable, Iterator
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
MOST_SETUP_LINES = 7  # what a learner has to scroll past before the first lesson
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

Rule = Callable[[Notebook], Iterator[str]]


def load(path: Path) -> Notebook:
    """The notebook as its file has it. (`nbformat.read` would repair some of what we look for.)"""
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))


def problems(path: Path, setup: str | None = None) -> dict[str, list[str]]:
    """What is wrong with a notebook: sentences by the name of the rule; empty where all is well.

    setup: the source that its first code cell must have, that of the other notebooks.
    """
    notebook = load(path)
    found = {name: list(rule(notebook)) for name, rule in RULES.items()}
    found["size"] = list(size(path))
    found["setup"] = list(setup_cell(notebook, setup))
    return {name: sentences for name, sentences in found.items() if sentences}


def setup_of(notebook: Notebook) -> str:
    """The source of the first code cell."""
    return next((cell.source for cell in code(notebook)), "")


# ---------------------------------------------------------------------------------------------- parts


def outputs(notebook: Notebook) -> Iterator[tuple[str, Notebook]]:
    """(name of the cell, output) for every output."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            yield name_of(cell), output


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


def valid(notebook: Notebook) -> Iterator[str]:
    """nbformat's schema, 4.5 or later (cells have ids)."""
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        yield f"nbformat {notebook.nbformat}.{notebook.nbformat_minor} is older than 4.5"
    yield from (str(why).splitlines()[0] for why in iter_validate(notebook))


def kernelspec(notebook: Notebook) -> Iterator[str]:
    """Without it JupyterLab asks for a kernel, and nothing runs until somebody answers."""
    name = notebook.metadata.get("kernelspec", {}).get("name")
    if name != "python3":
        yield f"the kernelspec is {name!r}, not 'python3'"


def metadata(notebook: Notebook) -> Iterator[str]:
    """Widget state is large and out of date; times of execution make each difference noisy."""
    if "widgets" in notebook.metadata:
        yield "it holds widget state"
    yield from (f"{name_of(cell)} holds times" for cell in notebook.cells if "execution" in cell.metadata)


def ids(notebook: Notebook) -> Iterator[str]:
    """A link, a difference and a message name a cell by its id."""
    names = [cell.id for cell in notebook.cells if "id" in cell]
    yield from (f"the id {name!r} occurs {names.count(name)} times" for name in set(names) if names.count(name) > 1)


def executed(notebook: Notebook) -> Iterator[str]:
    """Run once from top to bottom: nbval never compares a cell without a count."""
    for wanted, cell in enumerate(code(notebook), start=1):
        if cell.execution_count != wanted:
            yield f"{name_of(cell)} has execution_count {cell.execution_count}, not {wanted}"


def tags(notebook: Notebook) -> Iterator[str]:
    """nbval passes over a misspelt tag without a word."""
    for cell in notebook.cells:
        yield from (f"{name_of(cell)} has the tag {tag!r}" for tag in cell.metadata.get("tags", []) if tag not in TAGS)


def errors(notebook: Notebook) -> Iterator[str]:
    """A learner who reads on GitHub should see no red box."""
    for name, output in outputs(notebook):
        if output.output_type == "error":
            yield f"{name} ends in {output.ename}"


def clean(notebook: Notebook) -> Iterator[str]:
    """Nothing of the machine that ran it, and nothing that looks broken."""
    for name, output in outputs(notebook):
        if output.output_type != "error":
            yield from (f"{name} shows {what}" for what, sign in UNWANTED.items() if sign.search(text_of(output)))


def alt(notebook: Notebook) -> Iterator[str]:
    """Every picture has words for those who cannot see it."""
    for name, output in outputs(notebook):
        for kind in output.get("data", {}):
            about = output.get("metadata", {}).get(kind, {})
            if kind.startswith("image/") and not str(about.get("alt", "")).strip():
                yield f"{name} shows a picture without alt text"
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and NO_ALT.search(cell.source):
            yield f"{name_of(cell)} holds a picture without alt text"


def headings(notebook: Notebook) -> Iterator[str]:
    """One title, at the top, and below it no level skipped: contents and screen readers go by them."""
    words = [FENCED.sub("", cell.source) for cell in notebook.cells if cell.cell_type == "markdown"]
    found = [(len(marks), text) for source in words for marks, text in HEADING.findall(source)]
    if [level for level, _ in found[:1]] != [1]:
        yield "it does not begin with a title, a heading of level 1"
    for (above, _), (level, text) in zip(found, found[1:], strict=False):
        if level == 1:
            yield f"{text!r} is a second title"
        elif level > above + 1:
            yield f"{text!r} has level {level} right below level {above}"


def short(notebook: Notebook) -> Iterator[str]:
    """A cell that fits on the screen."""
    for cell in code(notebook):
        lines = len(cell.source.splitlines())
        if lines > MOST_LINES:
            yield f"{name_of(cell)} has {lines} lines, more than {MOST_LINES}"


def narrow(notebook: Notebook) -> Iterator[str]:
    """Code that no page scrolls sideways. (A shell line cannot be broken.)"""
    for cell in code(notebook):
        for line in cell.source.splitlines():
            if len(line) > MOST_COLUMNS and not line.lstrip().startswith("!"):
                yield f"{name_of(cell)} has a line of {len(line)} columns, more than {MOST_COLUMNS}: {line[:40]}"


def brief(notebook: Notebook) -> Iterator[str]:
    """Text that is read before the next thing happens."""
    for cell in notebook.cells:
        words = len(cell.source.split())
        if cell.cell_type == "markdown" and words > MOST_WORDS:
            yield f"{name_of(cell)} has {words} words, more than {MOST_WORDS}"


def semicolons(notebook: Notebook) -> Iterator[str]:
    """A `;` at the end hides the output for a person, and not for nbval: false failures."""
    for cell in code(notebook):
        if any(line.rstrip().endswith(";") for line in cell.source.splitlines()):
            yield f"{name_of(cell)} has a line that ends in ';'; write `_ = …` instead"


def solutions(notebook: Notebook) -> Iterator[str]:
    """An exercise can be solved: the next code cell is its solution, folded, and was seen to pass."""
    cells = code(notebook)
    for stub, answer in zip(cells, [*cells[1:], None], strict=True):
        if is_stub(stub):
            yield from (f"{name_of(stub)}: {why}" for why in _unsolved(answer))


def _unsolved(answer: Notebook | None) -> Iterator[str]:
    if answer is None or not is_solution(answer):
        yield "the next code cell is not its solution (`# @title Solution`)"
        return
    if not answer.metadata.get("jupyter", {}).get("source_hidden"):
        yield "its solution is not folded"
    if not any("passed." in text_of(output) for output in answer.outputs):
        yield "its solution does not say 'passed.'"


def setup_cell(notebook: Notebook, wanted: str | None) -> Iterator[str]:
    """The same few lines in all notebooks: who has understood them once never reads them again."""
    found = setup_of(notebook)
    if wanted is not None and found != wanted:
        yield "the first code cell is not that of the other notebooks"
    lines = sum(bool(line.strip()) for line in found.splitlines())
    if lines > MOST_SETUP_LINES:
        yield f"the first code cell has {lines} lines, more than {MOST_SETUP_LINES}"


def size(path: Path) -> Iterator[str]:
    """GitHub shows no large notebook, and a checkout keeps every version of it."""
    if path.stat().st_size >= MOST_BYTES:
        yield f"{path.stat().st_size:,} bytes, {MOST_BYTES:,} are too many"


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        *(valid, kernelspec, metadata, ids, executed, tags),
        *(errors, clean, alt, headings, short, narrow, brief, semicolons, solutions),
    )
}
