"""Two editions of the notebooks: `make student` (no solutions, no outputs) and `make solutions` (each stub filled in).

python notebooks/editions.py student|solutions [--out DIR] [NOTEBOOK ...]

An exercise is a stub, `def my_x(...): ...` and `check.y(my_x)`, and the next code cell, its solution: it begins with
`# @title Solution`, defines `solution_x`, and ends with `check.y(solution_x)`. Later cells may call `solution_x`.
A network to build is a class `MyX`, whose `def forward(...): ...` is left out; its solution is `SolutionX`. A cell that
shows how it is built is tagged `shows-solution`, and is not in the student's edition.
"""

import argparse
import re
import symtable
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from helpers.service.errors import CourseError, require  # noqa: E402  (found from any folder)
from notebooks import run  # noqa: E402
from notebooks.run import Notebook, code  # noqa: E402

TITLE = "# @title Solution"
STUB = re.compile(
    r"^(?:def (?P<function>my_\w+)\([^)]*\): \.\.\.$|"
    r"class (?P<network>My\w+)\([\w.]+\):\n(?:(?:    .*)?\n)*?    def forward\(.*\): \.\.\.$)",
    re.MULTILINE,
)
BADGE = re.compile(r"^\[!\[Open in Colab\].*\n+", re.MULTILINE)  # it opens the notebook that has the solutions
GIVEN = """# The cells below call {given}: your function if it passes, else the course's own.
{given} = check.usable(check.{check}, {mine})"""


@dataclass(frozen=True)
class Exercise:
    """Two cells, and the names in them."""

    stub: Notebook
    solution: Notebook
    mine: str  # my_x or MyX
    given: str  # solution_x or SolutionX
    check: str  # y
    needed: bool  # whether cells below call solution_x

    @property
    def answer(self) -> str:
        """The solution, but for its title and its check."""
        return "\n".join(self.solution.source.splitlines()[1:-1]).strip()


@run.program
def main(arguments: list[str] | None = None) -> int:
    """Make what is asked for; 1 if a notebook of solutions failed, 2 for bad input, and then nothing is written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("edition", choices=EDITIONS)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to (default: build/EDITION)")
    parser.add_argument("--overwrite", action="store_true", help="replace notebooks that are there and differ")
    options = parser.parse_intermixed_args(arguments)  # so that notebooks may follow --out
    out = options.out or ROOT / "build" / options.edition
    files = options.notebooks or run.lessons()
    inside = out.resolve() in {path.resolve().parent for path in files}
    require(not inside, f"{out}: the notebooks themselves are in there; give another folder.")
    require(not out.is_file(), f"{out}: that is a file; name a folder.")
    books = {path: edition(path, options.edition) for path in files}
    for path, book in books.items():
        what = "has been worked on, or is of another version; name another --out, or give --overwrite"
        free = options.overwrite or not worked_on(out / path.name, book)
        require(free, f"{out / path.name}: {what} (of make: OUT=DIR, OVERWRITE=1).")
    failed = sum(not finish(book, path, out, options.edition) for path, book in books.items())
    wrote = f"{len(books) - failed} of {len(books)} written to {out}"
    print(f"{wrote}; they run in any folder of the course, and on Colab once `make badges` has named your repository.")
    return 1 if failed else 0


def worked_on(path: Path, book: Notebook) -> bool:
    """Whether a notebook is there whose code or text is not that of `book`."""
    if not path.is_file():
        return False
    there, here = ([cell.source for cell in one.cells] for one in (run.read(path), book))
    return there != here


def edition(path: Path, name: str) -> Notebook:
    """One notebook in the edition of that name, not executed. Raises CourseError."""
    book = run.read(path)
    try:
        EDITIONS[name](book)
    except CourseError as why:
        raise CourseError(f"{path}: {why}") from None
    return book


def finish(book: Notebook, path: Path, out: Path, name: str) -> bool:
    """Write one edition; one of solutions is executed first, in the notebook's own folder, and all must pass."""
    solved = name == "solutions"
    failure = run.told(path, lambda: (run.execute(book, path.parent) or unsolved(book)) if solved else "")
    if not failure:
        run.write(run.normalise(book) if solved else book, out / path.name)
    return not failure


def student(book: Notebook) -> None:
    """In place: no solution, output, count or badge. What later cells call is the learner's, or the course's own."""
    for exercise in exercises(book):
        if exercise.needed:
            exercise.solution.source = GIVEN.format(**vars(exercise))
            exercise.solution.metadata = nbformat.from_dict({})
    shown = [cell for cell in book.cells if "shows-solution" not in cell.metadata.get("tags", [])]
    book.cells = [cell for cell in shown if not is_solution(cell)]
    for cell in book.cells:
        cell.source = BADGE.sub("", cell.source)
        cell.metadata.pop("reference_solution", None)  # which docs/tools/tutor.py writes, for an assistant
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, []


def solutions(book: Notebook) -> None:
    """In place: each solution stands in its stub, under the learner's name, which later cells call, too."""
    found = exercises(book)
    for exercise in found:
        exercise.stub.source = STUB.sub(lambda _, inside=exercise.answer: inside, exercise.stub.source, count=1)
    book.cells = [cell for cell in book.cells if not is_solution(cell)]
    for cell in code(book):
        for exercise in found:
            cell.source = re.sub(rf"\b{exercise.given}\b", exercise.mine, cell.source)


EDITIONS = {"student": student, "solutions": solutions}


def unsolved(book: Notebook) -> str:
    """What the first check that does not pass has printed, or nothing."""
    for cell in code(book):
        said = "".join(output.get("text", "") for output in cell.outputs)
        if run.CHECK.search(cell.source) and "passed." not in said:
            return f"    cell {cell.id}: {said.strip()}"
    return ""


# ---------------------------------------------------------------------------------------------- parts


def exercises(book: Notebook) -> list[Exercise]:
    """All exercises in their order. Raises CourseError: a stub and its solution do not fit together."""
    kept = [cell for cell in code(book) if not is_solution(cell)]
    asked = set().union(*(used(scope(cell)) for cell in kept)).difference(*map(defined, kept))
    cells, found = iter(code(book)), []
    for cell in cells:
        require(not is_solution(cell), f"cell {cell.id}: a solution, but the code cell before it is no stub.")
        if (stub := STUB.search(cell.source)) and (called := run.CHECK.search(cell.source)):
            mine = stub["function"] or stub["network"]
            found.append(exercise(cell, mine, called[1], next(cells, None), asked))
    return found


def exercise(stub: Notebook, mine: str, check: str, solution: Notebook | None, asked: set[str]) -> Exercise:
    """A stub and its solution, `asked` for names that no other cell defines. Raises CourseError where they differ."""
    if solution is None or not is_solution(solution):
        raise CourseError(f"cell {stub.id}: {mine} has no solution; the next code cell should begin {TITLE!r}.")
    given = re.sub("^My", "Solution", re.sub("^my_", "solution_", mine))
    last, names = f"check.{check}({given})", defined(solution)
    require(given in names, f"cell {solution.id}: it is to solve {mine}, but does not define {given}.")
    ends = solution.source.rstrip().splitlines()[-1] == last
    require(ends, f"cell {solution.id}: its last line should be {last}.")
    needed = names & asked
    if lost := sorted(needed - {given}):
        raise CourseError(f"cell {solution.id}: only this solution defines {lost[0]}, used further below.")
    return Exercise(stub, solution, mine, given, check, needed=bool(needed))


def is_solution(cell: Notebook) -> bool:
    """Whether a cell is the solution of the stub above it."""
    return cell.cell_type == "code" and cell.source.startswith(TITLE)


def scope(cell: Notebook) -> symtable.SymbolTable:
    """The names in a cell; IPython's own lines (`!git`, `%pip`) count as `pass`. Raises CourseError."""
    python = re.sub(r"^(\s*)[!%](?:.*\\\n)*.*$", r"\1pass", cell.source, flags=re.MULTILINE)
    try:
        return symtable.symtable(python, cell.id, "exec")
    except SyntaxError as why:
        raise CourseError(f"cell {cell.id}: not Python: {why.msg}, line {why.lineno}.") from None


def defined(cell: Notebook) -> set[str]:
    """The names that a cell defines for those below it."""
    return {name.get_name() for name in scope(cell).get_symbols() if name.is_assigned() or name.is_imported()}


def used(table: symtable.SymbolTable) -> set[str]:
    """The names of the notebook that a cell uses, in its functions, too."""
    names = {name.get_name() for name in table.get_symbols() if name.is_referenced() and name.is_global()}
    return names.union(*map(used, table.get_children()))


if __name__ == "__main__":
    sys.exit(main())
