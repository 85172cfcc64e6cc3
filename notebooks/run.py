"""Run the notebooks end to end: `make course` (copies and HTML under build/) and `make notebooks` (in place).

python notebooks/run.py [--in-place] [--out build] [NOTEBOOK ...]

Its functions read, execute and write notebooks for editions.py and grade.py, too.
"""

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # found from any folder

from helpers.service.errors import CourseError, require  # noqa: E402
from helpers.service.files import atomic  # noqa: E402

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "build", "runs", "downloads", "__pycache__", ".*_cache")
WIDGET = "application/vnd.jupyter.widget-view+json"
CHECK = re.compile(r"^check\.(\w+)\((\w+)\)", re.MULTILINE)  # how a cell examines an answer: check.psnr(my_psnr)

Notebook = nbformat.NotebookNode


def program(main: Callable) -> Callable:
    """Make a `main` that says bad input, or a file that fails, in a sentence (code 2), and Ctrl-C in a word (130)."""

    @functools.wraps(main)
    def careful(arguments: list[str] | None = None) -> int:
        try:
            return main(arguments)
        except (CourseError, OSError) as why:
            print(f"error: {why}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return careful


@program
def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; 1 if a notebook failed, 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--in-place", action="store_true", help="store the outputs in the notebooks themselves")
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="folder of copies, HTML and results")
    options = parser.parse_args(arguments)
    require(not options.out.is_file(), f"{options.out}: that is a file; name a folder.")
    books = {path: read(path) for path in options.notebooks or lessons()}
    start, failed = time.perf_counter(), 0
    for path, book in books.items():
        failed += not finish(book, path, None if options.in_place else options.out)
    if not options.in_place and not options.notebooks:
        failed += results_table(options.out / "results.csv")
    print(f"{'total':<32} {time.perf_counter() - start:5.0f} s" + (f", {failed} failed" if failed else ""))
    return 1 if failed else 0


def finish(book: Notebook, path: Path, out: Path | None) -> bool:
    """Execute one notebook, print a line, write it: into `out`, or in place, and there only if all cells ran."""
    failure = told(path, lambda: execute(book, path.parent))
    if out is not None:
        write(book, out / "notebooks" / path.name)
        page, _ = HTMLExporter().from_notebook_node(book)
        (out / "html").mkdir(parents=True, exist_ok=True)
        (out / "html" / f"{path.stem}.html").write_text(page, encoding="utf-8")
    elif not failure:
        write(normalise(book), path)
    return not failure


# --------------------------------------------------------------------------------------- read and write


def lessons() -> list[Path]:
    """The notebooks of the course, in their order."""
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def read(path: Path) -> Notebook:
    """A notebook, as it is: other programs than Jupyter may be loose about outputs. Raises CourseError."""
    try:
        book = nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise CourseError(f"{path}: no such notebook; check the name.") from None
    except OSError as why:
        raise CourseError(f"{path}: cannot be read ({why.strerror or why}).") from None
    except (TypeError, ValueError, AttributeError, nbformat.ValidationError):
        raise CourseError(f"{path}: not a notebook, or a damaged one; restore it, say with git.") from None
    return book


@contextmanager
def course_copy() -> Iterator[Path]:
    """The course without history and scratch, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="course-", ignore_cleanup_errors=True) as folder:
        yield Path(shutil.copytree(ROOT, Path(folder) / "course", ignore=NOT_COPIED))


def code(book: Notebook) -> list[Notebook]:
    """The code cells that hold something."""
    return [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]


def write(book: Notebook, path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        nbformat.write(book, temporary)


def normalise(book: Notebook) -> Notebook:
    """Keep, in place, what a reader needs: no widget state, timings, or paths; outputs of widgets stay text."""
    book.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for cell in (cell for cell in book.cells if cell.cell_type == "code"):
        cell.metadata.pop("execution", None)
        if not cell.source.strip():  # not run, so what it stores is from another time
            cell.execution_count, cell.outputs = None, []
        data = [output.get("data", {}) for output in cell.outputs]
        if any(WIDGET in shown for shown in data):
            # the figure under a slider belongs to the widget, which a stored notebook does not have
            cell.outputs = [output for output in cell.outputs if "image/png" not in output.get("data", {})]
        for shown in data:
            shown.pop(WIDGET, None)
            if "text/plain" in shown:  # a file's place in the course, not on this machine
                shown["text/plain"] = shown["text/plain"].replace(f"{ROOT}/", "")
    return book


# --------------------------------------------------------------------------------------------- execute


def execute(book: Notebook, folder: Path, seconds: int = 900, allow_errors: bool = False) -> str:
    """Run all cells in `folder`, each in so many seconds; return why it ended early in a line or two, or nothing."""
    client = NotebookClient(
        book,
        timeout=seconds,
        allow_errors=allow_errors,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--Application.log_level=CRITICAL"],
    )
    client.comm_open_handlers = {}  # nbclient's own Output widget can hang for the whole timeout after `interact`
    try:
        client.execute()
    except CellExecutionError as why:
        return f"    {failing_cell(book)}\n    {why.ename}: {why.evalue}"
    except CellTimeoutError:
        return f"a cell took longer than {seconds} s"
    except DeadKernelError:
        return "the kernel died"
    except Exception:
        if client.km is None:  # Ctrl-C: nbclient ends its kernel, and then fails at what it has no more
            raise KeyboardInterrupt from None
        raise
    return ""


def failing_cell(book: Notebook) -> str:
    """Which cell failed, counted from 1 among the code cells, and the line of it that a reader can search for."""
    for number, cell in enumerate(code(book), start=1):
        expected = "raises-exception" in cell.metadata.get("tags", [])
        if not expected and any(output.output_type == "error" for output in cell.outputs):
            return f"code cell {number}: {cell.source.strip().splitlines()[0]}"
    return "a cell"


def told(path: Path, work: Callable[[], str]) -> str:
    """Do something with a notebook that returns why it failed, or nothing; print a line of how it went."""
    print(f"{path.stem:<32} ", end="", flush=True)
    start, failure = time.perf_counter(), work()
    print("failed" if failure else f"{time.perf_counter() - start:5.0f} s", flush=True)
    if failure:
        print(failure, file=sys.stderr)
    return failure


def results_table(csv: Path) -> int:
    """Measure super-resolution by 3 and deblocking on the bundled pictures; the number of failures."""
    failed, csv = 0, csv.resolve()  # the command runs in the course's folder, wherever we were called
    csv.parent.mkdir(parents=True, exist_ok=True)
    for task in ("sr-x3", "deblock-q20"):
        command = f"-m helpers evaluate {task} --images bundled --quiet --overwrite --out".split()
        out = csv.with_name(f"{csv.stem}-{task}.csv")
        status = subprocess.run([sys.executable, *command, str(out)], cwd=ROOT).returncode
        if status:  # said here too: a process that was killed says nothing itself
            print(f"error: evaluate {task} ended with code {status}.", file=sys.stderr)
        failed += status != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
