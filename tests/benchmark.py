"""Speed and peak memory, each against the plain way (make speed). All parts by default; wants a quiet machine.

python tests/benchmark.py [training] [processes] [memory] [restoring] [codec] [dw-ssim]
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from reference_dw_ssim import haar_by_convolution, window_by_window  # noqa: E402

from helpers import datasets, degradations, evaluation, images, recipes, training, wavelets  # noqa: E402
from helpers.service import devices  # noqa: E402

COMMAND = """
import resource, sys, time
from pathlib import Path
from helpers import codec
from helpers.__main__ import main
start = time.perf_counter()
code = main(sys.argv[1:])
seconds = time.perf_counter() - start
status = Path("/proc/self/status")  # Linux: there, ru_maxrss also counts the process that began this one
lines = status.read_text().splitlines() if status.exists() else []
peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
peak = peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(seconds, peak // (2**20 if sys.platform == "darwin" else 2**10))
sys.exit(code)
"""


def process(*arguments: str, **variables: str) -> list[str]:
    """The words that a Python prints on its last line."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path} | variables
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.splitlines()[-1].split()


def command(*arguments: str | Path) -> tuple[float, int]:
    """Seconds of a command without the start of Python, and MiB at its peak."""
    seconds, peak = process("-c", COMMAND, *map(str, arguments), "--quiet")
    return float(seconds), int(peak)


# ------------------------------------------------------------------------------------------- training


class PairFiles(Dataset):
    """One file per item, as system 4 stores them: the enlarged input right, the target left."""

    def __init__(self, folder: Path):
        self.files = sorted(folder.glob("*.png"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        pair = np.asarray(Image.open(self.files[index]).convert("L"), dtype=np.float32) / 255
        half = pair.shape[1] // 2
        return torch.from_numpy(pair[None, :, half:].copy()), torch.from_numpy(pair[None, :, :half].copy())


def measure_training(name: str = "srcnn-955-x3", steps: int = 40) -> None:
    """The course's loop beside the plain loop that the original systems write: the best of three, in turns.

    Same network, patches, batch and optimiser, one process. The plain loop opens a pair file for each item, stacks a
    batch in a DataLoader, and steps in float32. The course's draws from pictures in memory as uint8, and runs in the
    fastest type of the processor, in channels_last.
    """
    recipe = recipes.find(name)
    pictures = [images.crop_to_multiple(y, recipe.scale) for y in datasets.load_all(datasets.bundled())]
    reduced = [degradations.for_task(recipe.task)(y) for y in pictures]
    batches = datasets.Patches(pictures, reduced, size=recipe.patch, batch=recipe.batch, scale=recipe.scale)

    def plain(folder: Path, steps: int) -> float:
        network = recipes.network(recipe)
        network.scale = 1  # its files are enlarged already
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
        loader = DataLoader(PairFiles(folder), batch_size=recipe.batch, shuffle=True, drop_last=True)
        start = time.perf_counter()
        endless = itertools.chain.from_iterable(itertools.repeat(loader))
        for x, y in itertools.islice(endless, steps):
            loss = nn.functional.mse_loss(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return steps * recipe.batch / (time.perf_counter() - start)

    def course(_: Path, steps: int) -> float:
        plan = training.Plan(steps, learning_rate=1e-4, shave=recipe.plan.shave, every=steps)
        network = recipes.network(recipe)
        _, seconds = evaluation.timed(lambda: training.train(network, batches, nn.MSELoss(), plan, progress=False))
        return steps * recipe.batch / seconds

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for step in range(512 // recipe.batch):
            x, y = batches(step)
            for index, (poor, good) in enumerate(zip(degradations.upscale(x, recipe.scale), y, strict=True)):
                datasets.SidePairs.write(place / f"{step:04d}-{index:02d}.png", poor, good)
        for loop in (plain, course):
            loop(place, 5)
        slow, fast = (max(loop(place, steps) for _ in range(3)) for loop in (plain, course))
    print(f"{name}, batch {recipe.batch}, patches of {recipe.patch * recipe.scale}, {torch.get_num_threads()} threads:")
    print(f"plain {slow:.0f} patches/s, the course's {fast:.0f} patches/s, ratio {fast / slow:.2f}", flush=True)


# ------------------------------------------------------------------------------------------ processes

KINDS = {"1 process × 1 thread": (1, 1), "2 processes × 1 thread": (2, 1), "1 process × 2 threads": (1, 2)}


def measure_processes(names: tuple[str, ...] = ("edsr-x3", "srcnn-955-x3"), rounds: int = 5) -> None:
    """Training on one machine's CPU, by processes and by threads, with the recipe's patches per step and process.

    Each is begun afresh in every round, the three in turn, so that what else the machine does falls on all alike.
    The medians count, and the ratios within a round, of which the median, too, is given.
    """

    def rate(name: str, processes: int, threads: int) -> float:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        return float(process(*torchrun, __file__, "--train", name, OMP_NUM_THREADS=str(threads))[-1])

    for name in names:
        found = [{kind: rate(name, *counts) for kind, counts in KINDS.items()} for _ in range(rounds)]
        for kind in KINDS:
            rates, ratios = [one[kind] for one in found], [one[kind] / one[next(iter(KINDS))] for one in found]
            said = f"{statistics.median(rates):7.1f} patches/s ({min(rates):.0f} to {max(rates):.0f})"
            print(f"{name}, {kind:<24} {said}, ratio {statistics.median(ratios):.2f}", flush=True)


def train(name: str, steps: int = 30) -> None:
    """Train, and print the patches per second of all processes together; a fifth of the steps warms up."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    recipe = recipes.changed(recipes.find(name), steps=steps, sets=("bundled",))
    batches, begun = recipes.prepare(recipe)[0], []

    def batch(step: int, rank: int):
        if step == steps // 5:
            begun.append(time.perf_counter())
        return batches(step, rank)

    plan = training.Plan(steps, recipe.plan.learning_rate, clip=recipe.plan.clip, every=steps)
    training.train(recipes.network(recipe), batch, recipes.LOSSES[recipe.loss](), plan, device="cpu", progress=False)
    seconds = time.perf_counter() - begun[0]
    if not devices.rank():
        print((steps - steps // 5) * recipe.batch * devices.world() / seconds)


# ----------------------------------------------------------------------- memory, restoring, codec, DW-SSIM


def measure_memory(side: int = 8000) -> None:
    """Peak memory of `restore` where 1 and 64 megapixels are given (deblocking) or come out (super-resolution)."""
    for task, scale in (("deblock-q20", 1), ("sr-x2", 2)):
        peaks = []
        for length in (1000, side):
            with tempfile.TemporaryDirectory() as folder:
                given = Path(folder, "given.bmp")
                Image.effect_noise((length // scale,) * 2, 50).convert("RGB").save(given)
                peaks.append(command("restore", given, Path(folder, "out.bmp"), "--task", task)[1])
        print(f"{task:<12} 1 MP: {peaks[0]} MiB, {side**2 / 1e6:.0f} MP: {peaks[1]} MiB", flush=True)


ONE_WAY = """
import sys, time
import torch
name, way = sys.argv[1:]
if "kept memory" not in way:
    import ctypes
    ctypes.CDLL = lambda *_: (_ for _ in ()).throw(OSError())
from helpers import zoo
from helpers.service import devices
model = zoo.load(name)
side = 1000 // model.scale
y = torch.rand(1, model.channels, side, side, generator=torch.Generator().manual_seed(0))
layout = torch.channels_last if "channels last" in way else torch.contiguous_format
model, y = model.to(memory_format=layout), y.to(memory_format=layout)
half = devices.autocast(y.device) if "half precision" in way else torch.autocast("cpu", enabled=False)
with torch.inference_mode(), half:
    model(y)
    start = time.perf_counter()
    for _ in range(3):
        model(y)
print((time.perf_counter() - start) / 3)
"""
WAYS = ("plain", "kept memory", "channels last", "half precision", "kept memory, channels last, half precision")


def measure_restoring(names: tuple[str, ...] = ("srcnn-955-x3", "edsr-x3", "jpeg-blind")) -> None:
    """What makes it fast, each alone and all together: a megapixel of output, against the plain float32 forward."""
    for name in names:
        seconds = {way: float(process("-c", ONE_WAY, name, way)[0]) for way in WAYS}
        for way, value in seconds.items():
            print(f"{name:<13} {way:<44} {value:7.3f} s  {seconds['plain'] / value:5.2f} times as fast", flush=True)


def measure_codec(sizes: tuple[int, ...] = (2, 50), model: str = "integer-ae") -> None:
    """`compress` and `decompress` of a real photograph, enlarged to some megapixels, at the middle quality."""
    for megapixels in sizes:
        with tempfile.TemporaryDirectory() as folder:
            given, file, back = (Path(folder, name) for name in ("in.bmp", "out.bic", "back.bmp"))
            with Image.open(ROOT / "data" / "images" / "flower.png") as photo:
                scale = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
                photo.convert("RGB").resize((round(photo.width * scale), round(photo.height * scale))).save(given)
            found = {"compress": command("compress", given, file, "--model", model, "--quality", "50")}
            found["decompress"] = command("decompress", file, back)
            bpp = 8 * file.stat().st_size / megapixels / 1e6
        for name, (seconds, peak) in found.items():
            print(f"{name:<11} {megapixels} MP: {seconds:.2f} s, {megapixels / seconds:.2f} MP/s, {peak} MiB")
        both = megapixels / sum(seconds for seconds, _ in found.values())
        print(f"both        {megapixels} MP: {both:.2f} MP/s at {bpp:.2f} bits per pixel", flush=True)


def measure_dw_ssim(batch: int = 8, side: int = 100) -> None:
    """The index with its gradient, one thread, against window by window as its authors wrote it.

    There the transform is two convolutions, or, better than theirs, four sums. Each way is repeated in a row, as
    training repeats it, three such rows in turns; the median without warm-ups.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.rand(2, batch, 1, side, side)
    ways: dict[str, Callable] = {
        "window by window": lambda x: window_by_window(2 * x - 1, 2 * y - 1, haar_by_convolution),
        "the same, by sums": lambda x: window_by_window(2 * x - 1, 2 * y - 1),
        "one product": lambda x: wavelets.dw_ssim(x, y, joint=True),
    }

    def seconds(index: Callable) -> float:
        given = x.clone().requires_grad_()
        return evaluation.timed(lambda: index(given).backward())[1]

    times = {name: [] for name in ways}
    for _ in range(3):
        for name, index in ways.items():
            times[name] += [seconds(index) for _ in range(6)][1:]
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:<17} {value:8.4f} s  {medians['window by window'] / value:6.1f} times as fast", flush=True)


PARTS = {
    "training": measure_training, "processes": measure_processes, "memory": measure_memory,
    "restoring": measure_restoring, "codec": measure_codec, "dw-ssim": measure_dw_ssim,
}  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; by default all")
    options.add_argument("--train", metavar="RECIPE", help=argparse.SUPPRESS)
    given = options.parse_args()
    if unknown := {*given.parts} - {*PARTS}:
        options.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if given.train:
        return train(given.train)
    for name in given.parts or PARTS:
        print(f"{name}: {PARTS[name].__doc__.splitlines()[0]}", flush=True)
        PARTS[name]()


if __name__ == "__main__":
    main()
