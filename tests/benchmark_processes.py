"""Training throughput of processes and of threads: patches per second on one machine's CPU.

    python tests/benchmark_processes.py [--steps 30] [--repeats 5] [--recipe edsr-x3]

One process of one thread; two processes of one thread each, joined by torchrun; one process of two threads. All train
the same recipe on the bundled pictures, with so many patches per step and process as the recipe has. Each is begun
afresh in every round, the three in turn, so that what else the machine does falls on all alike; it warms up, then times
its steps between barriers. The medians count, and the ratios within a round, of which the median, too, is given.
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
KINDS = {"1 process × 1 thread": (1, 1), "2 processes × 1 thread": (2, 1), "1 process × 2 threads": (1, 2)}


def work(name: str, steps: int) -> None:
    """Train and print the patches per second of all processes together; run by torchrun."""
    from helpers import recipes, training
    from helpers.service import devices

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    recipe = recipes.changed(recipes.find(name), steps=steps, sets=("bundled",))
    batches, begun = recipes.prepare(recipe)[0], []

    def batch(step: int, rank: int):
        if step == steps // 5:  # so many are the warm-up
            begun.append(time.perf_counter())
        return batches(step, rank)

    plan = training.Plan(steps, recipe.plan.learning_rate, clip=recipe.plan.clip, every=steps)
    training.train(recipes.network(recipe), batch, recipes.LOSSES[recipe.loss](), plan, device="cpu", progress=False)
    seconds = time.perf_counter() - begun[0]
    if not devices.rank():
        print((steps - steps // 5) * recipe.batch * devices.world() / seconds)


def measured(processes: int, threads: int, options: argparse.Namespace) -> float:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [__file__, "--work", "--steps", str(options.steps), "--recipe", options.recipe]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    if found.returncode:
        sys.exit(found.stderr)
    return float(found.stdout.split()[-1])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=30)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--recipe", default="edsr-x3")
    options.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.work:
        return work(options.recipe, options.steps)
    rounds = [{name: measured(*kind, options) for name, kind in KINDS.items()} for _ in range(options.repeats)]
    first = next(iter(KINDS))
    print(f"{options.recipe}, {options.steps} steps, {options.repeats} rounds, {os.cpu_count()} cores")
    for name in KINDS:
        rates, ratios = [one[name] for one in rounds], [one[name] / one[first] for one in rounds]
        spread = f"{min(rates):.0f} to {max(rates):.0f}"
        print(f"{name:<24} {statistics.median(rates):7.1f} patches/s ({spread}), ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
