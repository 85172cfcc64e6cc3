"""Checks of the exercises: `check.psnr(my_psnr)` prints *not attempted yet*, *passed*, or what is wrong and a hint.

A check works offline, is deterministic, and never raises, so a notebook with open exercises runs top to bottom.
"""

import functools
import math
from collections.abc import Callable

import torch

from . import degradations, images, metrics


class Wrong(Exception):
    """An answer is wrong; the message says what was seen, and a hint."""


def exercise(label: str) -> Callable:
    """Make a function that raises Wrong into a check that prints one line, headed "Exercise `label`"."""

    def decorate(examine: Callable) -> Callable:
        @functools.wraps(examine)
        def check(answer) -> None:
            print(f"Exercise {label}: {_verdict(examine, answer)}")

        return check

    return decorate


def _verdict(examine: Callable, answer) -> str:
    name = getattr(answer, "__name__", "your answer")
    try:
        examine(answer)
    except NotAttempted:
        return f"not attempted yet. Replace the ... in {name}."
    except Wrong as why:
        return f"not yet. {why}"
    except Exception as why:  # whatever a learner's function raises is an answer to explain, not a crash
        return f"not yet. {name} raised {type(why).__name__}: {why}"
    return "passed."


class NotAttempted(Exception):
    """The stub is untouched: it returned None or an ellipsis."""


def _call(function: Callable, *arguments):
    """Call a learner's function; None and ... mean that it was left open."""
    value = function(*arguments)
    if value is None or value is ...:
        raise NotAttempted
    return value


def _number(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"It returned {type(value).__name__}, not a number: take the mean over all pixels.") from None


def _pictures() -> tuple[torch.Tensor, torch.Tensor]:
    clean = torch.linspace(0, 1, 3 * 24 * 32).view(3, 24, 32)
    return clean, degradations.gaussian_noise(clean, 0.1, seed=1)


# --------------------------------------------------------------------------------- notebook 1: data


@exercise("1.1")
def luma(answer: Callable) -> None:
    """my_luma(image): (3, H, W) RGB in [0, 1] → (1, H, W), Y of BT.601 in studio range."""
    clean, _ = _pictures()
    value = _call(answer, clean)
    if tuple(value.shape) != (1, 24, 32):
        raise Wrong(f"The shape is {tuple(value.shape)}; (1, 24, 32) was expected: keep the channel axis.")
    if torch.allclose(value, clean.mean(0, keepdim=True), atol=1e-3):
        raise Wrong("That is the plain mean; the eye sees green brighter than blue. Use the three weights.")
    if torch.allclose(value - 16 / 255, images.luma(clean) - 32 / 255, atol=1e-3):
        raise Wrong("Black should come out as 16/255, not 0: add the offset.")
    if not torch.allclose(value, images.luma(clean), atol=1e-3):
        raise Wrong("The weights are 65.481, 128.553 and 24.966, each over 255, and black is 16/255.")


@exercise("1.2")
def psnr(answer: Callable) -> None:
    """my_psnr(a, b, peak): decibels; infinite for equal pictures."""
    clean, noisy = _pictures()
    value = _number(_call(answer, noisy, clean, 1.0))
    expected = metrics.psnr(noisy, clean)
    if abs(value + expected) < 0.01:
        raise Wrong("The sign is wrong: a small error is a high PSNR. Divide peak² by the error, not the error by it.")
    if abs(value - expected / 2) < 0.01:
        raise Wrong("It is half of what it should be: 10·log₁₀ of squares, or 20·log₁₀ of roots.")
    if abs(value - expected) > 0.01:
        raise Wrong(f"It gives {value:.2f} dB where {expected:.2f} dB was expected: 10·log₁₀(peak² / MSE).")
    if abs(_number(_call(answer, noisy, clean, 255.0)) - metrics.psnr(noisy, clean, 255)) > 0.01:
        raise Wrong("With peak 255 it gives the same as with 1: use the argument.")
    try:
        value = _number(_call(answer, clean, clean, 1.0))
    except (ZeroDivisionError, ValueError):
        raise Wrong("Two equal pictures make it fail: their error is 0. Return math.inf for them.") from None
    if value != math.inf:
        raise Wrong(f"Two equal pictures give {value}; they have no error at all: return math.inf.")


@exercise("1.3")
def patch_count(answer: Callable) -> None:
    """my_count(side, size, stride): how many windows of `size` fit along one side."""
    for side, size, stride in ((10, 4, 2), (10, 4, 3), (321, 33, 14), (4, 4, 1)):
        value = _number(_call(answer, side, size, stride))
        expected = (side - size) // stride + 1
        if value == expected - 1:
            raise Wrong(f"side {side}, size {size}, stride {stride}: one too few; the first window counts, too.")
        if value != expected:
            raise Wrong(f"side {side}, size {size}, stride {stride}: {value:g}, but {expected} fit.")


@exercise("1.4")
def turn(answer: Callable) -> None:
    """my_turn(x, y, k): input and target, each (C, H, W), brought into orientation k, 0 to 7; k = 0 changes nothing."""
    target = torch.arange(36.0).view(1, 6, 6)
    source = target[:, ::2, ::2]
    seen = []
    for k in range(8):
        x, y = _call(answer, source, target, k)
        one, two = (_orientation(*pair) for pair in ((x, source), (y, target)))
        if one is None or two is None:
            raise Wrong(f"k = {k}: that is not a turned or mirrored picture. torch.rot90(t, k, (1, 2)) keeps channels.")
        if one != two:
            raise Wrong(f"k = {k}: input and target were turned differently, so they no longer match.")
        seen.append(one)
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
    value = _call(answer, image, 4)
    expected = images.split_tiles(image, 4)
    if tuple(value.shape) != tuple(expected.shape):
        raise Wrong(f"The shape is {tuple(value.shape)}; {tuple(expected.shape)} was expected: 2 rows of 3 tiles.")
    if torch.equal(value, expected.view(2, 3, 2, 4, 4).transpose(0, 1).reshape(6, 2, 4, 4)):
        raise Wrong("The tiles come column by column; go row by row, as one reads.")
    if not torch.equal(value, expected):
        raise Wrong("The pixels are mixed up: a reshape alone cuts across rows. Unfold, or slice in two loops.")


@exercise("1.6")
def split(answer: Callable) -> None:
    """my_split(sources, held_out): numbers of the patches to train on and to test on, given each patch's photograph."""
    sources = ["cat", "cup", "cat", "rocket", "cup", "cup", "cat", "rocket", "moon"]
    train, test = (sorted(int(i) for i in part) for part in _call(answer, sources, {"cup", "moon"}))
    if train == [1, 4, 5, 8] and test == [0, 2, 3, 6, 7]:
        raise Wrong("The two lists are swapped: first the numbers to train on, then those to test on.")
    both = {sources[i] for i in train} & {sources[i] for i in test}
    if both:
        raise Wrong(f"Patches of {', '.join(sorted(both))} are on both sides: decide by photograph, not by patch.")
    if len(train) + len(test) != len(sources):
        raise Wrong(f"There are {len(sources)} patches, and you returned {len(train) + len(test)} numbers.")
    if test != [1, 4, 5, 8]:
        raise Wrong(f"The test side is {test}; the patches of cup and moon are 1, 4, 5 and 8.")


# ------------------------------------------------------------------------------- notebook 2: SRCNN


@exercise("2.1")
def parameters(answer: Callable) -> None:
    """my_parameters(kernels): weights and biases of SRCNN 1→64→32→1 with these kernel sizes."""
    for kernels, expected in (((9, 1, 5), 8_129), ((9, 5, 5), 57_281)):
        value = _number(_call(answer, kernels))
        if value == expected - 97:
            raise Wrong("The biases are missing: each layer has one per output channel, 64 + 32 + 1.")
        if value != expected:
            raise Wrong(
                f"{kernels}: {value:g}, but there are {expected:,}: inputs × outputs × k² + outputs, per layer."
            )


@exercise("2.2")
def receptive_field(answer: Callable) -> None:
    """my_receptive_field(kernels): side of the square of input pixels that one output pixel sees."""
    for kernels, expected in (((9, 1, 5), 13), ((9, 5, 5), 17), ((3,), 3), ((3, 3, 3, 3), 9)):
        value = _number(_call(answer, kernels))
        if value == sum(kernels) != expected:
            raise Wrong("Each layer adds k − 1 pixels, not k: a 1×1 layer widens nothing.")
        if value != expected:
            raise Wrong(f"{kernels}: {value:g}, but it is {expected}. Start at 1 and add k − 1 for each layer.")


@exercise("2.3")
def loss_border(answer: Callable) -> None:
    """my_loss(prediction, target, border): MSE that leaves out `border` pixels on each side."""
    target = torch.zeros(1, 1, 12, 12)
    prediction = torch.ones(1, 1, 12, 12)
    prediction[..., 3:-3, 3:-3] = 0.5
    value = _number(_call(answer, prediction, target, 3))
    if abs(value - (prediction - target).square().mean().item()) < 1e-6:
        raise Wrong("The border still counts: cut it off before you take the mean.")
    if not abs(value - 0.25) <= 1e-6:
        raise Wrong(f"It gives {value:.3f} where 0.250 was expected: the mean over what remains.")
    whole = (prediction - target).square().mean().item()
    if not abs(_number(_call(answer, prediction, target, 0)) - whole) <= 1e-6:  # so that NaN is wrong, too
        raise Wrong("A border of 0 must leave everything: x[..., 0:-0] is empty.")


@exercise("2.4")
def multiply_adds(answer: Callable) -> None:
    """my_multiply_adds(weights, scale, small): multiply-adds per output pixel of a network with so many weights."""
    for weights, scale, small, expected in (
        (57_184, 3, False, 57_184),
        (57_184, 2, True, 14_296),
        (9_000, 3, True, 1_000),
    ):
        value = _number(_call(answer, weights, scale, small))
        if small and value == weights:
            raise Wrong("A network on the small picture runs once per small pixel, which makes scale² output pixels.")
        if small and abs(value - weights / scale) < 1e-6:
            raise Wrong("The picture shrinks on both sides: divide by scale², not by scale.")
        if not abs(value - expected) <= 1e-6:
            raise Wrong(f"{weights:,} weights, ×{scale}, small={small}: {value:g}, but it is {expected:,}.")
