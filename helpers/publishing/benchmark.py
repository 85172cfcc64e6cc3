"""All tables of `data/results`, measured by one command and not measured twice; and what each method costs.

A table is TASK-SET.csv, a row per picture and method. `provenance.json` beside them says of each method in each table
when, from which commit and on what kind of machine it was measured, and holds a fingerprint of its weights and of the
code that it ran through. Only what has changed since is measured again, so a benchmark that was stopped goes on.
Where a change can hardly matter (another error message), a spot check of one picture may vouch for the table.
"""

import ast
import datetime
import functools
import hashlib
import importlib.util
import io
import json
import os
import platform
import subprocess
import sys
import time
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import baselines, datasets, evaluation, images, models, recipes, sensing, zoo
from ..service import devices
from ..service.errors import CourseError
from ..service.files import DATA, atomic

RESULTS = DATA / "results"
COSTS, COSTS_PICTURE = "costs.csv", "flower"
SCORES = ("psnr", "ssim", "ssim_uniform", "psnr_b", "ms_ssim")  # what another processor may round otherwise
PROTOCOL = ("images", "degradations", "metrics", "evaluation")  # the code that every method runs through
PEAK = """
import ctypes, sys
from helpers import images
from helpers.publishing import benchmark
for option in (-1, -3, -4):  # give back what is freed: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX of malloc.h
    ctypes.CDLL(None).mallopt(option, 2**16)
def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) / 1024
task, name, picture = sys.argv[1:]
picture = images.load_uint8(picture)
benchmark.action(task, name, picture[:, :192, :192])()
work = benchmark.action(task, name, picture.repeat(1, 2, 2))  # twice as high and wide
ctypes.CDLL(None).malloc_trim(0)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # forget the peak so far
before = status("VmRSS")
work()
print(status("VmHWM") - before)
"""


def tables() -> list[tuple[str, str]]:
    """(task, set) of all tables."""
    return [(task, name) for task in evaluation.TASKS for name in (*evaluation.test_sets(task), "bundled")]


def run(
    tasks: list[str] | None = None,
    folder: str | os.PathLike = RESULTS,
    again: bool = False,
    spot_check: bool = False,
) -> Iterator[tuple[str, str, str, float | None]]:
    """Measure what is not measured yet: yields (task, set, method, seconds), None for the seconds of what was skipped.

    `again`: all of `tasks`, whatever is there. `spot_check`: first one picture of each method; where its scores are
    those of the table, the table stays. Raises CourseError for a picture that cannot be measured.
    """
    folder = Path(folder)
    for task, name in tables():
        if tasks and task not in tasks:
            continue
        try:
            files = datasets.folder(name)
        except CourseError:
            yield task, name, "", None  # a set that is not here
            continue
        for method in evaluation.methods_for(task):
            if not again and _is_current(folder, task, name, method):
                continue
            if spot_check and not again and _agrees(folder, task, name, method, files):
                continue
            start = time.perf_counter()
            measured, failures = evaluation.evaluate(task, files, [method], name, progress=False)
            if failures:
                raise CourseError(failures[0])
            _keep(folder, task, name, method, measured, [file.name for file in files])
            yield task, name, method, time.perf_counter() - start


def write_costs(folder: str | os.PathLike = RESULTS, again: bool = False) -> bool:
    """Write the table of costs on a bundled photograph, if a method of it has changed; True if it did.

    Seconds are those of a quiet machine: let nothing else run.
    """
    folder, tasks = Path(folder), ("sr-x3", "jpeg-q10", "cs-10", "codec")
    about = {f"costs/{task}/{name}": fingerprint(task, name) for task in tasks for name in evaluation.methods_for(task)}
    known = {key: noted["fingerprint"] for key, noted in _provenance(folder).items()}
    if not again and (folder / COSTS).is_file() and known | about == known:
        return False
    _write_table(folder / COSTS, pd.concat([costs(task, datasets.bundled(COSTS_PICTURE)) for task in tasks]))
    _note(folder, about)
    return True


def costs(task: str, picture: str | os.PathLike, repeats: int = 5) -> pd.DataFrame:
    """What the methods of a task cost on one picture, a row each.

    Seconds for a megapixel, the median of `repeats` after a warm-up; parameters; multiply-adds per pixel; and the MiB
    of memory that a picture of four times as many pixels takes at the peak, beyond program and weights (on Linux, in
    a process of its own).
    """
    pixels = images.load_uint8(picture)
    rows = []
    for name in evaluation.methods_for(task):
        work = action(task, name, pixels)
        work()
        seconds = evaluation.timed(work, repeats)[1] * 1e6 / pixels[0].numel()
        card = _card(name)
        alone = card and card["weights"].stem == name  # not a codec around a network
        row = {"task": task, "method": name, "seconds per megapixel": round(seconds, 5)}
        row |= {"parameters": card["parameters"] if card else 0}
        row |= {"multiply-adds": models.multiply_adds(zoo.load(name)) if alone else None}
        rows.append(row | {"peak MiB": _peak(task, name, picture)})
    return pd.DataFrame(rows)


def action(task: str, name: str, picture: torch.Tensor) -> Callable:
    """One method on one uint8 picture, ready to run, without measuring its quality; of a codec, a middle setting."""
    model = evaluation.load_method(name, task)
    if not task.startswith("codec"):
        return evaluation.trial(task, images.luma_uint8(picture), model)[0]  # one plane for all
    setting = model.settings[len(model.settings) // 2]
    return lambda: model.decode(model.encode(picture, setting))


def fingerprint(task: str, name: str) -> str:
    """A hash of what a method's figures depend on: weights or settings, and code without comments and docstrings."""
    modules, facts = [*PROTOCOL], []
    if name in baselines.METHODS:
        modules.append("baselines")
        facts.append(json.dumps(baselines.find(name, task).settings))
    if card := _card(name):
        modules += _modules_of(zoo.load(card["weights"].stem))
        facts.append(card["sha256"])
    if task.startswith("codec"):
        modules += ["codec", "sensing", "baselines"]
    return hashlib.sha256("\n".join([*map(_code, modules), *facts]).encode()).hexdigest()[:16]


def _card(method: str) -> dict | None:
    """The card of the network in a method, if there is one."""
    network = method.partition("+")[2] or (sensing.DEFAULT if method == evaluation.SENSED else method)
    return zoo.card(network) if (zoo.WEIGHTS / f"{network}.json").is_file() else None


def _weights(method: str) -> str | None:
    """The SHA-256 of a method's weights; None where it has none."""
    return (_card(method) or {}).get("sha256")


def machine() -> str:
    """The kind of machine, in words that name no one's: processor, cores, PyTorch."""
    kind = platform.machine()
    return f"{platform.system()} {kind}, {os.cpu_count()} cores, PyTorch {torch.__version__.partition('+')[0]}"


def _modules_of(model: torch.nn.Module) -> list[str]:
    """The modules of `helpers` that a network's parts and the classes below them are defined in, and what all use."""
    found = {kind.__module__ for part in model.modules() for kind in type(part).__mro__}
    found |= {models.base.__name__, devices.__name__}
    return sorted(name.removeprefix("helpers.") for name in found if name.startswith("helpers."))


@functools.cache
def _code(module: str) -> str:
    path = Path(importlib.util.find_spec(f"helpers.{module}").origin)
    return without_words(path.read_text(encoding="utf-8"))


def without_words(source: str) -> str:
    """Code without comments, docstrings and blank lines, as every Python reads it."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            lines[docstring.lineno - 1 : docstring.end_lineno] = [""] * (docstring.end_lineno - docstring.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _is_current(folder: Path, task: str, name: str, method: str) -> bool:
    about = _provenance(folder).get(f"{task}/{name}/{method}", {})
    return about.get("fingerprint") == fingerprint(task, method) and method in set(_table(folder, task, name)["method"])


def _agrees(folder: Path, task: str, name: str, method: str, files: list[Path]) -> bool:
    """Whether a table of all pictures, by the same weights, has the scores that one picture gets now; then stamp it.

    Scores may differ by 0.0005, as on another processor; bits may not.
    """
    key, file = f"{task}/{name}/{method}", files[len(files) // 2]
    about, table = _provenance(folder).get(key, {}), _table(folder, task, name)
    table = table[table["method"] == method]
    if about.get("weights") != _weights(method) or set(table["image"]) != {each.name for each in files}:
        return False
    measured, _ = evaluation.evaluate(task, [file], [method], name, progress=False)
    tables = table[table["image"] == file.name], measured
    then, now = (rows.select_dtypes("number").drop(columns="seconds") for rows in tables)
    if not then.columns.equals(now.columns) or len(then) != len(now):
        return False
    within = [5e-4 if column in SCORES else 1e-9 for column in then]
    if not np.isclose(then, now, rtol=0, atol=within, equal_nan=True).all():
        return False
    checked = {"date": datetime.date.today().isoformat(), "commit": recipes.commit(), "image": file.name}
    _write(folder, {key: about | {"fingerprint": fingerprint(task, method), "spot_checked": checked}})
    return True


def _keep(folder: Path, task: str, name: str, method: str, rows: pd.DataFrame, order: list[str]) -> None:
    """Put one method's rows into their table, in the order of pictures and methods, and say where they come from."""
    before, methods = _table(folder, task, name), evaluation.methods_for(task)
    before = before[(before["method"] != method) & before["method"].isin(methods) & before["image"].isin(order)]
    rows = pd.concat([before, rows]) if len(before) else rows
    places = {"image": order, "method": methods}
    keys = [key for key in (*places, "setting") if key in rows]
    rows = rows.sort_values(keys, key=lambda t: t.map(places[t.name].index) if t.name in places else t)
    _write_table(folder / f"{task}-{name}.csv", rows)
    _note(folder, {f"{task}/{name}/{method}": fingerprint(task, method)})


def _write_table(path: Path, rows: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        rows.to_csv(temporary, index=False)


def _note(folder: Path, fingerprints: dict[str, str]) -> None:
    """Say of what was measured when, from which commit and where."""
    about = {"date": datetime.date.today().isoformat(), "commit": recipes.commit(), "machine": machine()}
    weights = {key: _weights(key.rpartition("/")[2]) for key in fingerprints}
    _write(folder, {key: {"fingerprint": fingerprints[key], "weights": weights[key]} | about for key in fingerprints})


def _write(folder: Path, entries: dict[str, dict]) -> None:
    known = _provenance(folder) | entries
    with atomic(folder / "provenance.json") as temporary:
        temporary.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


def _provenance(folder: Path) -> dict[str, dict]:
    """What is noted of tables. Raises CourseError where the file is damaged."""
    path = folder / "provenance.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        damaged = not all(isinstance(about["fingerprint"], str) for about in known.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        damaged = True
    if damaged:
        raise CourseError(f"{path}: damaged; get it again, or remove it and all is measured again.")
    return known


def _table(folder: Path, task: str, name: str) -> pd.DataFrame:
    """A table of results, without rows where there is none yet. Raises CourseError where the file is damaged."""
    path = folder / f"{task}-{name}.csv"
    try:
        found = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=evaluation.COLUMNS)
        names = found[["image", "method"]]
    except (ValueError, KeyError, OverflowError):
        raise CourseError(f"{path}: no table of results; get it again, or remove it.") from None
    if not all(isinstance(name, str) for column in names for name in names[column]):
        raise CourseError(f"{path}: lacks names of pictures or methods; get it again, or remove it.")
    return found


def _peak(task: str, name: str, picture: str | os.PathLike) -> float | None:
    """MiB that one more picture takes at its peak, in a process of its own; None where it cannot be told."""
    if platform.libc_ver()[0] != "glibc" or not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, "-c", PEAK, task, name, str(picture)]
    asked = subprocess.run(command, capture_output=True, text=True, cwd=DATA.parent)
    return round(float(asked.stdout.split()[-1]), 1) if asked.returncode == 0 else None
