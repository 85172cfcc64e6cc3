"""The course on a GPU: each notebook, network and recipe tried, and what they take measured (make test-gpu).

    python tests/gpu.py [--device cuda|cpu] [--quick] [--minutes 5] [--out FILE.csv] [PART ...]

Wants what `helpers` imports; no Jupyter, no network, no image sets. Parts: restoring, training, files, the notebooks 01
to 06, begun in this order, up to six at once; then timing, alone. Each is a process of its own, so that one which
fails, hangs or breaks the card leaves the others alone, and writes each number at once into data/results/gpu.csv.
Exit code 1 where something failed. `--device cpu` has a pretended GPU (tests/pretended.py) and writes no table.
`--quick` trains some steps on small patches; a notebook's asserts are computed there, and not held to.
"""

import argparse
import ast
import copy
import csv
import datetime
import io
import itertools
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import connection, get_context
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import pretended  # noqa: E402
import torch  # noqa: E402

from helpers import codec, datasets, degradations, evaluation, images, losses, metrics  # noqa: E402

from helpers import models, recipes, sensing, training, zoo  # noqa: E402  # isort: skip
from helpers.publishing import benchmark  # noqa: E402
from helpers.service import devices  # noqa: E402

TABLE = ROOT / "data" / "results" / "gpu.csv"
COLUMNS = ["device", "driver", "torch", "date", "commit", "part", "name", "measure", "value"]
# Largest differences from the CPU that pass, of pictures in [0, 1]. PyTorch lets cuDNN's convolutions round their
# inputs to TF32, 10 bits of mantissa, unless it is told not to; the package leaves that as it is. So both are measured.
EXACT, ROUNDED, HALF = 0.1 / 255, 1 / 255, 3 / 255  # gray levels
TRAINED_BATCH, QUICK_PATCH, QUICK_STEPS = 8, 32, 3
DEVICE = torch.device("cuda", 0)


class Fault(AssertionError):
    """What a check found to be wrong."""


@dataclass
class Report:
    """What a part finds: numbers, written to the table at once, and faults, printed at once."""

    part: str
    about: dict
    table: Path | None = None
    quick: bool = False
    faults: int = 0

    @contextmanager
    def check(self, name: str) -> Iterator[None]:
        """Whatever goes wrong within is a fault, told with its place, and the next check follows."""
        try:
            yield
        except Exception as why:
            self.faults += 1
            lines = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(why.__traceback__)[1:]]
            said = f"{type(why).__name__}: {why}".strip().splitlines()[0]
            print(f"FAULT  {self.part}, {name}: {said}  [{' > '.join(lines[-4:])}]", flush=True)

    def measured(self, name: str, measure: str, value: float) -> None:
        """A row of the table, and a line."""
        print(f"       {self.part:<10} {name:<18} {measure:<44} {value:.4g}", flush=True)
        if self.table:
            with open(self.table, "a", newline="", encoding="utf-8") as file:
                row = [*self.about.values(), self.part, name, measure, f"{value:.6g}"]
                csv.writer(file, lineterminator="\n").writerow(row)


# ------------------------------------------------------------------------------------------- notebooks


def slider(value=None, *_, **options) -> mock.MagicMock:
    """Stands for a slider: it has a value, and does nothing."""
    return mock.MagicMock(value=value, **options)


def interact(function: Callable, **knobs) -> Callable:
    """Call the function once, as the real one does at first."""
    function(**{name: getattr(knob, "value", knob) for name, knob in knobs.items()})
    return function


def without_jupyter() -> None:
    """Put stand-ins where notebooks import IPython and ipywidgets from."""
    shell = mock.MagicMock(version_info=(9, 0), get_ipython=lambda: None)
    widgets = mock.MagicMock(interact=interact, FloatSlider=slider, IntSlider=slider)
    sys.modules |= {"IPython": shell, "IPython.display": shell.display, "ipywidgets": widgets}


class Shorter(ast.NodeTransformer):
    """Code for a smoke test: loops that train take three turns, asserts are computed and not held to."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return ast.copy_location(ast.Expr(node.test), node)

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        if any(isinstance(part, ast.Attribute) and part.attr == "backward" for part in ast.walk(node)):
            short = f"__import__('itertools').islice({ast.unparse(node.iter)}, {QUICK_STEPS})"
            node.iter = ast.parse(short, mode="eval").body
        return node


def compiled(source: str, name: str, quick: bool):
    """A cell as code: lines that are IPython's own do nothing."""
    plain = re.sub(r"^(\s*)[!%](?:.*\\\n)*.*$", r"\1pass", source, flags=re.MULTILINE)
    if quick:
        plain = re.sub(r"^(\w+_STEPS) = [\d_]+", rf"\1 = {QUICK_STEPS}", plain, flags=re.MULTILINE)
    tree = ast.parse(plain, name)
    return compile(ast.fix_missing_locations(Shorter().visit(tree)) if quick else tree, name, "exec")


def notebook(report: Report, path: Path) -> None:
    """All code cells from top to bottom, without a kernel; each cell's error is a fault."""
    import matplotlib.pyplot as plt

    without_jupyter()
    os.chdir(path.parent)
    names, start = {"__name__": "__main__"}, time.perf_counter()
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    with shortened() if report.quick else nullcontext():
        for number, cell in enumerate(cells, start=1):
            with report.check(f"code cell {number} ({cell['id']})"), redirect_stdout(io.StringIO()):
                with redirect_stderr(io.StringIO()):
                    exec(compiled("".join(cell["source"]), f"cell {number}", report.quick), names)
            plt.close("all")
    report.measured(path.stem, "seconds", time.perf_counter() - start)


@contextmanager
def shortened() -> Iterator[None]:
    """Within it, `helpers` trains for some steps and measures one picture; other processes are not begun."""
    train, evaluate = training.train, evaluation.evaluate

    def briefly(model, batch, loss, plan, validation=(), **options):
        plan, validation = replace(plan, steps=min(plan.steps, QUICK_STEPS)), [corner(*pair) for pair in validation]
        return train(model, batch, loss, plan, validation=validation, **options)

    def one(task, files, *rest, **options):
        return evaluate(task, list(files)[:1], *rest, **options)

    done = subprocess.CompletedProcess([], 0, "", "")
    with mock.patch.object(training, "train", briefly), mock.patch.object(evaluation, "evaluate", one):
        with mock.patch.object(subprocess, "run", lambda *_, **__: done):
            yield


def corner(x: torch.Tensor, y: torch.Tensor, side: int = 96) -> training.Pair:
    """The upper left of a pair; ResCSNet's, of 100 pixels, are left as they are."""
    scale = y.shape[-1] // x.shape[-1]
    part = (..., slice(side // scale), slice(side // scale))
    return (x, y) if x.shape[-1] == 100 else (x[part], y[..., : side // scale * scale, : side // scale * scale])


# ------------------------------------------------------------------------------------------- restoring


def difference(there: torch.Tensor, here: torch.Tensor) -> float:
    """The largest absolute difference of two tensors, wherever they are."""
    return (there.cpu().double() - here.cpu().double()).abs().max().item()


def restoring(report: Report) -> None:
    """Each shipped network on the device against the CPU; those of codecs are tried by their files, in `files`."""
    side = 96 if report.quick else 192
    picture = images.load(datasets.bundled("chelsea"))[:, 60 : 60 + side, 120 : 120 + side + 24]
    for name in zoo.available().index:
        task = zoo.card(name)["task"]
        if not task.startswith("codec"):
            with report.check(name):
                model = zoo.load(name)
                agree(report, name, model, copy.deepcopy(model).to(DEVICE), task, picture)


def agree(report: Report, name: str, model, there, task: str, picture: torch.Tensor) -> None:
    """Compare a network with its copy on the device, and measure how far they differ. Raises Fault."""
    given, found = picture if task == "cs" else degraded(task, picture), {}
    with ExitStack() as afterwards:
        afterwards.callback(setattr, torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
        torch.backends.cudnn.allow_tf32 = False
        found["float32"] = (outputs(model, there, given), EXACT)
    if not report.quick:  # a pretended card has no TF32
        found["TF32 as PyTorch has it"] = (outputs(model, there, given), ROUNDED)
    if getattr(model, "adds_to_input", False):
        pair = there.restore(given.to(DEVICE), half=True), model.restore(given)
        found["half precision"] = (difference(*pair), HALF)
    for way, (value, _) in found.items():
        report.measured(name, f"largest difference, {way}", value)
    for way, (value, most) in found.items():
        if not value <= most:
            raise Fault(f"largest difference, {way} {value:.2g} > {most:.2g}")


def degraded(task: str, picture: torch.Tensor) -> torch.Tensor:
    task = "jpeg-color-q20" if task == "jpeg" else task
    clean = images.to_uint8(images.crop_to_multiple(picture, degradations.scale_of(task)))
    return images.to_float(degradations.for_task(task)(clean))


@torch.no_grad()
def outputs(model, there, given: torch.Tensor) -> float:
    """How far a network and its copy differ: on colour and gray, whole and in tiles, or at two ratios."""
    gray, tile = images.luma(given), 48 * getattr(model, "scale", 1)
    if isinstance(model, models.ResCSNetAny):
        pairs = [(there.reconstruct(gray.to(DEVICE), r), model.reconstruct(gray, r)) for r in (0.01, 0.1)]
    else:
        ways = itertools.product((given, gray), (None, tile))
        pairs = [(there.restore(x.to(DEVICE), side), model.restore(x, side)) for x, side in ways]
        pairs.append((there.restore(given), pairs[0][1]))  # a picture of the CPU's, too
    return max(difference(*pair) for pair in pairs)


# ------------------------------------------------------------------------------------------- training


def small(name: str, quick: bool, **changes) -> recipes.Recipe:
    """A recipe on the bundled pictures."""
    recipe = recipes.find(name)
    if quick:
        changes |= {"batch": 2} | ({} if recipe.network["kind"] == "rescsnet" else {"patch": QUICK_PATCH})
    return recipes.changed(recipe, sets=("bundled",), **changes)


def trained(report: Report) -> None:
    """Each recipe, or one of each kind of network, on one batch, which it must learn; then on from its checkpoint."""
    kinds = {recipe.network["kind"]: name for name, recipe in reversed(recipes.RECIPES.items())}
    for name in sorted(kinds.values()) if report.quick else recipes.RECIPES:
        with report.check(name), tempfile.TemporaryDirectory() as folder:
            learns(report, name, Path(folder))


def learns(report: Report, name: str, folder: Path) -> None:
    """Train a recipe, go on with it on the CPU, on the device, in float16, and on the CPU again. Raises Fault."""
    steps, rate = 1 if report.quick else 30, recipes.find(name).plan.learning_rate / 10  # slowly, so that it falls
    recipe = small(name, report.quick, steps=steps, learning_rate=rate, batch=TRAINED_BATCH)
    batches, validation = recipes.prepare(recipe)
    pair, held, loss = batches(0), [corner(*validation[0])], losses.LOSSES[recipe.loss]()
    before = value(recipes.network(recipe), loss, pair, recipe.plan.shave)
    report.measured(name, "loss before", before)

    def run(steps: int, where: str, out: Path, falls: bool = False) -> None:
        model, plan = recipes.network(recipe), replace(recipe.plan, steps=steps)
        options = {"out": out, "resume": True, "device": where, "validation": held, "progress": False}
        log = training.train(model, lambda step, rank: pair, loss, plan, **options)
        after = value(model, loss, pair, recipe.plan.shave)
        if log[-1]["step"] != steps or (steps > recipe.plan.steps and len(log) < 2) or not math.isfinite(after):
            raise Fault(f"on {where} up to step {steps} the loss is {after:.4g}, the log {log}")
        if falls:
            report.measured(name, f"loss after, {devices.precision(DEVICE)}", after)
        if falls and not report.quick and not after < before:
            raise Fault(f"after {steps} steps on one batch the loss is {after:.4g}, before {before:.4g}")

    run(steps, "cuda", folder / "run", falls=True)
    run(steps + 1, "cpu", folder / "run")
    if not report.quick:
        run(steps + 2, "cuda", folder / "run")
    with mock.patch.object(torch.cuda, "get_device_capability", lambda device=None: (7, 5)):  # a T4: float16
        run(steps + 3, "cuda", folder / "run")  # whose scaler is new
        if not report.quick:
            run(steps, "cuda", folder / "float16", falls=True)
            run(steps + 1, "cpu", folder / "float16")


@torch.no_grad()
def value(model, loss: Callable, pair: training.Pair, shave: int) -> float:
    """The loss of a batch, with the same noise each time."""
    torch.manual_seed(0)
    x, y = (t.to(DEVICE) for t in pair)
    return training._loss(loss, model.to(DEVICE).train()(x), y, shave).item()


# ------------------------------------------------------------------------------------------- files


def files(report: Report) -> None:
    """Files made on the device and here, decoded there and here."""
    side = 96 if report.quick else 256
    pixels = images.load_uint8(datasets.bundled("chelsea"))[:, 60 : 60 + side, 120 : 120 + side]
    for name in codec.names():
        with report.check(name):
            model = codec.load(name).model
            data, decode = codec.compress(pixels, name), partial(codec.decompress_uint8, model=name)
            here = decode(data)
            model.to(DEVICE)
            there, sent = decode(data), codec.compress(pixels, name)
            model.cpu()
            alike(report, name, pixels, here, there, decode(sent))
    for name in zoo.for_task("cs"):
        with report.check(name):
            data, model = sensing.sense(pixels, 0.1, model=name), sensing.load(name).to(DEVICE)
            here = sensing.recover(data)
            with mock.patch.object(sensing, "load", lambda _, model=model: model):
                there, sent = sensing.recover(data), sensing.sense(pixels, 0.1, model=name)
            three = (images.to_uint8(picture) for picture in (here, there, sensing.recover(sent)))
            alike(report, name, images.luma_uint8(pixels), *three)


def alike(report: Report, name: str, original: torch.Tensor, here, there, again) -> None:
    """One file decoded here and there differs by a gray level at most; a file made there is worth as much. uint8."""
    levels = difference(there, here)
    lost = metrics.psnr(here.float(), original.float(), 255) - metrics.psnr(again.float(), original.float(), 255)
    report.measured(name, "gray levels between decoders", levels)
    report.measured(name, "dB lost by encoding there", lost)
    if levels > 1 or abs(lost) > 0.05:
        raise Fault(f"the decoders differ by {levels:g} gray levels, the encoders by {lost:.3f} dB")


# ------------------------------------------------------------------------------------------- timing


def timing(report: Report) -> None:
    """What a training step is spent on, by recipe; then the seconds that each network takes for a megapixel."""
    for name in ("fsrcnn-x3", "jpeg-blind") if report.quick else recipes.RECIPES:
        with report.check(name):
            step_times(report, name)
    for name in zoo.available().index:
        with report.check(name):
            megapixel(report, name)


def clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def step_times(report: Report, name: str) -> None:
    """Milliseconds of the parts of a step, medians, the device waited for after each; then the throughput without."""
    recipe = small(name, report.quick)
    batches, _ = recipes.prepare(recipe)
    warm, count = (1, QUICK_STEPS) if report.quick else (8, 24)
    plan = replace(recipe.plan, steps=count, every=count, warmup=0, float32_steps=0)
    run, loss, marks = training.Run(recipes.network(recipe), plan, None, "cuda"), losses.LOSSES[recipe.loss](), []
    batch = batches.to(run.device) if hasattr(batches, "to") else batches
    given, target = ((a.cpu() - b).abs() for a, b in zip(batch(0), batches(0), strict=True))
    if target.max() > EXACT + ROUNDED or given.mean() > EXACT:  # a target off by a level is another JPEG
        raise Fault("a batch made on the device is another than the CPU's")
    torch.cuda.reset_peak_memory_stats()
    for step in range(count):
        times = [clock()]
        pair = batch(step)
        times.append(clock())
        x, y = (t.to(run.device, memory_format=torch.channels_last) for t in pair)
        times.append(clock())
        with run.autocast(step):
            prediction = run.network(x)
        run.update(training._loss(loss, prediction, y, plan.shave))
        marks.append([*times, clock()])
    parts = zip(*([b - a for a, b in itertools.pairwise(times)] for times in marks[warm:]), strict=True)
    spent = dict(zip(PARTS_OF_A_STEP, (1000 * statistics.median(part) for part in parts), strict=True))
    for part, milliseconds in spent.items():
        report.measured(name, f"ms a step, {part}", milliseconds)
    report.measured(name, "peak MiB", torch.cuda.max_memory_allocated() / 2**20)
    steps = QUICK_STEPS if report.quick else max(count, min(200, round(1000 / sum(spent.values()))))
    start = clock()
    training.train(run.model, batches, loss, replace(plan, steps=steps, every=steps), device="cuda", progress=False)
    report.measured(name, "patches per second", steps * recipe.batch / (clock() - start))


def megapixel(report: Report, name: str) -> None:
    """The seconds of `restore`, or of sensing and recovery, for a megapixel of output, 8 bits, from CPU to CPU."""
    model, task, side = zoo.load(name).to(DEVICE), zoo.card(name)["task"], 96 if report.quick else 1008
    if task.startswith("codec"):
        return  # files are made on the CPU
    picture = images.load_uint8(datasets.bundled("chelsea")).repeat(1, 4, 3)[: model.channels, :side, :side]
    small = side // getattr(model, "scale", 1)
    given = picture[:, :small, :small]
    work = partial(model.reconstruct, given, 0.1) if task == "cs" else partial(model.restore, given)
    seconds = benchmark.seconds_per_megapixel(work, picture, repeats=1 if report.quick else 4)
    report.measured(name, "seconds per megapixel", seconds)


# ------------------------------------------------------------------------------------------- all parts

PARTS_OF_A_STEP = ("drawing and degrading", "transfer", "forward, backward, optimiser")
BOOKS = {path.stem[:2]: path for path in sorted((ROOT / "notebooks").glob("0*.ipynb"))}
PARTS = {"restoring": restoring, "training": trained, "files": files, "timing": timing}
PARTS |= {number: partial(notebook, path=path) for number, path in BOOKS.items()}
PHASES = (("restoring", "training", "files", *BOOKS), ("timing",))  # times of a step are taken of a card that is free
JOBS = min(6, os.cpu_count() or 1)  # parts at once


def main() -> int:
    os.environ |= {"MPLBACKEND": "Agg", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # whether CUDA is there, asked without it
    os.environ.pop("COURSE_DATA", None)  # the bundled pictures are everywhere
    options = parse()
    pretend, table = options.device == "cpu", None
    about = {"device": "pretended GPU"} if pretend else described()
    if not pretend:
        table = options.out
        begin(table, about["device"])
    print(*about.values(), sep=", ")
    deadline, failed = time.monotonic() + 60 * options.minutes, []
    for phase in PHASES:
        names = [name for name in phase if name in options.parts]
        failed += run(names, partial(work, about=about, table=table, quick=options.quick, pretend=pretend), deadline)
    print(f"failed: {', '.join(failed)}" if failed else "all parts passed")
    return int(bool(failed))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a pretended GPU")
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--minutes", type=float, default=5, help="what is not finished then has failed")
    parser.add_argument("--out", type=Path, default=TABLE, help="the table")
    options = parser.parse_args()
    options.parts = options.parts or list(PARTS)
    if unknown := {*options.parts} - {*PARTS}:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


def described() -> dict:
    """The card, its driver and what runs on it, without touching CUDA, which does not survive a fork."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        sys.exit("error: nvidia-smi finds no GPU here; --device cpu pretends one.")
    device, driver = said.splitlines()[0].split(", ")
    today = datetime.date.today().isoformat()
    rest = {"torch": torch.__version__, "date": today, "commit": recipes.commit() or "unknown"}
    return {"device": device, "driver": driver} | rest


def begin(table: Path, device: str) -> None:
    """Write the table's head, and the rows of other devices that it had."""
    rows = list(csv.reader(table.open(encoding="utf-8"))) if table.is_file() else []
    with open(table, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *(row for row in rows[1:] if row[0] != device)])


def work(name: str, about: dict, table: Path | None, quick: bool, pretend: bool) -> None:
    """One part, in its process, which ends with code 1 if anything in it failed."""
    report = Report("notebooks" if name in BOOKS else name, about, table, quick)
    if name != "timing":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // JOBS))
    with pretended.gpu() if pretend else nullcontext():
        PARTS[name](report)
    report.measured(report.part, "faults", report.faults)
    sys.exit(int(report.faults > 0))


def run(names: list[str], job: Callable[[str], None], deadline: float) -> list[str]:
    """Each part in a process of its own, some at once; those that failed, died or came too late."""
    fork, waiting, running, failed = get_context("fork"), list(names), {}, []
    while waiting or running:
        while waiting and len(running) < JOBS:
            running[waiting[0]] = fork.Process(target=job, args=(waiting[0],))
            running[waiting.pop(0)].start()
        connection.wait([p.sentinel for p in running.values()], timeout=max(0, deadline - time.monotonic()))
        late = time.monotonic() >= deadline
        for name, process in list(running.items()):
            if late:
                process.kill()
            elif process.is_alive():
                continue
            process.join()
            del running[name]
            if process.exitcode:
                print(f"FAULT  {name}: {'out of time' if late else f'exit code {process.exitcode}'}", flush=True)
                failed.append(name)
        if late:
            failed += waiting
            waiting = []
    return failed


if __name__ == "__main__":
    sys.exit(main())
