"""Where pictures come from: the bundled ones, folders and named sets, pair files, patches in memory.

`COURSE_DATA` names a folder of image sets; by default `data/downloads`.
"""

import copy
import difflib
import math
import os
from collections import namedtuple
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from . import degradations, images
from .service.errors import CourseError, require
from .service.files import DATA, PARTS, course_data

# ----------------------------------------------------------------------------------------------- sets


def bundled(name: str | None = None) -> Path | list[Path]:
    """The path of one bundled photograph by name ("chelsea"), or of all of them. Raises CourseError."""
    files = {path.stem: path for path in images.listing(DATA / "images")}
    if name is None:
        return list(files.values())
    require(name in files, f"no bundled picture is called {name!r}; there are {', '.join(files)}.")
    return files[name]


def folder(name: str | os.PathLike) -> list[Path]:
    """The pictures of a folder, or of a set by its name ("Set5", "bundled"). Raises CourseError."""
    if str(name) == "bundled":
        return bundled()
    places = [Path(os.path.expanduser(name)), *(course_data() / part / name for part in PARTS)]
    for place in places if str(name) else ():
        if place.is_dir():
            return images.listing(place)
        require(not place.is_file(), f"{place}: that is a file; name a folder of pictures, or a set.")
    from .service import downloads

    hint = "put it there, or set COURSE_DATA to the folder that holds it."
    there = {path.name.lower(): path.name for place in places[1:] for path in place.parent.glob("*/")}
    for close in difflib.get_close_matches(str(name).lower(), there, n=1):
        hint = f"did you mean {there[close]}?"
    for source, entry in downloads.catalog().items():
        if str(name) in (Path(folder).name for folder in entry["folders"]):
            hint = f"python -m helpers download {source} gets it."
    where = f"looked for a folder of that name here and in COURSE_DATA, which is {course_data()}"
    raise CourseError(f"the set {str(name)!r} is not there: {where}; {hint}")


def load_uint8(path: str | os.PathLike | BinaryIO, channels: int) -> torch.Tensor:
    """A picture as uint8 (channels, H, W): luma for one channel, RGB for three. Raises CourseError."""
    image = images.load(path)
    return images.luma_uint8(image) if channels == 1 else images.to_uint8(images.as_rgb(image))


def load_all(files: Sequence[os.PathLike], channels: int = 1) -> list[torch.Tensor]:
    """Pictures as `load_uint8` reads them, in threads. 500 photographs take 80 MB as luma."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(partial(load_uint8, channels=channels), files))


def cifar10(download: bool = False) -> torch.Tensor:
    """The training pictures of CIFAR-10, uint8 (N, 3, 32, 32), from the folder of image sets, as torchvision has them.

    `download` gets them from their authors (170 MB). Raises RuntimeError where there are none.
    """
    from torchvision.datasets import CIFAR10

    return torch.from_numpy(CIFAR10(course_data(), download=download).data).movedim(-1, 1)


class SidePairs(torch.utils.data.Dataset):
    """Pair files as the skyline system stores them: one picture twice as wide as high, good on the left, poor right.

    Item i is (input, target) = (poor, good), each float32 (1, S, S); files are 256×128 in the original.
    """

    def __init__(self, directory: str | os.PathLike):
        self.files = images.listing(directory)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        pair = images.luma(images.load(self.files[index]))
        height, width = pair.shape[-2:]
        said = f"a pair file is twice as wide as high, this one is {width}x{height}"
        require(width == 2 * height, f"{self.files[index]}: {said}.")
        return pair[..., height:], pair[..., :height]

    @staticmethod
    def write(path: str | os.PathLike, poor: torch.Tensor, good: torch.Tensor, **options) -> Path:
        """Store one pair, (C, S, S) each, in that layout."""
        return images.save(path, torch.cat([good, poor], dim=-1), **options)


# -------------------------------------------------------------------------------------------- patches


def sliding_patches(image: torch.Tensor, size: int, stride: int) -> torch.Tensor:
    """All `size`×`size` windows of (C, H, W) at steps of `stride`, row by row: (N, C, size, size)."""
    windows = image.unfold(1, size, stride).unfold(2, size, stride)  # (C, rows, columns, size, size)
    return windows.permute(1, 2, 0, 3, 4).reshape(-1, image.shape[0], size, size)


def side_wanted(size: int, scale: int = 1, rescale: Sequence[float] = ()) -> int:
    """The least side of a picture that holds a patch of `size` input pixels, reduced or not."""
    return math.ceil(size * scale / min(rescale, default=1))


# what is drawn of one patch: its picture, corner and side in input pixels, orientation, and whether it becomes gray
Crop = namedtuple("Crop", "picture top left side turns mirrored gray")


class Patches:
    """Random aligned patches, in eight orientations, of uint8 pictures in memory: called with a step, it gives a batch.

    The batch of step k is a function of (seed, k, rank) alone, so a resumed training sees what an unbroken one sees.

    targets: clean uint8 pictures (C, H, W). inputs: their degraded versions, smaller by `scale`, same order; or
    None, and then `degrade(batch, rng)` makes the inputs of the uint8 batch (N, C, scale·size, scale·size), on the
    CPU, and may draw numbers.
    size: patch side in input pixels; of pictures that are smaller nothing is drawn, and `dropped` is their number.
    rescale: factors below one by which every other patch is reduced. gray: how many of the RGB patches become gray.
    """

    def __init__(
        self,
        targets: Sequence[torch.Tensor],
        inputs: Sequence[torch.Tensor] | None = None,
        *,
        size: int = 32,
        batch: int = 16,
        scale: int = 1,
        rescale: Sequence[float] = (),
        gray: float = 0.0,
        seed: int = 0,
        degrade: Callable[[torch.Tensor, np.random.Generator], torch.Tensor] | None = None,
    ):
        pairs = list(zip(targets if inputs is None else inputs, targets, strict=True))
        self.factor = 1 if inputs is None else scale  # from positions in an input to positions in its target
        self.side = size * scale // self.factor  # of a patch, where it is cut
        wanted = side_wanted(size, scale // self.factor, rescale)
        kept = [pair for pair in pairs if min(pair[0].shape[-2:]) >= wanted]
        self.dropped = len(pairs) - len(kept)
        require(kept, f"none of the {len(pairs)} pictures holds a patch of {size} pixels.")
        self.targets = [y for _, y in kept]
        self.inputs = self.targets if inputs is None else [x for x, _ in kept]
        self.batch, self.seed, self.processes = batch, seed, None
        self.rescale, self.gray, self.degrade = tuple(rescale), gray, degrade

    @property
    def pairs(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The pictures that are drawn from, (input, target) each; views."""
        return list(zip(self.inputs, self.targets, strict=True))

    def to(self, device: torch.device) -> "Patches":
        """The same batches, to rounding, made on a device of pictures kept there; if `degrade` is given, on the CPU."""
        if self.degrade is not None:
            return self
        moved = copy.copy(self)
        moved.targets = [picture.to(device) for picture in self.targets]
        moved.inputs = moved.targets if self.inputs is self.targets else [x.to(device) for x in self.inputs]
        return moved

    def shared(self, processes: int) -> "Patches":
        """The batches of a single process for several: process r of n takes the patches r, r + n, r + 2n and so on."""
        equal = self.batch % processes == 0
        require(equal, f"{self.batch} patches per step cannot be shared equally by {processes} processes.")
        shared = copy.copy(self)
        shared.processes = processes
        return shared

    def __call__(self, step: int, rank: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """(input, target) of step `step`, float32 in [0, 1], (N, C, size, size) and `scale` times that."""
        share = slice(None)
        if self.processes:
            rank, share = 0, slice(rank, None, self.processes)
        rng, crops = self._draw(step, rank)
        y = self._cut(self.targets, crops, self.factor)
        if self.degrade is not None:
            x = self.degrade(y, rng)
        else:
            x = y if self.inputs is self.targets else self._cut(self.inputs, crops, 1)
        return images.to_float(x[share]), images.to_float(y[share])

    def _draw(self, step: int, rank: int) -> tuple[np.random.Generator, list[Crop]]:
        """The numbers of a batch, drawn on the CPU whatever the device, and the generator after them."""
        rng, crops = np.random.default_rng((self.seed, step, rank)), []
        for _ in range(self.batch):
            picture, side = int(rng.integers(len(self.inputs))), self.side
            if self.rescale and rng.random() < 0.5:  # cut a larger patch, to be reduced
                side = round(side / rng.choice(self.rescale))
            top, left = (int(rng.integers(length - side + 1)) for length in self.inputs[picture].shape[-2:])
            turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
            gray = bool(self.gray and rng.random() < self.gray)
            crops.append(Crop(picture, top, left, side, turns, mirrored, gray))
        return rng, crops

    def _cut(self, pictures: Sequence[torch.Tensor], crops: Sequence[Crop], scale: int) -> torch.Tensor:
        """The crops, uint8 (N, C, scale·size, scale·size), from places `scale` times as far from the corner."""
        patches = []
        for crop in crops:
            top, left, side = (scale * number for number in (crop.top, crop.left, crop.side))
            patch = torch.rot90(pictures[crop.picture][:, top : top + side, left : left + side], crop.turns, (1, 2))
            patch = patch.flip(2) if crop.mirrored else patch
            if crop.side > self.side:
                size = (scale * self.side, scale * self.side)
                patch = images.to_uint8(degradations.resize(images.to_float(patch), size))
            patches.append(images.luma_uint8(patch).expand(3, -1, -1) if crop.gray else patch)
        return torch.stack(patches)
