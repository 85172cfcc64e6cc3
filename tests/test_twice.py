"""Each notebook with every code cell run twice in a row: the second run shows what the first did.

A learner runs a cell again to look at it, and must not get another result: a cell that copies what it then changes,
or draws numbers without a seed, is found here. Trainings are cut to two steps, and no claim is checked (`python -O`
leaves out `assert`). Cells that ask a clock are left out, and what goes on by design: `changes-when-repeated`.
"""

import copy
import re
from pathlib import Path

import nbformat
import pytest

from notebooks import run

CHANGES = "changes-when-repeated"
CLOCK = re.compile(r"\bperf_counter\b|\btimed\(|\bstep_times\(")
CHEAP = ("01", "06")  # the others take some minutes each: pytest -m dear tests/test_twice.py
STEPS = re.compile(r"^(\w*STEPS) = [\d_]+", re.MULTILINE)  # in a cell of settings
SHORT = """
import dataclasses
from helpers import evaluation, training
def _short(model, batch, loss, plan, train=training.train, **options):
    return train(model, batch, loss, dataclasses.replace(plan, steps=min(plan.steps, 2)), **options)
training.train = _short
evaluation.evaluate = lambda task, files, *rest, _all=evaluation.evaluate, **options: _all(
    task, list(files)[:2], *rest, **options
)
"""


def shown(cell: run.Notebook) -> str:
    """What a reader sees of a cell's outputs, figures too; without addresses in memory and the names of widgets."""
    texts = [o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout"]
    texts += [o.data.get(kind, "") for o in cell.outputs if "data" in o for kind in ("text/plain", "image/png")]
    return re.sub(r"0x[0-9a-f]+", "0x", "".join(texts))


def differing(book: run.Notebook, folder: Path) -> list[str]:
    """The first lines of the cells that show something else when they are run again."""
    cells = run.code(book)
    doubled = [cell for once in cells for cell in (once, copy.deepcopy(once))]
    for index, cell in enumerate(doubled):
        cell.source, cell.id = STEPS.sub(r"\1 = 2", cell.source), f"cell-{index}"
    book.cells = [*doubled[:2], nbformat.v4.new_code_cell(SHORT), *doubled[2:]]
    failure = run.execute(book, folder)
    assert not failure, failure
    pairs = zip(doubled[::2], doubled[1::2], strict=True)
    differ = [first for first, again in pairs if shown(first) != shown(again)]
    may = [CHANGES in cell.metadata.get("tags", []) or CLOCK.search(cell.source) for cell in differ]
    return [cell.source.strip().splitlines()[0] for cell, allowed in zip(differ, may, strict=True) if not allowed]


def _lessons() -> list:
    dear = {True: pytest.mark.long, False: pytest.mark.dear}
    return [pytest.param(path, id=path.stem, marks=dear[path.stem.startswith(CHEAP)]) for path in run.lessons()]


@pytest.mark.parametrize("path", _lessons())
def test_a_cell_that_is_run_again_shows_the_same(path, monkeypatch):
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    assert differing(run.read(path), path.parent) == []


CELLS = {
    "counter = []": True,  # starts anew each time
    "counter.append(1)\nprint(counter)": False,
    "import torch\nprint(torch.rand(1))": False,
    "torch.manual_seed(0)\nprint(torch.rand(1))": True,
    "from time import perf_counter\nprint(perf_counter())": True,
    "STEPS = 500": True,
    "print(STEPS)": True,
}


def test_a_cell_that_changes_what_it_reads_is_noticed(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in ("1", *CELLS)]
    tagged = nbformat.v4.new_code_cell("counter.append(1)\ncounter", metadata={"tags": [CHANGES]})
    book = nbformat.v4.new_notebook(cells=[*cells, tagged])
    wanted = [source.splitlines()[0] for source, same in CELLS.items() if not same]
    assert differing(book, Path(run.ROOT)) == wanted
    assert book.cells[-3].outputs[0].text == "2\n"
