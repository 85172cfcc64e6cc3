"""Checks of notebook 1: pixels, patches, tiles, and a ruler."""

import math
import operator
from collections.abc import Callable

import torch

from ... import degradations, images, metrics
from .examine import Wrong, blame, call, examined, exercise, tensor, two

# a clean picture and a noisy one, each channel more than the one before
CLEAN = torch.linspace(0, 1, 3 * 24 * 32).view(3, 24, 32)
NOISE = degradations.gaussian_noise(torch.full_like(CLEAN, 0.5), 0.1, seed=1) - 0.5
NOISY = (CLEAN + torch.tensor([0.4, 1.0, 1.6])[:, None, None] * NOISE).clamp(0, 1)


@exercise("1.1", (CLEAN,), within=1e-3)
def luma(image: torch.Tensor):
    """my_luma(image): (3, H, W) RGB in [0, 1] → (1, H, W), Y of BT.601 in studio range."""
    yield (right := images.luma(image))
    modern = (torch.tensor([46.559, 156.629, 15.812]).view(3, 1, 1) * image).sum(0, keepdim=True) / 255 + 16 / 255
    yield {
        "That is Y in 8-bit numbers, 16 to 235; our pixels are in [0, 1]: divide by 255.": right * 255,
        "That is full-range Y, black is 0. Ours is in studio range, 16/255 to 235/255.": (right - 16 / 255) * 255 / 219,
        "That is the plain mean; the eye sees green brighter than blue.": image.mean(0, keepdim=True),
        "Black should come out as 16/255, not 0: add the offset.": right - 16 / 255,
        "Divide the 16 by 255, too.": right - 16 / 255 + 16,
        "Red and blue are swapped: channel 0 is red.": images.luma(image.flip(0)),
        "Do not round: that comes when a file is written.": (255 * right).round() / 255,
        "Do not cut off decimals: that comes, as rounding, when a file is written.": (255 * right).floor() / 255,
        "Those are the weights of BT.709, for HD television; ours are of BT.601.": modern,
        "It has lost the channel axis; keep the channel axis: keepdim=True, or x[0:1].": right[0],
        "The weights are 65.481, 128.553 and 24.966, each over 255, and black is 16/255.": True,
    }


DARKER = 0.8 * NOISY, 0.8 * CLEAN  # no pixel is white: the largest is not the peak
DARK_8_BIT = 255 * DARKER[0], 255 * DARKER[1]
NEARLY = CLEAN + 1e-3 * (torch.arange(24 * 32).view(24, 32) == 99)  # in one pixel, by a quarter of a gray level
RAMP = torch.arange(3 * 24 * 32).view(3, 24, 32) / 4096
RAMPS = RAMP, RAMP.flip(0, 1, 2)  # the mean of their difference is 0, to the last bit


@exercise(
    "1.2", (*DARKER, 1.0), (*DARK_8_BIT, 255.0), (CLEAN, CLEAN, 1.0), (NEARLY, CLEAN, 1.0), (*RAMPS, 1.0), within=0.01
)
def psnr(a: torch.Tensor, b: torch.Tensor, peak: float):
    """my_psnr(a, b, peak): decibels; infinite for equal pictures."""
    yield (right := metrics.psnr(a, b, peak))
    mean = sum(metrics.psnr(*pair, peak) for pair in zip(a, b, strict=True)) / 3
    equal = {
        "Two equal pictures make it fail: their error is 0. Return math.inf for them.": Exception,
        "Two equal pictures have no error at all: return math.inf.": True,
    }
    different = {
        "The sign is wrong: a small error is a high PSNR. Divide peak² by the error, not the error by it.": -right,
        "It is half of what it should be: 10·log₁₀ of squares, or 20·log₁₀ of roots.": right / 2,
        "That is the natural logarithm; decibels want log₁₀.": right * math.log(10),
        "That is the mean of three PSNRs, one for each channel: the mean belongs under the logarithm.": mean,
        "That is the same as with a peak of 1: use the argument.": right - 20 * math.log10(peak),
        "The error is squared, so square the peak.": right - 10 * math.log10(peak),
        "The peak is white, also where no pixel is white.": right + 20 * math.log10(a.max().item() / peak),
        "It is off by 48.13 dB: pixels and peak are not of one scale.": lambda v: (
            v.dim() == 0 and abs(abs(v - right) - 48.131) < 0.01
        ),
        "Take the mean of the squares, not their sum.": right - 10 * math.log10(a.numel()),
        "These two pictures are not equal: their errors cancel in the mean, before they are squared.": math.inf,
        "It is 10·log₁₀(peak² / MSE), over all pixels.": True,
    }
    nearly = {"These two pictures are nearly equal: one pixel differs. Return math.inf for an error of 0.": math.inf}
    yield equal if right == math.inf else nearly | different if right > 80 else different


@exercise("1.3", (10, 4, 2), (10, 4, 3), (321, 33, 14), (4, 4, 1), (512, 120, 72))
def patch_count(side: int, size: int, stride: int):
    """my_count(side, size, stride): how many windows of `size` fit along one side."""
    yield (right := (side - size) // stride + 1)
    yield {
        "That is one too few; the first window counts, too.": right - 1,
        "That is one too many; the last of them hangs over the end.": right + 1,
        "That is for both sides; one is asked.": right**2,
        "That many fit side by side, but these windows overlap.": side // size,
        "A part of a window is none.": (side - size) / stride + 1,
    }


def _orientation(turned: torch.Tensor, image: torch.Tensor) -> int | None:
    """Which of its eight orientations a picture is in; None where it is in none of them."""
    ways = [torch.rot90(flipped, k, (1, 2)).tolist() for flipped in (image, image.flip(2)) for k in range(4)]
    return ways.index(turned.tolist()) if turned.tolist() in ways else None


@examined("1.4")
def turn(answer: Callable) -> None:
    """my_turn(x, y, k): input and target, each (C, H, W), brought into orientation k, 0 to 7; k = 0 changes nothing."""
    target = torch.arange(3 * 6 * 8.0).view(3, 6, 8)
    source, seen = target[:, ::2, ::2], []
    for k in range(8):
        turned = [tensor(picture, target) for picture in two(call(answer, source, target, k), "pictures")]
        x, y = (_orientation(*pair) for pair in zip(turned, (source, target), strict=True))
        fault = f"k = {k}: that is not a turned or mirrored picture. torch.rot90(t, k, (1, 2)) keeps channels."
        differ = f"k = {k}: input and target were turned differently, so they no longer match."
        swapped = turned[0].numel() > turned[1].numel()
        blame({"Return the input first, then the target.": swapped, fault: None in (x, y), differ: x != y})
        seen.append(x)
    few = f"Eight values of k give {len(set(seen))} orientations: four turns, each with and without a flip of one axis."
    blame({"k = 0 should leave both pictures as they are.": seen[0] > 0, few: len(set(seen)) < 8})


@exercise("1.5", (torch.arange(2 * 8 * 12.0).view(2, 8, 12), 4))
def tiles(image: torch.Tensor, tile: int):
    """my_tiles(image, tile): (C, H, W) → (N, C, tile, tile), row by row."""
    yield (right := images.split_tiles(image, tile))  # (6, 2, 4, 4)
    unfolded = image.unfold(1, tile, tile).unfold(2, tile, tile)  # (2, 2, 3, 4, 4): channels, rows, columns of tiles
    yield {
        "The tiles come column by column; go row by row, as one reads.": unfolded.permute(2, 1, 0, 3, 4).flatten(0, 1),
        "The pixels are mixed up: a reshape alone cuts across rows.": image.reshape(right.shape),
        "Channels and tiles are mixed up: unfolded, channels are still in front.": unfolded.reshape(right.shape),
        "Each tile lies on its side: its rows have become columns.": right.mT,
        "In 2 rows of 3 tiles, each is equal to a slice of the picture.": True,
    }


@examined("1.6")
def split(answer: Callable) -> None:
    """my_split(sources, held_out): numbers of the patches to train on and to test on, given each patch's photograph."""
    sources = ["cat", "cup", "cat", "rocket", "cup", "cup", "cupboard", "rocket", "moon"]
    both = two(call(answer, sources, {"cup", "moon"}), "lists")
    try:
        train, test = (sorted(operator.index(i) for i in part) for part in both)
    except TypeError:
        raise Wrong("The lists should hold numbers of patches, 0 to 8, not their photographs.") from None
    right = [0, 2, 3, 6, 7], [1, 4, 5, 8]
    mixed = {sources[i] for i in train if i < 9} & {sources[i] for i in test if i < 9}
    blame({
        "There are 9 patches, numbered from 0 to 8.": not {*train, *test} <= {*range(9)},
        "The two lists are swapped: first the numbers to train on.": (test, train) == right,
        "A cupboard is not a cup: compare whole names, not parts of them.": test == [1, 4, 5, 6, 8],
        f"Patches of {', '.join(sorted(mixed))} are on both sides: decide by photograph, not by patch.": mixed,
        f"There are 9 patches, and you returned {len(train + test)} numbers.": len(train + test) != 9,
        f"The test side is {test}; the patches of cup and moon are 1, 4, 5 and 8.": test != right[1],
        f"The training side is {train}; the others are 0, 2, 3, 6 and 7.": train != right[0],
    })  # fmt: skip
