"""All tables of `data/results`, measured by one command and not measured twice; and what each method costs.

A table is TASK-SET.csv, a row per picture and method. `provenance.json` beside them says of each method in each table
when, from which commit and on what kind of machine it was measured, and holds a fingerprint of its weights and of the
files of code that it ran through. Only what has changed since is measured again, so a benchmark that was stopped goes
on. Where a change can hardly matter (another error message), a spot check of one picture may vouch for the table.
"""

import ctypes
import datetime
import hashlib
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import baselines, codec, datasets, degradations, evaluation, images, models, recipes, sensing, zoo
from ..service.errors import CourseError
from ..service.files import DATA, atomic, sha256

RESULTS = DATA / "results"
COSTS, COSTS_PICTURE, COSTS_TASKS = "costs.csv", "flower", ("sr-x3", "jpeg-q10", "cs-10", "codec")
TWO_LAYERS = f"{codec.DEFAULT} at 96"  # of the table of costs: the quality, where files have a second layer
EXTRA = ("Kodak24",)  # colour sets that are measured where they are; no shipped table is of them
SCORES = ("psnr", "ssim", "ssim_uniform", "psnr_b", "ms_ssim")  # what another processor may round otherwise


def tables() -> list[tuple[str, str]]:
    """(task, set) of all tables."""
    extra = {task: EXTRA for task in ("codec", *degradations.JPEG_COLOR_TASKS)}
    return [(t, n) for t in evaluation.TASKS for n in (*evaluation.test_sets(t), *extra.get(t, ()), "bundled")]


def run(tasks: Sequence[str], folder: str | os.PathLike = RESULTS, spot_check: bool = False) -> Iterator[tuple]:
    """Measure what is not measured yet: yields (task, set, method, seconds), None for the seconds of what was skipped.

    `tasks`: none means all. `spot_check`: first one picture of each method; where its scores are those of the table,
    the table stays. Raises CourseError for an unknown task or a picture that cannot be measured.
    """
    folder = Path(folder)
    if unknown := {*tasks} - {*evaluation.TASKS, "costs"}:
        raise CourseError(f"no table is called {min(unknown)!r}; try {', '.join(evaluation.TASKS)}, costs.")
    for task, name in tables():
        if tasks and task not in tasks:
            continue
        try:
            files = datasets.folder(name)
        except CourseError:
            yield task, name, "", None  # a set that is not here
            continue
        for method in evaluation.methods_here(task):
            where = folder, task, name, method
            if _is_current(*where) or (spot_check and _agrees(*where, files)):
                continue
            start = time.perf_counter()
            measured, failures = evaluation.evaluate(task, files, [method], name, progress=False)
            if failures:
                raise CourseError(failures[0])
            _keep(*where, measured, [file.name for file in files])
            yield task, name, method, time.perf_counter() - start
    if "costs" in tasks or not (tasks or spot_check):  # seconds cannot be spot-checked
        keys = {f"costs/{task}/{name}": (task, name) for task in COSTS_TASKS for name in evaluation.methods_here(task)}
        known = {key: about["fingerprint"] for key, about in _provenance(folder).items()}
        if not (folder / COSTS).is_file() or any(known.get(k) != fingerprint(*keys[k]) for k in keys):
            start = time.perf_counter()
            rows = [costs(task, datasets.bundled(COSTS_PICTURE)) for task in COSTS_TASKS]
            _write(folder, COSTS, pd.concat(rows), keys)
            yield "costs", COSTS_PICTURE, "all methods", time.perf_counter() - start


def costs(task: str, picture: str | os.PathLike, repeats: int = 5) -> pd.DataFrame:
    """What the methods of a task cost on one picture, a row each. Let nothing else run on the machine.

    Seconds for a megapixel, the median of `repeats` after a warm-up, and of a codec those to read alone; parameters;
    multiply-adds per pixel; and the MiB of memory that a picture of four times as many pixels takes at the peak, beyond
    program and weights (on Linux, in a process of its own).
    """
    pixels = images.load_uint8(picture)
    rows = []
    for name in evaluation.methods_here(task) + [TWO_LAYERS] * (task == "codec"):
        seconds = seconds_per_megapixel(action(task, name, pixels), pixels, repeats)
        network = name.partition(" at ")[0]
        card = _card(network)
        alone = card and card["weights"].stem == name  # not a codec around a network
        row = {"task": task, "method": name, "seconds per megapixel": seconds}
        reading = action(task, name, pixels, reading=True) if task == "codec" else None
        row["of these to read"] = reading and seconds_per_megapixel(reading, pixels, repeats)
        row |= {"parameters": sum(found["parameters"] for found in (card, _card(f"{network}-detail")) if found)}
        row |= {"multiply-adds": models.multiply_adds(zoo.load(name)) if alone else None}
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            rows.append(row | {"peak MiB": fresh.submit(peak, task, name, picture).result()})
    return pd.DataFrame(rows)


def seconds_per_megapixel(work: Callable, picture: torch.Tensor, repeats: int) -> float:
    """The median of `repeats` runs of `work` on a picture, after one that warms up."""
    work()
    seconds = statistics.median(evaluation.timed(work)[1] for _ in range(repeats))
    return round(seconds * 1e6 / picture[0].numel(), 5)


def action(task: str, name: str, picture: torch.Tensor, reading: bool = False) -> Callable:
    """One method on one uint8 picture, ready to run, without measuring its quality.

    Of a codec, the name may end in "at" a quality, otherwise it is a middle setting. `reading`: the file is there.
    """
    name, _, quality = name.partition(" at ")
    model = evaluation.load_method(name, task)
    if not task.startswith("codec"):
        return evaluation.trial(task, images.luma_uint8(picture), model)[0]  # one plane for all
    setting = float(quality) if quality else model.settings[len(model.settings) // 2]
    if reading:
        data = model.encode(picture, setting)
        return lambda: model.decode(data)
    return lambda: model.decode(model.encode(picture, setting))


def peak(task: str, name: str, picture: str | os.PathLike) -> float | None:
    """MiB that a picture of four times the pixels takes at its peak, told in a fresh process; None but on Linux."""
    if platform.libc_ver()[0] != "glibc" or not os.access("/proc/self/clear_refs", os.W_OK):
        return None
    libc, pixels = ctypes.CDLL(None), images.load_uint8(picture)
    for option in (-1, -3, -4):  # give back what is freed: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX of malloc.h
        libc.mallopt(option, 2**16)
    action(task, name, pixels[:, :192, :192])()
    work = action(task, name, pixels.repeat(1, 2, 2))  # twice as high and wide
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = memory_mib("VmRSS")
    work()
    return round(memory_mib("VmHWM") - before, 1)


def memory_mib(key: str) -> float:
    """MiB that this process takes, by a line of its status such as VmRSS; on Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def fingerprint(task: str, name: str) -> str:
    """A hash of what a method's figures depend on: the files of code that it runs through, weights or settings."""
    modules, facts = {"images", "degradations", "metrics", "evaluation"}, ""
    if task.startswith("codec"):
        modules |= {"codec", "rangecoder", "sensing", "baselines"}
    if name in baselines.METHODS:
        modules.add("baselines")
        facts = json.dumps(baselines.find(name, task).settings)
    for card in filter(None, (_card(name), _card(f"{name}-detail"))):
        network = zoo.load(card["weights"].stem)
        kinds = {kind.__module__ for part in network.modules() for kind in type(part).__mro__}
        modules |= {kind.removeprefix("helpers.") for kind in kinds if kind.startswith("helpers.")}
        modules |= {"models.base", "service.devices"}
        facts += card["sha256"]
    code = sha256(*sorted(DATA.parent / "helpers" / f"{module.replace('.', '/')}.py" for module in modules))
    return hashlib.sha256(f"{code} {facts}".encode()).hexdigest()[:16]


def _card(method: str) -> dict:
    """The card of the network in a method; empty where there is none."""
    network = method.partition("+")[2] or (sensing.DEFAULT if method == evaluation.SENSED else method)
    return zoo.card(network) if zoo.has(network) else {}


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
    if about.get("weights") != _card(method).get("sha256") or set(table["image"]) != {each.name for each in files}:
        return False
    measured, _ = evaluation.evaluate(task, [file], [method], name, progress=False)
    pair = table[table["image"] == file.name], measured
    then, now = (rows.select_dtypes("number").drop(columns="seconds") for rows in pair)
    if not then.columns.equals(now.columns) or len(then) != len(now):
        return False
    within = [5e-4 if column in SCORES else 1e-9 for column in then]
    then, now = then.to_numpy(float), now.to_numpy(float)
    if not ((abs(then - now) <= within) | np.isnan(then) & np.isnan(now)).all():
        return False
    checked = {"date": datetime.date.today().isoformat(), "commit": recipes.commit(), "image": file.name}
    _note(folder, {key: about | {"fingerprint": fingerprint(task, method), "spot_checked": checked}})
    return True


def _keep(folder: Path, task: str, name: str, method: str, rows: pd.DataFrame, order: list[str]) -> None:
    """Put one method's rows into their table, in the order of pictures and methods, and say where they come from."""
    before, methods = _table(folder, task, name), evaluation.methods_for(task)
    before = before[(before["method"] != method) & before["method"].isin(methods) & before["image"].isin(order)]
    rows = pd.concat([before, rows]) if len(before) else rows
    places = {"image": order, "method": methods}
    keys = [key for key in (*places, "setting") if key in rows]
    rows = rows.sort_values(keys, key=lambda t: t.map(places[t.name].index) if t.name in places else t)
    _write(folder, f"{task}-{name}.csv", rows, {f"{task}/{name}/{method}": (task, method)})


def _write(folder: Path, name: str, rows: pd.DataFrame, measured: dict[str, tuple[str, str]]) -> None:
    """Write a table, and say of what was measured when, from which commit and where."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / name) as temporary:
        rows.to_csv(temporary, index=False)
    kind = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"  # in words that name no one's machine
    about = {"date": datetime.date.today().isoformat(), "commit": recipes.commit()}
    about["machine"] = f"{kind}, PyTorch {torch.__version__.partition('+')[0]}"
    entries = {
        key: {"fingerprint": fingerprint(task, method), "weights": _card(method).get("sha256"), **about}
        for key, (task, method) in measured.items()
    }
    _note(folder, entries)


def _note(folder: Path, entries: dict[str, dict]) -> None:
    known = _provenance(folder) | entries
    zoo.write_card(folder / "provenance.json", dict(sorted(known.items())))


def _provenance(folder: Path) -> dict[str, dict]:
    """What is noted of tables."""
    path = folder / "provenance.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _table(folder: Path, task: str, name: str) -> pd.DataFrame:
    """A table of results, without rows where there is none yet."""
    path = folder / f"{task}-{name}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=evaluation.COLUMNS)
