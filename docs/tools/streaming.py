"""Super-resolution trained on more pictures than a disk holds: .tar shards, with WebDataset (`pip install webdataset`).

    python docs/tools/streaming.py pack PHOTOGRAPHS shards --pictures 500  # a folder into shards/00000.tar, …
    python docs/tools/streaming.py measure shards/*.tar                 # patches per second, beside those from memory
    python docs/tools/streaming.py train shards/*.tar --steps 1000 --out runs/streamed [--resume]

A shard is whatever WebDataset opens: a path, an https:// address, "pipe:aws s3 cp s3://… -". Two are in memory at a
time, one drawn from and the next being read. The last shard is held out: its first pictures are for validation.
"""

import argparse
import random
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import webdataset

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from helpers import CourseError, datasets, degradations, images, recipes, training  # noqa: E402
from helpers.service import devices  # noqa: E402


def pack(folder: str, out: Path, pictures: int) -> None:
    """Write the files of a folder, unchanged and in random order, into shards of so many pictures."""
    files = datasets.folder(folder)
    random.Random(0).shuffle(files)  # a batch is drawn from one shard: let each be like the whole
    if out.exists():
        raise CourseError(f"{out} is there already; name a new folder.")
    out.mkdir(parents=True)
    with webdataset.ShardWriter(str(out / "%05d.tar"), maxcount=pictures, verbose=0) as writer:
        for index, path in enumerate(files):
            writer.write({"__key__": f"{index:08d}-{path.stem.replace('.', '_')}", path.suffix[1:]: path.read_bytes()})
    print(f"{out}: {len(files)} pictures in {len(list(out.glob('*.tar')))} shards")


def read(shard: str, recipe: recipes.Recipe) -> datasets.Patches:
    """Patches of the pictures in a shard. Raises CourseError."""
    channels, clean = recipes.network(recipe).channels, []
    try:
        for sample in webdataset.WebDataset(shard, shardshuffle=False, nodesplitter=None):
            kind = next(key for key in sample if not key.startswith("__"))
            name = f"{sample['__key__']}.{kind}"
            picture = datasets.load_uint8(BytesIO(sample[kind]), channels)
            clean.append(images.crop_to_multiple(picture, recipe.scale))
    except CourseError as why:
        raise CourseError(f"{shard}: {name}: {why}") from None
    except (OSError, tarfile.TarError) as why:
        raise CourseError(f"{shard}: not a whole shard ({why}); pack or fetch it again.") from None
    degrade = degradations.for_task(recipe.task)
    how = {"size": recipe.patch, "batch": recipe.batch, "scale": recipe.scale, "seed": recipe.plan.seed}
    return datasets.Patches(clean, [degrade(y) for y in clean], **how)


class Shards:
    """The batch of step k is a function of (seed, k, rank), as everywhere here, so resuming is exact.

    `stay` steps draw from one shard, the next ones from the next, each process from its own, in a new order each epoch.
    """

    def __init__(self, shards: list[str], recipe: recipes.Recipe, stay: int):
        self.shards, self.recipe, self.stay, self.reader = shards, recipe, stay, ThreadPoolExecutor(1)
        self.begin = lru_cache(maxsize=2)(lambda turn: self.reader.submit(read, self.shard(turn), recipe))

    def shard(self, turn: int) -> str:
        """Whose turn it is."""
        epoch, index = divmod(turn, len(self.shards))
        return random.Random(f"{self.recipe.plan.seed}-{epoch}").sample(self.shards, len(self.shards))[index]

    def patches(self, step: int, rank: int) -> datasets.Patches:
        """The shard of a step, read."""
        turn = step // self.stay * devices.world() + rank
        now, _ = self.begin(turn), self.begin(turn + devices.world())  # the next one is read meanwhile
        return now.result()

    def __call__(self, step: int, rank: int = 0) -> training.Pair:
        """A batch, as `datasets.Patches` gives it."""
        return self.patches(step, rank)(step, rank)


def measure(shards: list[str], recipe: recipes.Recipe, stay: int) -> None:
    """Print the patches per second that come from shards, and from pictures in memory."""

    def rate(batches, steps: int) -> float:
        start = time.perf_counter()
        for step in range(steps):
            batches(step)
        return steps * recipe.batch / (time.perf_counter() - start)

    print(f"from shards {rate(Shards(shards, recipe, stay), stay * len(shards)):.0f} patches/s")
    print(f"from memory {rate(read(shards[0], recipe), stay * len(shards)):.0f} patches/s")


def train(shards: list[str], recipe: recipes.Recipe, stay: int, out: Path, resume: bool) -> list[dict]:
    """Train a recipe from shards, the last of which is kept for validation; the log."""
    *shards, held = shards
    validation = [tuple(map(images.to_float, pair)) for pair in read(held, recipe).pairs[:8]]
    batches, loss = Shards(shards, recipe, stay), recipes.LOSSES[recipe.loss]()
    origin = {"shards": shards, "stay": stay, "batch": recipe.batch, "processes": devices.world()}
    options = {"validation": validation, "out": out, "resume": resume, "origin": origin}
    return training.train(recipes.network(recipe), batches, loss, recipe.plan, **options)


def main() -> None:
    """Do what the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=["pack", "measure", "train"])
    options.add_argument("paths", nargs="+", help="pack: the folder of pictures and that of shards; else shards")
    options.add_argument("--pictures", type=int, default=500, help="per shard")
    options.add_argument("--stay", type=int, default=100, help="steps that draw from one shard")
    options.add_argument("--recipe", default="edsr-x2", choices=[n for n, r in recipes.RECIPES.items() if r.scale > 1])
    options.add_argument("--steps", type=int)
    options.add_argument("--out", type=Path, default=Path("runs/streamed"))
    options.add_argument("--resume", action="store_true")
    options = options.parse_args()
    try:
        if options.what != "measure" and len(options.paths) < 2:
            wants = "a folder of pictures and one for shards" if options.what == "pack" else "two shards or more"
            raise CourseError(f"{options.what} wants {wants}.")
        recipe = recipes.changed(recipes.find(options.recipe), steps=options.steps)
        if options.what == "pack":
            pack(options.paths[0], Path(options.paths[1]), options.pictures)
        elif options.what == "measure":
            measure(options.paths, recipe, options.stay)
        else:
            train(options.paths, recipe, options.stay, options.out, options.resume)
    except (CourseError, OSError) as why:
        print(f"error: {why}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
