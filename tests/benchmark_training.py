"""Training throughput, patches per second: the course's loop beside the plain loop that the original systems write.

    python tests/benchmark_training.py [--steps 40] [--network srcnn-955-x3]

Same network, same patches, same batch, same optimiser, one process. The plain loop opens a pair file with Pillow for
each item (input and target side by side, as system 4 stores them), stacks a float32 batch in a DataLoader, and steps in
float32. The course's loop draws from pictures held in memory as uint8 and runs in the fastest type of the processor, in
channels_last. Both are warmed up, then timed in turn, three times; the best of each counts.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from helpers import datasets, degradations, images, recipes, training


class PairFiles(Dataset):
    """One file per item: the enlarged input right, the target left, opened and converted when asked for."""

    def __init__(self, folder: Path):
        self.files = sorted(folder.glob("*.png"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        pair = np.asarray(Image.open(self.files[index]).convert("L"), dtype=np.float32) / 255
        half = pair.shape[1] // 2
        return torch.from_numpy(pair[None, :, half:].copy()), torch.from_numpy(pair[None, :, :half].copy())


def write_pairs(folder: Path, batches: datasets.Patches, scale: int, count: int) -> None:
    for step in range(-(-count // batches.batch)):
        x, y = batches(step)
        x = degradations.upscale(x, scale) if scale > 1 else x
        for index, (poor, good) in enumerate(zip(x, y, strict=True)):
            datasets.SidePairs.write(folder / f"{step:04d}-{index:02d}.png", poor, good)


def plain(recipe: recipes.Recipe, folder: Path, steps: int) -> float:
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


def course(recipe: recipes.Recipe, batches: datasets.Patches, steps: int) -> float:
    plan = training.Plan(steps, learning_rate=1e-4, shave=recipe.plan.shave, every=steps)
    network = recipes.network(recipe)
    start = time.perf_counter()
    training.train(network, batches, nn.MSELoss(), plan, progress=False)
    return steps * recipe.batch / (time.perf_counter() - start)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--network", default="srcnn-955-x3", choices=[n for n in recipes.RECIPES if "srcnn" in n])
    options = options.parse_args()
    recipe = recipes.find(options.network)
    pictures = [images.crop_to_multiple(y, recipe.scale) for y in datasets.load_all(datasets.bundled())]
    reduced = [degradations.for_task(recipe.task)(y) for y in pictures]
    batches = datasets.Patches(pictures, reduced, size=recipe.patch, batch=recipe.batch, scale=recipe.scale)
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder), batches, recipe.scale, count=512)
        loops = {
            "plain float32 loop, a file per item": lambda steps: plain(recipe, Path(folder), steps),
            "the course's loop": lambda steps: course(recipe, batches, steps),
        }
        for loop in loops.values():
            loop(5)
        best = {name: max(loop(options.steps) for _ in range(3)) for name, loop in loops.items()}
    side = recipe.patch * recipe.scale
    print(f"{recipe.name}, batch {recipe.batch}, patches of {side}x{side}, {torch.get_num_threads()} threads")
    for name, rate in best.items():
        print(f"{name:<38} {rate:8.0f} patches/s")
    slow, fast = best.values()
    print(f"ratio {fast / slow:.2f}")


if __name__ == "__main__":
    main()
