"""Two editions of the notebooks: `make student` (no solutions, no outputs) and `make solutions` (each stub filled in).

python notebooks/editions.py student|solutions [--out DIR] [NOTEBOOK ...]

An exercise is a stub, `def my_x(...): ...` and `check.y(my_x)`, and the next code cell, its solution: it begins with
`# @title Solution`, defines `solution_x`, and ends with `check.y(solution_x)`. Later cells may call `solution_x`.
"""

import argparse
import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from notebooks import run  # noqa: E402  (found from any folder)

TITLE = "# @title Solution"
BADGE = re.compile(r"^\[!\[Open in Colab\].*\n+", re.MULTILINE)  # it opens the notebook that has the solutions
GIVEN = """# The cells below call {given}: your function if it passes, else the course's own.
{given} = check.usable(check.{check}, {mine})"""

Notebook = nbformat.NotebookNode


class EditionError(ValueError):
    """A notebook of which no edition can be made; one sentence that names the cell."""


@dataclass(frozen=True)
class Exercise:
    """Two cells, and the names in them."""

    stub: Notebook
    solution: Notebook
    mine: str  # my_x
    given: str  # solution_x
    check: str  # y


def main(arguments: list[str] | None = None) -> int:
    """Make what is asked for; 1 if a notebook of solutions failed, 2 for bad input, and then nothing is written."""
    options = parse(arguments)
    out = options.out or ROOT / "build" / options.edition
    files = options.notebooks or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    try:
        if out.resolve() in {path.resolve().parent for path in files}:
            raise EditionError(f"{out}: the notebooks themselves are in there; give another folder.")
        books = {path: edition(path, options.edition) for path in files}
        failed = sum(not finish(book, path, out, options.edition) for path, book in books.items())
    except (EditionError, OSError) as why:
        print(f"error: {why}", file=sys.stderr)
        return 2
    print(
        f"{len(books) - failed} of {len(books)} written to {out}; they run in any folder of the course, and on Colab."
    )
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("edition", choices=EDITIONS)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to (default: build/EDITION)")
    return parser.parse_intermixed_args(arguments)  # so that notebooks may follow --out


def edition(path: Path, name: str) -> Notebook:
    """One notebook in the edition of that name, not executed. Raises EditionError."""
    if not path.is_file():
        raise EditionError(f"{path}: no such notebook; check the name.")
    try:
        book = run.read(path)
        EDITIONS[name](book)
    except ValueError as why:
        raise EditionError(f"{path}: {why}") from None
    return book


def finish(book: Notebook, path: Path, out: Path, name: str) -> bool:
    """Write one edition; one of solutions is executed first, in the notebook's own folder, and all must pass."""
    print(f"{path.stem:<32} ", end="", flush=True)
    failure = ""
    if name == "solutions":
        failure = run.execute(book, path.parent) or unsolved(book)
        run.normalise(book)
    if not failure:
        run.write(book, out / path.name)
    print("failed" if failure else "written", flush=True)
    if failure:
        print(failure, file=sys.stderr)
    return not failure


def student(book: Notebook) -> None:
    """In place: no solution, output, count or badge. What later cells call is the learner's, or the course's own."""
    for exercise in exercises(book):
        needed = needed_of(exercise.solution, book)
        if lost := sorted(needed - {exercise.given}):
            raise EditionError(
                f"cell {exercise.solution.id}: only this solution defines {lost[0]}, used further below."
            )
        if needed:
            names = {"given": exercise.given, "check": exercise.check, "mine": exercise.mine}
            exercise.solution.update(source=GIVEN.format(**names), metadata=nbformat.from_dict({}))
    book.cells = [cell for cell in book.cells if not is_solution(cell)]
    for cell in book.cells:
        cell.source = BADGE.sub("", cell.source)
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, []


def solutions(book: Notebook) -> None:
    """In place: each solution stands in its stub, under the learner's name, which later cells call, too."""
    found = exercises(book)
    for exercise in found:
        stub, solution = exercise.stub.source.splitlines(), exercise.solution.source.splitlines()
        function, ending = open_function(exercise.stub), tree(exercise.solution).body[-1]
        inside = "\n".join(solution[1 : ending.lineno - 1]).strip()
        exercise.stub.source = "\n".join([*stub[: function.lineno - 1], inside, *stub[function.end_lineno :]])
    book.cells = [cell for cell in book.cells if not is_solution(cell)]
    for exercise in found:
        for cell in code(book):
            cell.source = re.sub(rf"\b{exercise.given}\b", exercise.mine, cell.source)


EDITIONS = {"student": student, "solutions": solutions}


def unsolved(book: Notebook) -> str:
    """What the first check that does not pass has printed, or nothing."""
    for cell in code(book):
        called = CHECK.fullmatch(last(cell))
        said = "".join(output.get("text", "") for output in cell.outputs)
        if called and "passed." not in said:
            return f"    cell {cell.id}: {said.strip() or 'the check says nothing'}"
    return ""


# ---------------------------------------------------------------------------------------------- parts

CHECK = re.compile(r"check\.(\w+)\((\w+)\)")


def exercises(book: Notebook) -> list[Exercise]:
    """All exercises in their order. Raises EditionError: a stub and its solution do not fit together."""
    cells, found = iter(code(book)), []
    for cell in cells:
        if is_solution(cell):
            raise EditionError(f"cell {cell.id}: a solution, but the code cell before it is no stub.")
        function, called = open_function(cell), CHECK.fullmatch(last(cell))
        if function and called:
            found.append(exercise_of(cell, function.name, called[1], next(cells, None)))
    return found


def exercise_of(stub: Notebook, mine: str, check: str, solution: Notebook | None) -> Exercise:
    """A stub and its solution. Raises EditionError where they do not belong together."""
    if solution is None or not is_solution(solution):
        raise EditionError(f"cell {stub.id}: {mine} has no solution; the next code cell should begin {TITLE!r}.")
    given = re.sub("^my_", "solution_", mine)
    if given not in bound(tree(solution)):
        raise EditionError(f"cell {solution.id}: it is to solve {mine}, but does not define {given}.")
    if last(solution) != f"check.{check}({given})":
        raise EditionError(f"cell {solution.id}: its last line should be check.{check}({given}).")
    return Exercise(stub, solution, mine, given, check)


def code(book: Notebook) -> list[Notebook]:
    """The code cells that hold something."""
    return [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]


def is_solution(cell: Notebook) -> bool:
    """Whether a cell is the solution of the stub above it."""
    return cell.cell_type == "code" and cell.source.startswith(TITLE)


def open_function(cell: Notebook) -> ast.FunctionDef | None:
    """The function that the learner is to write: its body is `...`."""
    functions = [node for node in tree(cell).body if isinstance(node, ast.FunctionDef)]
    return next((f for f in functions if [ast.unparse(line) for line in f.body] == ["..."]), None)


def last(cell: Notebook) -> str:
    """The last statement."""
    return "".join(ast.unparse(node) for node in tree(cell).body[-1:])


def tree(cell: Notebook) -> ast.Module:
    """The cell as Python; IPython's own lines (`!git`, `%pip`) count as `pass`. Raises EditionError."""
    try:
        return ast.parse(re.sub(r"^(\s*)[!%].*$", r"\1pass", cell.source, flags=re.MULTILINE))
    except SyntaxError as why:
        raise EditionError(f"cell {cell.id}: not Python: {why.msg}, line {why.lineno}.") from None


def bound(cell: ast.Module) -> set[str]:
    """The names that a cell defines for those below it."""
    found = set()
    for statement in cell.body:
        inside = [statement] if isinstance(statement, ast.FunctionDef | ast.ClassDef) else ast.walk(statement)
        for node in inside:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.alias):
                found.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return found


def needed_of(solution: Notebook, book: Notebook) -> set[str]:
    """The names that a solution alone defines and that other cells use, solutions apart."""
    kept = [tree(cell) for cell in code(book) if not is_solution(cell)]
    names = [node for cell in kept for node in ast.walk(cell) if isinstance(node, ast.Name)]
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    return (bound(tree(solution)) & used).difference(*map(bound, kept))


if __name__ == "__main__":
    sys.exit(main())
