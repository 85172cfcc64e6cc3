"""Run the notebooks end to end: `make course` (copies and HTML under build/) and `make notebooks` (in place).

python notebooks/run.py [--in-place] [--out build] [NOTEBOOK ...]
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # found from any folder

from helpers.files import atomic  # noqa: E402

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; 1 if a notebook failed, 2 for bad input."""
    options = parse(arguments)
    files = options.notebooks or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    missing = [path for path in files if not path.is_file()]
    if missing:
        print(f"error: {missing[0]}: no such notebook; check the name.", file=sys.stderr)
        return 2
    start, failed = time.perf_counter(), 0
    for path in files:
        failed += not run_one(path, None if options.in_place else options.out)
    if not options.in_place and not options.notebooks:
        failed += results_table(options.out / "results.csv")
    print(f"{'total':<32} {time.perf_counter() - start:5.0f} s" + (f", {failed} failed" if failed else ""))
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--in-place", action="store_true", help="store the outputs in the notebooks themselves")
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="folder of copies, HTML and results")
    return parser.parse_args(arguments)


def run_one(path: Path, out: Path | None) -> bool:
    """Execute one notebook, print a line, write it: into `out`, or in place, and there only if all cells ran."""
    print(f"{path.stem:<32} ", end="", flush=True)
    start = time.perf_counter()
    try:
        book = read(path)
    except ValueError as why:
        print("failed", flush=True)
        print(f"error: {path}: {why}", file=sys.stderr)
        return False
    failure = execute(book, path.parent)
    print("failed" if failure else f"{time.perf_counter() - start:5.0f} s", flush=True)
    if failure:
        print(failure, file=sys.stderr)
    if out is not None:
        write(book, out / "notebooks" / path.name)
        page, _ = HTMLExporter().from_notebook_node(book)
        (out / "html").mkdir(parents=True, exist_ok=True)
        (out / "html" / f"{path.stem}.html").write_text(page, encoding="utf-8")
    elif not failure:
        normalise(book)
        write(book, path)
    return not failure


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook; a file that is none raises ValueError."""
    try:
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
    except (ValueError, AttributeError, nbformat.ValidationError):
        raise ValueError("not a notebook, or a damaged one; restore it with git.") from None
    return book


def execute(book: nbformat.NotebookNode, folder: Path) -> str:
    """Run all cells in `folder`; return the failing cell and its error in a few lines, or nothing."""
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        book,
        timeout=900,
        kernel_name="python3",
        record_timing=False,
        resources=resources,
        extra_arguments=["--Application.log_level=ERROR"],
    )
    client.comm_open_handlers = {}  # nbclient's own Output widget can hang for the whole timeout after `interact`
    try:
        client.execute()
    except CellExecutionError as why:
        return f"    {failing_cell(book)}\n    {why.ename}: {why.evalue}"
    except (CellTimeoutError, DeadKernelError) as why:
        return f"{type(why).__name__}: {str(why).splitlines()[0]}"
    return ""


def failing_cell(book: nbformat.NotebookNode) -> str:
    """Which cell failed, counted from 1 among the code cells, and the line of it that a reader can search for."""
    codes = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]
    for number, cell in enumerate(codes, start=1):
        expected = "raises-exception" in cell.metadata.get("tags", [])
        if not expected and any(output.output_type == "error" for output in cell.outputs):
            return f"code cell {number}: {cell.source.strip().splitlines()[0]}"
    return "a cell"


def normalise(book: nbformat.NotebookNode) -> None:
    """Keep what a reader needs: no widget state, timings, or version of the kernel; outputs of widgets stay text."""
    book.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for cell in book.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        if not cell.source.strip():  # not run, so what it stores is from another time
            cell.execution_count, cell.outputs = None, []
        if any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in cell.outputs):
            # the figure under a slider belongs to the widget, which a stored notebook does not have
            cell.outputs = [output for output in cell.outputs if "image/png" not in output.get("data", {})]
        for output in cell.outputs:
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
            if "data" in output and "text/plain" in output["data"]:
                output["data"]["text/plain"] = without_paths(output["data"]["text/plain"])


def without_paths(text: str) -> str:
    """The machine's own folders cut from a text, so that a notebook names files by their place in the course."""
    return text.replace(f"{ROOT}/", "")


def write(book: nbformat.NotebookNode, path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        nbformat.write(book, temporary)


def results_table(csv: Path) -> int:
    """Measure super-resolution by 3 and deblocking on the bundled pictures; the number of failures."""
    failed, csv = 0, csv.resolve()  # the command runs in the course's folder, wherever we were called
    for task in ("sr-x3", "deblock-q20"):
        out = csv.with_name(f"{csv.stem}-{task}.csv")
        command = [
            sys.executable,
            "-m",
            "helpers",
            "evaluate",
            task,
            "--images",
            "bundled",
            "--out",
            str(out),
            "--quiet",
        ]
        csv.parent.mkdir(parents=True, exist_ok=True)
        code = subprocess.run(command, cwd=ROOT).returncode
        if code:  # said here too: a process that was killed says nothing itself
            print(f"error: evaluate {task} ended with code {code}.", file=sys.stderr)
        failed += code != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
