"""Grade notebooks that students handed in: run each, examine its answers, print a table of exercises and students.

python notebooks/grade.py [--out grades.csv] [--seconds 300] [--quick] NOTEBOOK ...

This runs the students' code with your rights on this machine: do it in an account or a container where it can do no
harm. Each notebook runs in a copy of the course, so that nothing it writes there reaches the next. What it prints
counts for nothing: each answer (`my_psnr`) is examined inside the student's kernel, after the last cell that defines or
checks it, by this course's own checks (see examination.py). That is proof against a forged "passed." and a changed
`helpers`, not against a student who attacks the grader itself (the kernel is theirs): read the code of whoever is
suddenly perfect.
"""

import argparse
import functools
import re
import secrets
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from helpers.__main__ import whole  # noqa: E402  (found from any folder)
from helpers.lesson import exercises  # noqa: E402
from helpers.service.errors import CourseError, require  # noqa: E402
from helpers.service.files import atomic, expanded, refusal  # noqa: E402
from notebooks import run  # noqa: E402
from notebooks.run import Notebook  # noqa: E402

RESULTS = {"passed.": "passed", "not yet.": "not yet", "not attempted yet.": "not attempted"}
# what Colab puts before the name of a second file, and browsers, Jupyter and systems behind it
WORD = r"(?:cop(?:y|ie|ia)|kopie)"
COPY = re.compile(rf"^(?:{WORD} (?:of|von|de|di) )+|(?: ?\(\d+\)|[-_ ]+{WORD} ?\d*)+$", re.IGNORECASE)
TABLE = ["student", "exercise", "result", "remark"]


@run.program
def main(arguments: list[str] | None = None) -> int:
    """Grade what is asked for; 2 for bad input, before anything is run, or where a notebook could not be read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=__doc__.split("\n\n")[2])
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write a row per student and exercise, with hints")
    parser.add_argument("--seconds", type=whole(1), default=300, help="time for a cell; then the notebook is given up")
    parser.add_argument("--quick", action="store_true", help="leave out cells tagged nbval-ignore-output: training")
    options = parser.parse_args(arguments)
    books, lessons, unread = {}, {}, 0
    for path in expanded(options.notebooks):
        try:
            book = run.read(path)
            lessons[path] = lesson_of(path, book)
            books[path] = book
        except CourseError as why:  # the others are graded
            print(f"error: {why}", file=sys.stderr)
            unread += 1
    students = students_of(lessons) if lessons else {}
    if options.out and (why := refusal(options.out)):
        raise CourseError(f"{options.out}: {why}.")
    rows = []
    try:
        for path, book in books.items():
            print(f"running {path} ...", file=sys.stderr, flush=True)
            answers = answers_by_lesson()[lessons[path]]
            rows += [(students[path], *row) for row in grade(book, answers, options.seconds, options.quick)]
    finally:  # what is graded before Ctrl-C stays
        if rows:
            report(pd.DataFrame(rows, columns=TABLE), options.out)
    return 2 if unread else 0


# ------------------------------------------------------------------------------------------- who and what


@functools.cache
def answers_by_lesson() -> dict[str, dict[str, str]]:
    """The exercises of each notebook of the course, by its stem: name of the check → name of the answer."""
    return {path.stem: answers_of(run.read(path)) for path in run.lessons()}


def answers_of(book: Notebook) -> dict[str, str]:
    """The checks of learners' answers in a notebook: `check.psnr(my_psnr)` is {"psnr": "my_psnr"}."""
    calls = [call for cell in run.code(book) for call in run.CHECK.findall(cell.source)]
    return {check: answer for check, answer in calls if re.match("my_|My", answer)}


def lesson_of(path: Path, book: Notebook) -> str:
    """Which notebook of the course it is: the one with which it shares most checks, whatever the file is called."""
    found = answers_of(book).keys()
    shared = {stem: len(found & answers.keys()) for stem, answers in answers_by_lesson().items()}
    best = max(shared, key=shared.get)
    require(shared[best], f"{path}: no exercise of this course is in it.")
    return best


def students_of(lessons: dict[Path, str]) -> dict[Path, str]:
    """Who wrote each file: its own name, or its folder's where the name is the course's, or in other folders as well.

    ada/02_srcnn.ipynb and ada/02_srcnn (1).ipynb are ada's. Where folders are alike, too, those above them are named.
    """
    stems = Counter((path.stem, lesson) for path, lesson in lessons.items())
    for depth in range(1, 1 + max(len(path.resolve().parent.parts) for path in lessons)):
        found, seen = {}, {}
        for path, lesson in lessons.items():
            folders = "/".join(path.resolve().parent.parts[-depth:])
            found[path] = folders if COPY.sub("", path.stem) == lesson or stems[path.stem, lesson] > 1 else path.stem
            seen.setdefault((found[path], lesson), []).append(path)
        twice = [paths for paths in seen.values() if len(paths) > 1]
        if not twice:
            return found
    said = (f"{' and '.join(map(str, p))} are each {lessons[p[0]]} of {p[0].resolve().parent.name}" for p in twice)
    raise CourseError(f"{'; '.join(said)}; keep one of each, or rename it or its folder.")


# -------------------------------------------------------------------------------------- run and examine


def grade(book: Notebook, answers: dict[str, str], seconds: int, quick: bool) -> list[tuple[str, str, str]]:
    """(exercise, result, remark) for each check of the lesson, in its order; by the names that the student checked."""
    answers = answers | {check: name for check, name in answers_of(book).items() if check in answers}
    sign = secrets.token_hex(16)  # so that no line that the student's code prints passes for ours
    prepared = with_examinations(book, answers, sign, quick)
    with run.course_copy() as course:
        trouble = run.execute(prepared, course / "notebooks", seconds, allow_errors=True)
    cells = {cell.metadata["check"]: cell for cell in prepared.cells if "check" in cell.metadata}
    rows = []
    for check, answer in answers.items():
        result, remark = outcome(cells[check], sign, trouble) if check in cells else ("not attempted", f"no {answer}")
        if result == "not attempted" and (why := raised(prepared, answer)):
            result, remark = "not yet", why
        rows.append((getattr(exercises, check).label, result, remark))
    return rows


def with_examinations(book: Notebook, answers: dict[str, str], sign: str, quick: bool) -> Notebook:
    """A copy, up to the last answer, in which each answer is examined after the last cell that defines or checks it.

    Or after the last that names it, if none does. A result that takes the function's name later counts for nothing.
    """
    skipped = {"nbval-ignore-output"} if quick else set()
    cells = [new_code_cell(cell.source) for cell in run.code(book) if not skipped & {*cell.metadata.get("tags", [])}]
    for check, answer in answers.items():
        defined = rf"^(?:def|class) {answer}\b|^{answer} *=(?!.*\b{answer}\()|\bcheck\.{check}\({answer}\)"
        for said in (defined, rf"\b{answer}\b"):
            if named := [index for index, cell in enumerate(cells) if re.search(said, cell.source, re.MULTILINE)]:
                break
        if named:
            cells.insert(named[-1] + 1, new_code_cell(examination(check, answer, sign), metadata={"check": check}))
    last = max((index for index, cell in enumerate(cells) if "check" in cell.metadata), default=-1)
    return new_notebook(cells=cells[: last + 1])


def examination(check: str, answer: str, sign: str) -> str:
    """The source of a cell that prints our sign and the verdict; it leaves the student's variables as they are."""
    ours = f"__import__('runpy').run_path({str(ROOT / 'notebooks' / 'examination.py')!r})['say']"
    return f"{ours}({sign!r}, {check!r}, globals().get({answer!r}))"


def outcome(cell: Notebook, sign: str, trouble: str) -> tuple[str, str]:
    """Result and remark from what an examination printed behind our sign; the trouble explains why it said nothing."""
    printed = "".join(output.get("text", "") for output in cell.outputs)
    said = next((line.partition(" ")[2] for line in printed.splitlines() if line.startswith(sign)), "")
    for begin, result in RESULTS.items():
        if said.startswith(begin):
            return result, said.removeprefix(begin).strip() if result == "not yet" else ""
    return "not reached", trouble or "its examination failed"


def raised(book: Notebook, answer: str) -> str:
    """The first error of the cells that name an answer, in a line; empty where there was none."""
    cells = (cell for cell in book.cells if re.search(rf"\b{answer}\b", cell.source))
    errors = (output for cell in cells for output in cell.get("outputs", []) if output.output_type == "error")
    said = next((f"{error.ename}: {error.evalue}".splitlines()[0] for error in errors), "")
    return re.sub(r"\(\d+\.py, ", "(", said)  # a cell's file has a number that tells nobody anything


def report(rows: pd.DataFrame, out: Path | None) -> None:
    """Print students × exercises of each notebook, and how many they passed; write all rows, with hints, into `out`."""
    for _, part in rows.groupby(rows["exercise"].str[0]):
        table = part.pivot(index="student", columns="exercise", values="result")
        table["passed"] = (table == "passed").sum(axis=1).astype(str) + " of " + table.notna().sum(axis=1).astype(str)
        print(table.rename_axis(None).rename_axis(None, axis=1).to_string())
    if out:
        with atomic(out) as temporary:
            rows.to_csv(temporary, index=False)


if __name__ == "__main__":
    sys.exit(main())
