"""Grade notebooks that students handed in: run each, examine its answers, print a table of exercises and students.

python notebooks/grade.py [--out grades.csv] [--seconds 300] [--quick] NOTEBOOK ...

This runs the students' code with your rights on this machine: do it in an account or a container where it can do no
harm. Each notebook runs in a copy of the
course, so that nothing it writes there reaches the next. What it prints counts for nothing: each answer (`my_psnr`) is
examined inside the student's kernel, after the last cell that names it, by this course's own checks, imported anew.
That is proof against a forged "passed." and a changed `helpers`, not against a student who attacks the grader itself
(the kernel is theirs): read the code of whoever is suddenly perfect.
"""

import argparse
import copy
import functools
import os
import re
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
import pandas as pd
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # found from any folder

from helpers.files import atomic  # noqa: E402

CALL = re.compile(r"^check\.(\w+)\((my_\w+)\)", re.MULTILINE)
RESULTS = {"passed.": "passed", "not yet.": "not yet", "not attempted yet.": "not attempted"}
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "build", "runs", "downloads", "__pycache__", ".*_cache")
TABLE = ["student", "exercise", "result", "remark"]


class BadInput(Exception):
    """What cannot be graded; the message says why."""


def main(arguments: list[str] | None = None) -> int:
    """Grade what is asked for; 2 for bad input, before anything is run or written."""
    options = parse(arguments)
    try:
        books = {path: read(path) for path in options.notebooks}
        lessons = {path: lesson_of(path, book) for path, book in books.items()}
        students = names(lessons)
        if options.out and not options.out.resolve().parent.is_dir():
            raise BadInput(f"{options.out}: there is no folder to write it into.")
    except BadInput as why:
        print(f"error: {why}", file=sys.stderr)
        return 2
    rows = []
    for path, book in books.items():
        print(f"running {path} ...", file=sys.stderr, flush=True)
        rows += [(students[path], *row) for row in grade(book, exercises()[lessons[path]], options)]
    report(pd.DataFrame(rows, columns=TABLE), options.out)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=__doc__.split("\n\n")[2])
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write a row per student and exercise, with hints")
    parser.add_argument("--seconds", type=int, default=300, help="time for one cell; then the notebook is given up")
    parser.add_argument("--quick", action="store_true", help="leave out cells tagged nbval-ignore-output: training")
    return parser.parse_args(arguments)


# ------------------------------------------------------------------------------------------- who and what


@functools.cache
def exercises() -> dict[str, dict[str, str]]:
    """The exercises of each notebook of the course, by its stem: name of the check → name of the answer."""
    found = {path.stem: calls(nbformat.read(path, 4)) for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}
    return {stem: checks for stem, checks in found.items() if checks}


def calls(book: nbformat.NotebookNode) -> dict[str, str]:
    """The checks of answers in a notebook: `check.psnr(my_psnr)` is {"psnr": "my_psnr"}."""
    return dict(call for cell in book.cells if cell.cell_type == "code" for call in CALL.findall(cell.source))


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook; BadInput where there is none."""
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such notebook; check the name.") from None
    except (OSError, ValueError, AttributeError, nbformat.ValidationError):
        raise BadInput(f"{path}: not a notebook, or a damaged one.") from None


def lesson_of(path: Path, book: nbformat.NotebookNode) -> str:
    """Which notebook of the course it is: the one with which it shares most checks, whatever the file is called."""
    shared = {stem: len(calls(book).keys() & checks.keys()) for stem, checks in exercises().items()}
    best = max(shared, key=shared.get)
    if not shared[best]:
        raise BadInput(f"{path}: no exercise of this course is in it.")
    return best


def names(lessons: dict[Path, str]) -> dict[Path, str]:
    """Who wrote each file: its folder's name if the file has the course's (ada/02_srcnn.ipynb), else its own."""
    found = {path: path.resolve().parent.name if path.stem == lesson else path.stem for path, lesson in lessons.items()}
    seen = {}
    for path, lesson in lessons.items():
        other = seen.setdefault((found[path], lesson), path)
        if other is not path:
            raise BadInput(f"{other} and {path} are both {lesson} of {found[path]}; rename one, or its folder.")
    return found


# -------------------------------------------------------------------------------------------- run and examine


def grade(book: nbformat.NotebookNode, checks: dict[str, str], options: argparse.Namespace) -> list[tuple]:
    """(exercise, result, remark) for each check of the lesson, in its order."""
    sign = secrets.token_hex(16)  # so that no line that the student's code prints passes for ours
    prepared = with_examinations(book, checks, sign, options.quick)
    trouble = execute(prepared, options.seconds)
    said = {cell.metadata["check"]: sentence(cell, sign) for cell in prepared.cells if "check" in cell.metadata}
    return [
        (label_of(check), *(outcome(said[check], trouble) if check in said else ("not attempted", f"no {answer}")))
        for check, answer in checks.items()
    ]


def with_examinations(book, checks: dict[str, str], sign: str, quick: bool) -> nbformat.NotebookNode:
    """A copy, up to the last answer, in which each answer is examined after the last cell that names it."""
    codes = [cell for cell in book.cells if cell.cell_type == "code" and not (quick and untold(cell))]
    last = {answer: index for answer in checks.values() for index, cell in enumerate(codes) if names_it(cell, answer)}
    cells = []
    for index, cell in enumerate(codes[: max(last.values(), default=-1) + 1]):
        cells.append(nbformat.v4.new_code_cell(cell.source))
        for check, answer in checks.items():
            if last.get(answer) == index:
                cells.append(nbformat.v4.new_code_cell(examination(check, answer, sign), metadata={"check": check}))
    return nbformat.v4.new_notebook(cells=cells, metadata=copy.deepcopy(book.metadata))


def untold(cell: nbformat.NotebookNode) -> bool:
    """Whether its output depends on the machine (training, timings, widgets)."""
    return "nbval-ignore-output" in cell.metadata.get("tags", [])


def names_it(cell: nbformat.NotebookNode, answer: str) -> bool:
    """Whether the cell defines or uses the answer."""
    return re.search(rf"\b{answer}\b", cell.source) is not None


def examination(check: str, answer: str, sign: str) -> str:
    """The source of a cell that prints our sign and the verdict; it leaves the student's variables as they are."""
    ours = f"__import__('runpy').run_path({__file__!r})['say']"  # which has a print of its own
    return f"{ours}({sign!r}, {check!r}, globals().get({answer!r}))"


def say(sign: str, check: str, answer) -> None:
    """Print the verdict on an answer behind our sign, in the student's kernel."""
    print(sign, verdict(check, answer))


def verdict(check: str, answer) -> str:
    """On an answer, in the student's kernel, by the checks of this course, whatever has been imported there."""
    if answer is None:
        return "not attempted yet."
    theirs = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "helpers"}
    try:
        return getattr(_checks(), check).verdict(answer)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "helpers"]:
            del sys.modules[name]
        sys.modules.update(theirs)


def outcome(said: str, trouble: str) -> tuple[str, str]:
    """Result and remark from what an examination said; the trouble explains why it said nothing."""
    for begin, result in RESULTS.items():
        if said.startswith(begin):
            return result, said.removeprefix(begin).strip() if result == "not yet" else ""
    return "not reached", trouble


def label_of(check: str) -> str:
    """The number of an exercise, "1.2", from the name of its check."""
    return getattr(_checks(), check).label


def _checks():
    """The course's checks: of the folder in which this file lies, before any other on the path."""
    sys.path.insert(0, str(ROOT))
    try:
        from helpers import exercises as checks
    finally:
        sys.path.remove(str(ROOT))
    return checks


def execute(book: nbformat.NotebookNode, seconds: int) -> str:
    """Run all cells, failing ones included; return why it ended early, or nothing."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True) as folder:
        course = shutil.copytree(ROOT, Path(folder) / "course", ignore=NOT_COPIED)
        return _run(book, course / "notebooks", seconds)


def _run(book: nbformat.NotebookNode, folder: Path, seconds: int) -> str:
    client = NotebookClient(
        book,
        timeout=seconds,
        allow_errors=True,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--Application.log_level=ERROR"],
    )
    client.comm_open_handlers = {}  # as in run.py: nbclient's Output widget can hang after `interact`
    try:
        client.execute()
    except CellTimeoutError:
        return f"a cell took longer than {seconds} s"
    except DeadKernelError:
        return "the kernel died"
    return "its examination failed"


def sentence(cell: nbformat.NotebookNode, sign: str) -> str:
    """What an examination said, or nothing: the line with our sign."""
    printed = "".join(output.get("text", "") for output in cell.outputs)
    return next((line.partition(" ")[2] for line in printed.splitlines() if line.startswith(sign)), "")


# ------------------------------------------------------------------------------------------------- the table


def report(rows: pd.DataFrame, out: Path | None) -> None:
    """Print exercises × students, and how many each has passed; write all rows, with their hints, into `out`."""
    table = rows.pivot(index="exercise", columns="student", values="result").fillna("–")
    passed = (table == "passed").sum().astype(str) + " of " + (table != "–").sum().astype(str)
    print(pd.concat([table, passed.to_frame("passed").T]).rename_axis(None, axis=1).to_string())
    if out:
        with atomic(out) as temporary:
            rows.to_csv(temporary, index=False)


if __name__ == "__main__":
    sys.exit(main())
