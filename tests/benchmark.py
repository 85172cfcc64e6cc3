"""Training by processes and by threads, and what makes restoring fast (make speed); wants a quiet machine.

python tests/benchmark.py [processes] [restoring]

What methods and codecs take, `make benchmark` measures (data/results/costs.csv); memory, test_command_line.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from helpers import recipes, training  # noqa: E402
from helpers.service import devices  # noqa: E402


def process(*arguments: str, **variables: str) -> list[str]:
    """The words that a Python prints on its last line."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path} | variables
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.splitlines()[-1].split()


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


# ------------------------------------------------------------------------------------------ restoring


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


PARTS = {"processes": measure_processes, "restoring": measure_restoring}


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
