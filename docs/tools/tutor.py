"""Write what an assistant beside a learner reads: AGENTS.md, and metadata of the notebooks' exercises.

    python docs/tools/tutor.py [--check]

AGENTS.md says how to help, and has each exercise with its usual mistakes. Exercises, what they ask and the mistakes
that their checks know are read from the notebooks and from `helpers/lesson/exercises`; no solution is. The cell of an
exercise gets the two metadata that the extension jupyter-ai-tutor (0.3) sends along: `evaluation_criteria`, the same
text, and `reference_solution`, the solution, which the student's edition leaves out. `--check` writes nothing and
exits with 1 where a file has drifted.
"""

import argparse
import ast
import inspect
import re
import sys
import textwrap
from pathlib import Path

from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "AGENTS.md"
sys.path.insert(0, str(ROOT))
from helpers.lesson import exercises  # noqa: E402
from notebooks import editions, run  # noqa: E402

INTRODUCTION = """# For an assistant beside a learner

This repository is a course: six notebooks in `notebooks`, and a package, `helpers`. You help somebody who works through
it. This page is made by `make tutor` from the course's own checks. It holds no code of a solution, but the last hints
of some exercises say it in words. (If you are asked to change the course itself, read `CONTRIBUTING.md` instead.)

## How to help

1. **Never write the answer to an exercise or a build**, whole or in part, and do not repeat a cell that begins with
   `# @title Solution`. The learner can open it alone.
2. **Ask first** what they expect and what they saw. A paragraph that begins with *Predict* is theirs to answer.
3. **Give hints in stages**: which idea of the section is meant; then which line to look at, and a small case to work
   by hand; then, only when asked again, the mistake by its name, from the list below.
4. **Let the course judge.** `check.psnr(my_psnr)` runs an answer beside the right one, and says what it saw. Ask for
   that line before you say that something is right.
5. **A number needs its measurement.** Do not explain a figure from memory: say which cell prints it, or how to run it.
   An explanation that nobody measured is a guess; call it one.
6. Where something is broken: `python -m helpers check` says what, and what to do. `python -m helpers --help` lists all
   commands.

## Where things are

- The learner works in a copy of the student's edition (`make student`), which has no solutions, or in
  `notebooks`.
- Answers lie in the solution cells of `notebooks`, in `helpers/models`, `helpers/lesson/exercises` and `tests`. Read
  them to understand; do not quote them.
- A check runs outside a notebook, too: `from helpers.lesson import exercises as check`, then `check.luma(my_luma)`.
- Exercise 4.5 is open and has no check.

Each check knows the usual mistakes and names the one that it sees. Here they are. A **Build** is a class
`MyThing(nn.Module)`, into which our trained weights must fit (in 3.A and 4.B, ours are fresh). Its usual mistakes: an
activation or a skip left out, or one too many; layers in a Python list; one layer used where there should be several;
another padding; a result that is clipped, or not returned. The check names the layer where the network departs from
ours.
"""


def main() -> int:
    """Write the page and the metadata, or compare them; 1 where they have drifted."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file has drifted")
    check, text = options.parse_args().check, page()
    drifted = [PAGE.name] * (not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text)
    if drifted and not check:
        PAGE.write_text(text, encoding="utf-8")
    for path in run.lessons():
        if (book := annotated(path)) != run.read(path):
            drifted.append(path.name)
            if not check:
                run.write(book, path)
    said = "drifted" if check else "written"
    print(f"{said}: {', '.join(drifted)}" if drifted else f"{PAGE.name} and notebooks: up to date")
    return int(check and bool(drifted))


def annotated(path: Path) -> NotebookNode:
    """A notebook with the metadata of its exercises as they should be."""
    book = run.read(path)
    for found in editions.exercises(book):
        asked, *wrong = exercise(getattr(exercises, found.check), f"`check.{found.check}({found.mine})`")
        told = [asked, "An answer makes none of these mistakes:\n", *wrong] if wrong else [asked]
        found.stub.metadata["evaluation_criteria"] = "\n".join(told)
        found.stub.metadata["reference_solution"] = found.answer
    return book


def page() -> str:
    """All of AGENTS.md."""
    return "\n".join([INTRODUCTION, *map(lesson, run.lessons())])


def lesson(path: Path) -> str:
    """A notebook's part: its title, its sections, and its exercises in their order."""
    book = run.read(path)
    headings = [line for cell in book.cells for line in cell.source.splitlines() if re.match(r"##? \d", line)]
    parts = [f"## {headings[0].removeprefix('# ')}\n", f"`notebooks/{path.name}`. Sections:\n"]
    parts += [f"- {heading.removeprefix('## ')}" for heading in headings[1:]]
    for cell in run.code(book):
        for name, answer in run.CHECK.findall(cell.source):
            if re.match("my_|My", answer):
                parts += ["", *exercise(getattr(exercises, name), f"`check.{name}({answer})`")]
    return "\n".join(parts) + "\n"


def exercise(check, call: str) -> list[str]:
    """Its label, what it asks, and the mistakes that its check names."""
    if hasattr(check, "network"):
        return [f"**Build {check.label}**, {call}: a class that computes what the course's `{check.network}` does."]
    asked = " ".join(inspect.getdoc(check).split("\n\n")[0].split())
    return [f"**Exercise {check.label}**, {call}: {asked}\n", *(f"- {mistake}" for mistake in mistakes(check))]


def mistakes(check) -> list[str]:
    """The sentences of a check, in their order; … stands for what differs from case to case."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(check))))
    inside = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    left_out = inside | {node.body[0].value for node in ast.walk(tree) if _has_docstring(node)}
    found = (" ".join(_text(node).split()) for node in ast.walk(tree) if node not in left_out)
    return list(dict.fromkeys(told for told in found if told.endswith((".", "?")) and told.count(" ") > 2))


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _has_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None


if __name__ == "__main__":
    sys.exit(main())
