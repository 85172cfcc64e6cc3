"""Checks of notebook 1: pixels, patches, tiles, and a ruler."""

import math
import operator
from collections.abc import Callable

import torch

from .. import images, metrics
from .examine import Wrong, call, exercise, number, picture, pictures, two


@exercise("1.1")
def luma(answer: Callable) -> None:
    """my_luma(image): (3, H, W) RGB in [0, 1] → (1, H, W), Y of BT.601 in studio range."""
    clean, _ = pictures()
    value = picture(call(answer, clean), (1, 24, 32), "keep the channel axis")
    full = (images.luma(clean) - 16 / 255) * 255 / 219
    if torch.allclose(value / 255, images.luma(clean), atol=1e-3):
        raise Wrong("That is Y in 8-bit numbers, 16 to 235; our pixels are in [0, 1]: divide by 255.")
    if torch.allclose(value, full, atol=1e-3):
        raise Wrong("That is full-range Y: black is 0 and white is 1. Ours is in studio range, 16/255 to 235/255.")
    if torch.allclose(value, clean.mean(0, keepdim=True), atol=1e-3):
        raise Wrong("That is the plain mean; the eye sees green brighter than blue. Use the three weights.")
    if torch.allclose(value - 16 / 255, images.luma(clean) - 32 / 255, atol=1e-3):
        raise Wrong("Black should come out as 16/255, not 0: add the offset.")
    if not torch.allclose(value, images.luma(clean), atol=1e-3):
        raise Wrong("The weights are 65.481, 128.553 and 24.966, each over 255, and black is 16/255.")


@exercise("1.2")
def psnr(answer: Callable) -> None:
    """my_psnr(a, b, peak): decibels; infinite for equal pictures."""
    clean, noisy = pictures()
    value = number(call(answer, noisy, clean, 1.0))
    expected = metrics.psnr(noisy, clean)
    if abs(value + expected) < 0.01:
        raise Wrong("The sign is wrong: a small error is a high PSNR. Divide peak² by the error, not the error by it.")
    if abs(value - expected / 2) < 0.01:
        raise Wrong("It is half of what it should be: 10·log₁₀ of squares, or 20·log₁₀ of roots.")
    if abs(value - sum(metrics.psnr(*pair) for pair in zip(noisy, clean, strict=True)) / 3) < 0.01:
        raise Wrong("That is the mean of three PSNRs, one for each channel: the mean belongs under the logarithm.")
    if not abs(value - expected) <= 0.01:
        raise Wrong(f"It gives {value:.2f} dB where {expected:.2f} dB was expected: 10·log₁₀(peak² / MSE).")
    at_255, wanted = number(call(answer, noisy, clean, 255.0)), metrics.psnr(noisy, clean, 255)
    if abs(at_255 - value) < 0.01:
        raise Wrong("With peak 255 it gives the same as with 1: use the argument.")
    if abs(at_255 - value - 10 * math.log10(255)) < 0.01:
        raise Wrong("With peak 1 it is right, with 255 it is too low: the error is squared, so square the peak.")
    if not abs(at_255 - wanted) <= 0.01:
        raise Wrong(f"With peak 255 it gives {at_255:.2f} dB where {wanted:.2f} dB was expected.")
    try:
        value = number(call(answer, clean, clean, 1.0))
    except (ZeroDivisionError, ValueError):
        raise Wrong("Two equal pictures make it fail: their error is 0. Return math.inf for them.") from None
    if value != math.inf:
        raise Wrong(f"Two equal pictures give {value}; they have no error at all: return math.inf.")


def _count(side: int, size: int, stride: int) -> int:
    return (side - size) // stride + 1


@exercise("1.3", course=_count)
def patch_count(answer: Callable) -> None:
    """my_count(side, size, stride): how many windows of `size` fit along one side."""
    for side, size, stride in ((10, 4, 2), (10, 4, 3), (321, 33, 14), (4, 4, 1)):
        value, expected = number(call(answer, side, size, stride)), _count(side, size, stride)
        case = f"side {side}, size {size}, stride {stride}:"
        if value == expected - 1:
            raise Wrong(f"{case} one too few; the first window counts, too.")
        if value == expected + 1:
            raise Wrong(f"{case} one too many; the last of them hangs over the end.")
        if value == side // size != expected:
            raise Wrong(f"{case} {value:g} fit side by side; these overlap.")
        if value % 1 > 0:
            raise Wrong(f"{case} {value:.2f}; a part of a window is none.")
        if value != expected:
            raise Wrong(f"{case} {value:g}, but {expected} fit.")


@exercise("1.4")
def turn(answer: Callable) -> None:
    """my_turn(x, y, k): input and target, each (C, H, W), brought into orientation k, 0 to 7; k = 0 changes nothing."""
    target = torch.arange(36.0).view(1, 6, 6)
    source = target[:, ::2, ::2]
    seen = []
    for k in range(8):
        x, y = map(picture, two(call(answer, source, target, k), "pictures"))
        first, second = (_orientation(*pair) for pair in ((x, source), (y, target)))
        if first is None or second is None:
            raise Wrong(f"k = {k}: that is not a turned or mirrored picture. torch.rot90(t, k, (1, 2)) keeps channels.")
        if first != second:
            raise Wrong(f"k = {k}: input and target were turned differently, so they no longer match.")
        seen.append(first)
    if seen[0] != 0:
        raise Wrong("k = 0 should leave both pictures as they are.")
    if len(set(seen)) < 8:
        raise Wrong(f"Eight values of k give {len(set(seen))} orientations: four turns, each with and without a flip.")


def _orientation(turned: torch.Tensor, image: torch.Tensor) -> int | None:
    """Which of its eight orientations a square picture is in; None where it is in none of them."""
    for k in range(8):
        candidate = torch.rot90(image, k % 4, (1, 2))
        if torch.equal(turned, candidate.flip(2) if k >= 4 else candidate):
            return k
    return None


@exercise("1.5")
def tiles(answer: Callable) -> None:
    """my_tiles(image, tile): (C, H, W) → (N, C, tile, tile), row by row."""
    image = torch.arange(2 * 8 * 12.0).view(2, 8, 12)
    expected = images.split_tiles(image, 4)
    value = picture(call(answer, image, 4), tuple(expected.shape), "2 rows of 3 tiles")
    if torch.equal(value, expected.view(2, 3, 2, 4, 4).transpose(0, 1).reshape(6, 2, 4, 4)):
        raise Wrong("The tiles come column by column; go row by row, as one reads.")
    if torch.equal(value, image.reshape(6, 2, 4, 4)):
        raise Wrong("The pixels are mixed up: a reshape alone cuts across rows. Unfold, or slice in two loops.")
    if torch.equal(value, image.unfold(1, 4, 4).unfold(2, 4, 4).reshape(6, 2, 4, 4)):
        raise Wrong("Channels and tiles are mixed up: unfolded, the picture has its channels still in front.")
    if torch.equal(value, expected.transpose(2, 3)):
        raise Wrong("Each tile lies on its side: its rows have become columns.")
    if not torch.equal(value, expected):
        raise Wrong("Its tiles are not those of the picture; each should be equal to a slice of it.")


@exercise("1.6")
def split(answer: Callable) -> None:
    """my_split(sources, held_out): numbers of the patches to train on and to test on, given each patch's photograph."""
    sources = ["cat", "cup", "cat", "rocket", "cup", "cup", "cupboard", "rocket", "moon"]
    both = two(call(answer, sources, {"cup", "moon"}), "lists")
    try:
        train, test = (sorted(operator.index(i) for i in part) for part in both)
    except TypeError:
        raise Wrong("The lists should hold numbers of patches, 0 to 8, not their photographs.") from None
    if not all(0 <= i < len(sources) for i in train + test):
        raise Wrong("There are 9 patches, numbered from 0 to 8.")
    if train == [1, 4, 5, 8] and test == [0, 2, 3, 6, 7]:
        raise Wrong("The two lists are swapped: first the numbers to train on, then those to test on.")
    if test == [1, 4, 5, 6, 8]:
        raise Wrong("A cupboard is not a cup: compare whole names, not parts of them.")
    both = {sources[i] for i in train} & {sources[i] for i in test}
    if both:
        raise Wrong(f"Patches of {', '.join(sorted(both))} are on both sides: decide by photograph, not by patch.")
    if len(train) + len(test) != len(sources):
        raise Wrong(f"There are {len(sources)} patches, and you returned {len(train) + len(test)} numbers.")
    if test != [1, 4, 5, 8]:
        raise Wrong(f"The test side is {test}; the patches of cup and moon are 1, 4, 5 and 8.")
    if train != [0, 2, 3, 6, 7]:
        raise Wrong(f"The training side is {train}; the patches of the other photographs are 0, 2, 3, 6 and 7.")
