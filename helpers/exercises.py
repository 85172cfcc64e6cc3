"""Checks of the exercises: `check.psnr(my_psnr)` prints *not attempted yet*, *passed*, or what is wrong and a hint.

A check works offline, is deterministic, and never raises, so a notebook with open exercises runs top to bottom.
"""

import functools
import math
import operator
from collections.abc import Callable

import numpy as np
import torch

from . import degradations, images, metrics


class Wrong(Exception):
    """An answer is wrong; the message says what was seen, and a hint."""


def exercise(label: str, course: Callable | None = None) -> Callable:
    """Make a function that raises Wrong into a check that prints one line, headed "Exercise `label`".

    The check has the `label`, and a `verdict(answer)` that returns the sentence, for whoever grades many answers.
    course: a right answer, where cells below the exercise call it; see `usable`.
    """

    def decorate(examine: Callable) -> Callable:
        @functools.wraps(examine)
        def check(answer) -> None:
            print(f"Exercise {label}: {check.verdict(answer)}")

        check.label, check.course, check.verdict = label, course, functools.partial(_verdict, examine)
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


def usable(check: Callable, answer: Callable) -> Callable:
    """The learner's function where it passes, else the course's: what a student's notebook goes on with."""
    return answer if _verdict(check.__wrapped__, answer) == "passed." else check.course


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


def _picture(value, shape: tuple[int, ...] | None = None, hint: str = "") -> torch.Tensor:
    """The tensor that a learner's function returned; Wrong where it is something else, or of another shape."""
    if not isinstance(value, torch.Tensor):
        raise Wrong(f"It returned {type(value).__name__}, not a tensor.")
    if shape and tuple(value.shape) != shape:
        raise Wrong(f"The shape is {tuple(value.shape)}; {shape} was expected: {hint}.")
    return value


def _two(value, what: str) -> tuple:
    """The two things that a learner's function returned."""
    if isinstance(value, torch.Tensor) or not isinstance(value, tuple | list) or len(value) != 2:
        many = f" of {len(value)}" if isinstance(value, tuple | list) else ""
        raise Wrong(f"It returned {type(value).__name__}{many}; return two {what}, with a comma between them.")
    return tuple(value)


def _pictures() -> tuple[torch.Tensor, torch.Tensor]:
    clean = torch.linspace(0, 1, 3 * 24 * 32).view(3, 24, 32)
    return clean, degradations.gaussian_noise(clean, 0.1, seed=1)


# --------------------------------------------------------------------------------- notebook 1: data


@exercise("1.1")
def luma(answer: Callable) -> None:
    """my_luma(image): (3, H, W) RGB in [0, 1] → (1, H, W), Y of BT.601 in studio range."""
    clean, _ = _pictures()
    value = _picture(_call(answer, clean), (1, 24, 32), "keep the channel axis")
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
    clean, noisy = _pictures()
    value = _number(_call(answer, noisy, clean, 1.0))
    expected = metrics.psnr(noisy, clean)
    if abs(value + expected) < 0.01:
        raise Wrong("The sign is wrong: a small error is a high PSNR. Divide peak² by the error, not the error by it.")
    if abs(value - expected / 2) < 0.01:
        raise Wrong("It is half of what it should be: 10·log₁₀ of squares, or 20·log₁₀ of roots.")
    if not abs(value - expected) <= 0.01:
        raise Wrong(f"It gives {value:.2f} dB where {expected:.2f} dB was expected: 10·log₁₀(peak² / MSE).")
    at_255, wanted = _number(_call(answer, noisy, clean, 255.0)), metrics.psnr(noisy, clean, 255)
    if abs(at_255 - value) < 0.01:
        raise Wrong("With peak 255 it gives the same as with 1: use the argument.")
    if abs(at_255 - value - 10 * math.log10(255)) < 0.01:
        raise Wrong("With peak 1 it is right, with 255 it is too low: the error is squared, so square the peak.")
    if not abs(at_255 - wanted) <= 0.01:
        raise Wrong(f"With peak 255 it gives {at_255:.2f} dB where {wanted:.2f} dB was expected.")
    try:
        value = _number(_call(answer, clean, clean, 1.0))
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
        value, expected = _number(_call(answer, side, size, stride)), _count(side, size, stride)
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
        x, y = map(_picture, _two(_call(answer, source, target, k), "pictures"))
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
    expected = images.split_tiles(image, 4)
    value = _picture(_call(answer, image, 4), tuple(expected.shape), "2 rows of 3 tiles")
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
    sources = ["cat", "cup", "cat", "rocket", "cup", "cup", "cat", "rocket", "moon"]
    both = _two(_call(answer, sources, {"cup", "moon"}), "lists")
    try:
        train, test = (sorted(operator.index(i) for i in part) for part in both)
    except TypeError:
        raise Wrong("The lists should hold numbers of patches, 0 to 8, not their photographs.") from None
    if not all(0 <= i < len(sources) for i in train + test):
        raise Wrong("There are 9 patches, numbered from 0 to 8.")
    if train == [1, 4, 5, 8] and test == [0, 2, 3, 6, 7]:
        raise Wrong("The two lists are swapped: first the numbers to train on, then those to test on.")
    both = {sources[i] for i in train} & {sources[i] for i in test}
    if both:
        raise Wrong(f"Patches of {', '.join(sorted(both))} are on both sides: decide by photograph, not by patch.")
    if len(train) + len(test) != len(sources):
        raise Wrong(f"There are {len(sources)} patches, and you returned {len(train) + len(test)} numbers.")
    if test != [1, 4, 5, 8]:
        raise Wrong(f"The test side is {test}; the patches of cup and moon are 1, 4, 5 and 8.")
    if train != [0, 2, 3, 6, 7]:
        raise Wrong(f"The training side is {train}; the patches of the other photographs are 0, 2, 3, 6 and 7.")


# ------------------------------------------------------------------------------- notebook 2: SRCNN


@exercise("2.1")
def parameters(answer: Callable) -> None:
    """my_parameters(kernels): weights and biases of SRCNN 1→64→32→1 with these kernel sizes."""
    for kernels, expected in (((9, 1, 5), 8_129), ((9, 5, 5), 57_281)):
        value = _number(_call(answer, kernels))
        seen = f"{kernels}: {value:,.0f}, but there are {expected:,}."
        if value == expected - 97:
            raise Wrong(f"{seen} The biases are missing: each layer has one per output channel, 64 + 32 + 1.")
        layers = list(zip((1, 64, 32), (64, 32, 1), kernels, strict=True))  # inputs, outputs, k
        if value == sum(i * o * k + o for i, o, k in layers):
            raise Wrong(f"{seen} A kernel is a square: one of size 9 has 81 weights, not 9.")
        if value == sum(o * k * k + o for _, o, k in layers):
            raise Wrong(f"{seen} A kernel looks at every channel of the layer below, with weights for each.")
        if value != expected:
            raise Wrong(f"{seen} Each layer has inputs × outputs × k² weights and a bias per output.")


@exercise("2.2")
def receptive_field(answer: Callable) -> None:
    """my_receptive_field(kernels): side of the square of input pixels that one output pixel sees."""
    for kernels, expected in (((9, 1, 5), 13), ((9, 5, 5), 17), ((3,), 3), ((3, 3, 3, 3), 9)):
        value = _number(_call(answer, kernels))
        seen = f"{kernels}: {value:g}, but it is {expected}."
        if value == sum(kernels) != expected:
            raise Wrong(f"{seen} Each layer adds k − 1 pixels, not k: a 1×1 layer widens nothing.")
        if value == expected - 1:
            raise Wrong(f"{seen} Before any layer, a pixel sees one already: itself.")
        if value == max(kernels) != expected:
            raise Wrong(f"{seen} The second layer looks at pixels each of which has seen a square of the first.")
        if value == (expected + 1) / 2:
            raise Wrong(f"{seen} A kernel reaches out from the middle to both sides.")
        if value != expected:
            raise Wrong(f"{seen} Start at 1 and add k − 1 for each layer.")


@exercise("2.3")
def loss_border(answer: Callable) -> None:
    """my_loss(prediction, target, border): MSE that leaves out `border` pixels on each side."""
    target = torch.zeros(1, 1, 12, 12)
    prediction = torch.ones(1, 1, 12, 12)
    prediction[..., 3:-3, 3:-3] = 0.5
    loss = _call(answer, prediction.clone().requires_grad_(), target, 3)
    value = _number(loss.detach() if isinstance(loss, torch.Tensor) else loss)
    if abs(value - (prediction - target).square().mean().item()) < 1e-6:
        raise Wrong("The border still counts: cut it off before you take the mean.")
    if not abs(value - 0.25) <= 1e-6:
        raise Wrong(f"It gives {value:.3f} where 0.250 was expected: the mean over what remains.")
    if not getattr(loss, "requires_grad", False):
        raise Wrong("The number is right, but it carries no gradient, so nothing can be trained by it: no .item().")
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
        if small and value == weights * scale**2:
            raise Wrong("Working on the small picture should make it cheaper, not dearer.")
        if not small and abs(value - weights / scale**2) < 1e-6:
            raise Wrong("A network on the enlarged picture runs once for each output pixel: nothing is saved.")
        if not abs(value - expected) <= 1e-6:
            raise Wrong(f"{weights:,} weights, ×{scale}, small={small}: {value:g}, but it is {expected:,}.")


# ------------------------------------------------------------------------------- notebook 3: JPEG


def _tensor(value, shape: tuple[int, ...]) -> torch.Tensor:
    try:
        value = torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"It returned {type(value).__name__}, not a tensor.") from None
    if tuple(value.shape) != shape:
        raise Wrong(f"The shape is {tuple(value.shape)}; {shape} was expected.")
    return value


def _close(a: torch.Tensor, b: torch.Tensor, within: float) -> bool:
    return bool(((a - b).abs() <= within).all())


def _dct_matrix() -> torch.Tensor:
    """The orthonormal DCT of 8 numbers, (8, 8); row k is the k-th pattern."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)
    matrix = torch.cos((2 * n + 1) * k * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def _block() -> torch.Tensor:
    """An 8×8 block of pixels, 0 to 255: a ramp, steeper downwards than across, with a bright corner."""
    rows, columns = torch.arange(8.0)[:, None], torch.arange(8.0)
    return 20 + 11 * rows + 3 * columns + 90.0 * (rows + columns < 5)


def _dct(block: torch.Tensor) -> torch.Tensor:
    return _dct_matrix() @ block @ _dct_matrix().T


@exercise("3.1", course=_dct)
def dct(answer: Callable) -> None:
    """my_dct(block): the DCT coefficients of an 8×8 block, columns and rows."""
    matrix, block = _dct_matrix(), _block() - 128
    value = _tensor(_call(answer, block), (8, 8))
    expected = _dct(block)
    if _close(value, matrix @ block, 0.1) or _close(value, block @ matrix.T, 0.1):
        raise Wrong("That transforms in one direction only: D on the left does the columns, D.T on the right the rows.")
    if _close(value, matrix.T @ block @ matrix, 0.1):
        raise Wrong("That is the way back, from coefficients to pixels: D belongs on the left, D.T on the right.")
    if _close(value, expected.T, 0.1):
        raise Wrong("Rows and columns are swapped: that is the transpose of what was expected.")
    if not _close(value, expected, 0.1):
        raise Wrong(
            f"The first coefficient is {value[0, 0]:.1f} where {expected[0, 0]:.1f} was expected, and it is not the "
            "only one that may differ: D @ block does the columns; what does the rows?"
        )


def _back(coefficients: torch.Tensor) -> torch.Tensor:
    return _dct_matrix().T @ coefficients @ _dct_matrix()


def _round_trip(block: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return _back((_dct(block - 128) / table).round() * table) + 128


@exercise("3.2", course=_round_trip)
def round_trip(answer: Callable) -> None:
    """my_round_trip(block, table): an 8×8 block, 0 to 255, as it comes back from a JPEG file with this table."""
    block = _block()
    table = 23 + 9 * torch.arange(8.0)[:, None] + 7 * torch.arange(8.0)
    value = _tensor(_call(answer, block, table), (8, 8))
    expected, coefficients = _round_trip(block, table), _dct(block - 128)
    stored = (coefficients / table).round()
    if _close(value, stored, 0.01):
        raise Wrong("Those are the stored integers. Multiply by the table again and transform back.")
    if _close(value, expected - 128, 0.6):
        raise Wrong("It is too dark by 128: undo the centring at the end.")
    if _close(value, _back(stored) + 128, 0.6):
        raise Wrong("The integers must be multiplied by the table before they are transformed back.")
    if _close(value, block, 0.6):
        raise Wrong("Nothing is lost: divide by the table and round before you multiply again.")
    if _close(value, _back((_dct(block) / table).round() * table), 0.6):
        raise Wrong("Subtract 128 from the pixels first, and add it at the end: JPEG rounds centred numbers.")
    cut = [_back(f(coefficients / table) * table) + 128 for f in (torch.floor, torch.trunc)]
    if any(_close(value, wrong, 0.6) for wrong in cut):
        raise Wrong("The quotients were cut off; round them to the nearest integer.")
    if not _close(value, expected, 0.6):  # 0.6: rounded to whole gray levels is right, too
        raise Wrong("Centre, transform, divide, round, multiply, transform back, undo the centring: one is amiss.")


@exercise("3.3")
def blocking(answer: Callable) -> None:
    """my_blocking(image): mean square horizontal step across block borders minus that elsewhere, at least 0."""
    image = 0.1 * torch.tensor([3.0, 5.0, 2.0]).repeat_interleave(8).repeat(1, 5, 1)  # (1, 5, 24): three flat blocks
    image = image + 0.02 * (torch.arange(24.0) % 8)
    steps = image.diff(dim=-1)
    border = torch.arange(23) % 8 == 7

    def excess(amount: torch.Tensor, where: torch.Tensor) -> float:
        return (amount[..., where].mean() - amount[..., ~where].mean()).item()

    value = _number(_call(answer, image))
    expected = excess(steps.square(), border)
    if abs(value - excess(steps.abs(), border)) < 1e-5:
        raise Wrong("Those are absolute steps; the formula has squares, as the mean squared error.")
    if any(abs(value - excess(steps.square(), torch.arange(23) % 8 == k)) < 1e-5 for k in (0, 6)):
        raise Wrong("The columns are off by one: the step from column 7 to column 8 is number 7 of the differences.")
    if abs(value - steps[..., border].square().mean().item()) < 1e-5:
        raise Wrong("Subtract the mean square step elsewhere: a picture full of detail has steps everywhere.")
    if abs(value - (steps[..., border].square().sum() - steps[..., ~border].square().sum()).item()) < 1e-5:
        raise Wrong("Take means, not sums: there are seven times as many steps inside blocks as across borders.")
    if not abs(value - expected) <= 1e-5:
        raise Wrong(f"It gives {value:.4f} where {expected:.4f} was expected: borders lie after columns 7, 15, 23, …")
    lines = torch.tensor([0.0, 1, 0, 1, 0, 1, 0, 0]).repeat(1, 5, 3)  # steps everywhere but across borders
    value = _number(_call(answer, lines))
    if not abs(value) <= 1e-6:
        raise Wrong(f"A picture with larger steps inside blocks gives {value:.2f}; it shows no blocks: stop at 0.")


@exercise("3.4")
def learning_rate(answer: Callable) -> None:
    """my_learning_rate(epoch, epochs, start): halved after each completed fifth of the epochs; epoch counts from 0."""
    for epoch, halvings in ((0, 0), (10, 0), (19, 0), (20, 1), (39, 1), (99, 4)):
        expected = 5e-4 * 0.5**halvings
        value = _number(_call(answer, epoch, 100, 5e-4))
        if epoch and value == 5e-4 * 0.5**epoch:
            raise Wrong(f"Epoch {epoch} of 100 has {value:.1e}: it halves nearly every epoch, as the original does.")
        if epoch in (19, 39) and value == expected / 2:
            raise Wrong(f"Epoch {epoch} of 100 is halved too early: counted from 0, the fifth ends after it.")
        if not abs(value - expected) <= 1e-9:
            raise Wrong(f"Epoch {epoch} of 100 has {value:.2e}, but {expected:.2e} was expected: {halvings} halvings.")
    if not abs(_number(_call(answer, 8, 10, 1.0)) - 1 / 16) <= 1e-9:
        raise Wrong("Of 10 epochs, a fifth are 2: epoch 8 has seen 4 halvings. Use the argument `epochs`.")
    try:
        first = _number(_call(answer, 0, 3, 1.0))
    except ZeroDivisionError:
        raise Wrong(
            "For 3 epochs it divides by zero: 3 // 5 is 0. Count completed fifths, 5 * epoch // epochs."
        ) from None
    if first != 1.0:
        raise Wrong(f"For 3 epochs it begins at {first:g} times the start; the first epoch has the full rate.")


def _bounded(restored: torch.Tensor, decoded: torch.Tensor, tau: float) -> torch.Tensor:
    return restored.clamp(decoded - tau, decoded + tau)


@exercise("3.5", course=_bounded)
def bounded(answer: Callable) -> None:
    """my_bounded(restored, decoded, tau): the picture nearest to `restored` within `tau` of `decoded` everywhere."""
    decoded = torch.linspace(0.3, 0.7, 40).view(1, 5, 8)
    change = 0.1 * torch.sin(torch.arange(40.0)).view(1, 5, 8)
    tau = 0.05
    value = _tensor(_call(answer, decoded + change, decoded, tau), (1, 5, 8))
    expected = _bounded(decoded + change, decoded, tau)
    if _close(value, change.clamp(-tau, tau), 1e-5):
        raise Wrong("That is the allowed change alone; it belongs on top of `decoded`.")
    if _close(value, (decoded + change).clamp(-tau, tau), 1e-5):
        raise Wrong("The limits are not −tau and tau, but that far to both sides of `decoded`.")
    if (value - decoded).abs().max() > tau + 1e-5:
        raise Wrong(f"Somewhere it is {(value - decoded).abs().max():.3f} away from `decoded`; tau is {tau}.")
    free = change.abs() < tau
    if not _close(value[free], (decoded + change)[free], 1e-5):
        raise Wrong("Pixels that were within tau already have changed; the nearest picture leaves them alone.")
    if not _close(value, expected, 1e-5):
        raise Wrong("Pixels beyond the limit should come to lie on it: clamp between decoded − tau and decoded + tau.")


def _interval(coefficients: torch.Tensor, stored: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return coefficients.clamp((stored - 0.5) * table, (stored + 0.5) * table)


@exercise("3.6", course=_interval)
def interval(answer: Callable) -> None:
    """my_interval(coefficients, stored, table): (N, 8, 8) moved to where JPEG rounds to the stored integers."""
    table = 10.0 + 3 * torch.arange(64.0).view(8, 8)
    stored = (4 * torch.sin(torch.arange(128.0))).round().view(2, 8, 8)
    coefficients = (stored + 1.6 * torch.cos(7 * torch.arange(128.0)).view(2, 8, 8)) * table
    value = _tensor(_call(answer, coefficients, stored, table), (2, 8, 8))
    if _close(value, stored * table, 0.01):
        raise Wrong("That is the decoded file again; what the network found inside the intervals should stay.")
    if _close(value, coefficients.clamp(stored - 0.5, stored + 0.5), 0.01):
        raise Wrong("The integers count steps of the table: multiply the limits by it.")
    if _close(value, coefficients.clamp((stored - 1) * table, (stored + 1) * table), 0.01):
        raise Wrong("The interval is twice too wide: rounding moves a quotient by at most one half.")
    if _close(value, coefficients.clamp(stored * table - 0.5, stored * table + 0.5), 0.01):
        raise Wrong("Half a step is half of the *table entry*, not 0.5.")
    if not _close(value, _interval(coefficients, stored, table), 0.01):
        raise Wrong("Clamp each coefficient between (stored − ½)·table and (stored + ½)·table.")


# --------------------------------------------------------------------------- notebook 4: bits and codecs


def _entropy(p: torch.Tensor) -> torch.Tensor:
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2)


@exercise("4.1", course=_entropy)
def entropy(answer: Callable) -> None:
    """my_entropy(p): bits that a binary symbol costs, for a tensor of shares of ones; 0 where p is 0 or 1."""
    p = torch.tensor([0.5, 0.1, 0.02, 0.9])
    expected = _entropy(p)
    value = _tensor(_call(answer, p), (4,))
    if _close(value, expected * math.log(2), 1e-3):
        raise Wrong("Those are nats: bits want the logarithm to base 2.")
    if _close(value, -expected, 1e-3):
        raise Wrong("The sign is wrong: logarithms of probabilities are negative, bits are not.")
    if _close(value, -p * p.log2(), 1e-3):
        raise Wrong("Zeros cost something, too: add the term of 1 − p.")
    if not _close(value, expected, 1e-3):
        raise Wrong(f"For p = 0.1 it gives {value[1]:.3f} where {expected[1]:.3f} was expected.")
    ends = _tensor(_call(answer, torch.tensor([0.0, 1.0])), (2,))
    if not _close(ends, torch.zeros(2), 1e-3):
        raise Wrong("For p = 0 and 1 it should give 0: a bit that is always the same tells nothing. Mind 0 · log 0.")


def _largest(coefficients: torch.Tensor, count: int, order: Callable = torch.abs) -> torch.Tensor:
    sizes = order(coefficients)
    smallest = sizes.flatten(1).topk(count).values[:, -1, None, None]  # that is kept, of each block
    return torch.where(sizes >= smallest, coefficients, 0)


@exercise("4.2", course=_largest)
def largest(answer: Callable) -> None:
    """my_largest(coefficients, count): all but the `count` largest in absolute value set to zero, in each block."""
    blocks = torch.sin(torch.arange(128.0) ** 1.3).view(2, 8, 8) * torch.tensor([1.0, 9.0]).view(2, 1, 1)
    value = _tensor(_call(answer, blocks, 4), (2, 8, 8))
    expected = _largest(blocks, 4)
    if _close(value, _largest(blocks, 4, order=torch.clone), 1e-6):
        raise Wrong("Large negative coefficients matter as much as positive ones: compare absolute values.")
    if _close(value, expected.ne(0).float(), 1e-6):
        raise Wrong("That is a mask; return the coefficients themselves where it is one.")
    if value.ne(0).sum(dim=(1, 2)).tolist() == [0, 8] or value[0].abs().max() == 0:
        raise Wrong("Take the largest of each block, not of all blocks together.")
    if not _close(value, expected, 1e-6):
        kept = value.ne(0).sum(dim=(1, 2)).tolist()
        raise Wrong(f"Of blocks with 64 coefficients it keeps {kept}; the 4 largest of each were asked for.")


def _thermometer(level: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    return (level > thresholds).float()


@exercise("4.3", course=_thermometer)
def thermometer(answer: Callable) -> None:
    """my_thermometer(level, thresholds): a row of bits, one where the level is above the threshold."""
    thresholds = torch.arange(-2.5, 3.0)
    for level in torch.tensor([1.2, -3.0, 9.0]):
        value = _tensor(_call(answer, level, thresholds), (6,))
        wanted = _thermometer(level, thresholds)
        if _close(value, 1 - wanted, 1e-6):
            raise Wrong("It is upside down: bits below the level are one.")
        if value.sum() == 1 and wanted.sum() > 1:
            raise Wrong("Only one bit is set; a thermometer is filled from below up to the level.")
        if ((value > 0) & (value < 1)).any():
            raise Wrong("Some are neither 0 nor 1: those are shades, and a file holds bits.")
        if value.min() == -1:
            raise Wrong("Those are signs, −1 and 1; bits are 0 and 1.")
        if not _close(value, wanted, 1e-6):
            raise Wrong(f"The level {level:g} gives {value.int().tolist()}; {wanted.int().tolist()} was expected.")


@exercise("4.4")
def code_length(answer: Callable) -> None:
    """my_bits(level, mean, scale): −log₂ of what a Laplace distribution gives to level − ½ … level + ½."""
    level = torch.tensor([0.0, 1.0, -3.0, 2.0])
    mean, scale = torch.tensor([0.0, 0.4, 0.0, 2.2]), torch.tensor([1.0, 0.5, 2.0, 0.3])

    def below(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x < mean, ((x - mean) / scale).exp() / 2, 1 - ((mean - x) / scale).exp() / 2)

    probability = below(level + 0.5) - below(level - 0.5)
    value = _tensor(_call(answer, level, mean, scale), (4,))
    if _close(value, probability, 1e-3):
        raise Wrong("Those are probabilities; bits are −log₂ of them.")
    if _close(value, -probability.log(), 1e-3):
        raise Wrong("Those are nats: bits want the logarithm to base 2.")
    density = (-(level - mean).abs() / scale).exp() / (2 * scale)
    if _close(value, -density.log2(), 1e-3):
        raise Wrong(
            "That is the density at a point; a level stands for all numbers that round to it: take an interval."
        )
    if not _close(value, -probability.log2(), 1e-3):
        raise Wrong(
            f"For level 0, mean 0, scale 1 it gives {value[0]:.3f} where {-probability[0].log2():.3f} is right."
        )


# --------------------------------------------------------------------- notebook 5: compressed sensing


@exercise("5.1")
def signed_psnr(answer: Callable) -> None:
    """my_psnr(x, y): PSNR in dB of two pictures whose pixels lie in [−1, 1]."""
    y = torch.linspace(-0.6, 0.5, 64).view(8, 8)  # no picture that reaches black and white
    x = y + 0.1 * torch.sin(torch.arange(64.0)).view(8, 8)
    mse = (x - y).square().mean().item()
    value, right = _number(_call(answer, x, y)), 10 * math.log10(4 / mse)
    if abs(value - 10 * math.log10((y.max() - y.min()).item() ** 2 / mse)) < 1e-2:
        raise Wrong("The peak is the range that pixels may have, not the range of this picture.")
    if abs(value - 20 * math.log10(4 / mse)) < 1e-2:
        raise Wrong("20·log₁₀ is for the ratio of peak and root mean square; of their squares it is 10·log₁₀.")
    if abs(value - 10 * math.log(4 / mse)) < 1e-2:
        raise Wrong("That is the natural logarithm; decibels want the one to base 10.")
    if abs(value - 10 * math.log10(1 / mse)) < 1e-2:
        raise Wrong("That is the original's: 6.02 dB too low. From black to white it is 2, not 1.")
    if abs(value - 10 * math.log10(2 / mse)) < 1e-2:
        raise Wrong("The peak enters squared.")
    if abs(value + right) < 1e-2:
        raise Wrong("The sign is wrong.")
    if not abs(value - right) <= 1e-2:
        raise Wrong(f"It gives {value:.2f} dB where {right:.2f} dB is right.")


@exercise("5.2")
def similarity(answer: Callable) -> None:
    """my_similarity(c1, c2): (2·Σc₁c₂ + K) / (Σc₁² + Σc₂² + K), K = 0.01, of a negated band close to −1."""
    c = torch.tensor([[0.3, -1.2, 0.8], [0.1, 0.4, -0.6]])
    other = torch.tensor([[0.2, -0.7, 0.9], [0.5, 0.1, 0.2]])

    def expected(a: torch.Tensor, b: torch.Tensor) -> float:
        return ((2 * (a * b).sum() + 0.01) / (a.square().sum() + b.square().sum() + 0.01)).item()

    negated = _number(_call(answer, c, -c))
    if abs(negated - 1) < 1e-2:
        raise Wrong("A negated band scores 1: the absolute value, or a square, has forgotten the sign.")
    for a, b, case in ((c, -c, "a band and its negative"), (c, other, "two bands"), (c, c, "a band with itself")):
        value = _number(_call(answer, a, b))
        if abs(value - (expected(a, b) / 2)) < 1e-2 and abs(expected(a, b)) > 0.1:
            raise Wrong(f"For {case} it gives half of what is right: mind the 2.")
        plain = (2 * (a * b).sum() / (a.square().sum() + b.square().sum())).item()
        if abs(value - plain) < 1e-5 < abs(value - expected(a, b)):
            raise Wrong("K is missing: it is added above and below, and two empty bands would divide zero by zero.")
        if not abs(value - expected(a, b)) <= 1e-4:
            raise Wrong(f"For {case} it gives {value:.4f} where {expected(a, b):.4f} is right.")
    empty = torch.zeros(2, 3)
    if not abs(_number(_call(answer, empty, empty)) - 1) < 1e-6:
        raise Wrong("Two empty bands are equal and should score 1: that is what K is for, above and below.")


def _measurements(height: int, width: int, ratio: float, block: int) -> int:
    return math.ceil(height / block) * math.ceil(width / block) * round(ratio * block**2)


@exercise("5.3", course=_measurements)
def measurements(answer: Callable) -> None:
    """my_measurements(height, width, ratio, block): numbers measured where every block is, those of padding too."""
    for height, width, ratio, block in ((100, 100, 0.1, 32), (256, 256, 0.1, 32), (33, 64, 0.04, 32)):
        blocks, each = -(-height // block) * -(-width // block), round(ratio * block**2)
        value, expected = (_number(_call(f, height, width, ratio, block)) for f in (answer, _measurements))
        case = f"For {height}×{width} pixels at a ratio of {ratio:g}"
        if value == (height // block) * (width // block) * each != expected:
            raise Wrong(f"{case} it leaves out the blocks that hang over the edge: round the number of blocks up.")
        if abs(value - blocks * ratio * block**2) < 1 and value != expected:
            raise Wrong(f"{case} it gives {value:g}: *each* block has a whole number of measurements, round that.")
        if value == round(ratio * height * width) != expected:
            raise Wrong(f"{case} it counts pixels; the camera measures whole blocks, of padding as well.")
        if value != expected:
            raise Wrong(f"{case} it gives {value:g}; {blocks} blocks of {each} were expected.")


@exercise("5.4")
def consistent(answer: Callable) -> None:
    """my_step(x, y, rows): the nearest picture to x that agrees with the measurements y = rows @ picture."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.linalg.qr(torch.randn(12, 4, generator=generator))[0].T  # (4, 12), orthonormal
    x, y = torch.randn(12, generator=generator), torch.randn(4, generator=generator)
    value = _tensor(_call(answer, x, y, rows), (12,))
    if _close(value, rows.T @ y, 1e-4):
        raise Wrong("That is the linear estimate: it forgets x wherever nothing was measured.")
    if _close(value, x - rows.T @ (y - rows @ x), 1e-4):
        raise Wrong("The sign is wrong: it moves away from the measurements.")
    if _close(value, rows.T @ (y - rows @ x), 1e-4):
        raise Wrong("That is what to add to x; return the sum.")
    if _close(value, x + rows.T @ y, 1e-4):
        raise Wrong("What x already has of the measurements must be taken away first: y − rows @ x.")
    if not _close(rows @ value, y, 1e-4):
        raise Wrong(f"Measured again it gives {[round(v, 2) for v in (rows @ value).tolist()]}, not y.")
    if not _close(value, x + rows.T @ (y - rows @ x), 1e-4):
        raise Wrong("It agrees with y, but changes more of x than it must.")


@exercise("5.5")
def quantizer(answer: Callable) -> None:
    """my_quantizer(y, largest, bits): each number rounded to the nearest of the levels k·largest/top, |k| ≤ top."""
    y, largest = torch.tensor([-3.0, -1.26, -0.2, 0.0, 0.49, 1.24, 2.9]), 3.2
    for bits in (3, 5):
        top = 2 ** (bits - 1) - 1
        value = _tensor(_call(answer, y, largest, bits), (7,))
        right = (y / largest * top).round() * largest / top
        if _close(value, (y / largest * top).round(), 1e-5):
            raise Wrong("Those are the whole numbers k; return the measurements that they stand for.")
        for cut in (torch.floor, torch.trunc):
            if _close(value, cut(y / largest * top) * largest / top, 1e-5):
                raise Wrong("It cuts off instead of rounding; the nearest level is at most half a step away.")
        for many in (2**bits, 2**bits - 1, 2 ** (bits - 1)):
            if _close(value, (y / largest * many).round() * largest / many, 1e-5):
                count = f"{2 * many + 1} levels; {bits} bits tell {2**bits} apart"
                raise Wrong(f"That takes {count}, and k goes from −top to top with top = 2^(bits − 1) − 1.")
        if not _close(value, right, 1e-5):
            worst = (value - right).abs().argmax()
            said = f"{y[worst]:.2f} becomes {value[worst]:.3f} where {right[worst]:.3f} was expected"
            raise Wrong(f"With {bits} bits {said}.")


@exercise("6.1")
def set_psnr(answer: Callable) -> None:
    """my_set_psnr(pictures, references): the mean of the PSNR of each, uint8 pictures (1, H, W) of different size."""
    generator = torch.Generator().manual_seed(0)
    references = [torch.randint(40, 200, (1, side, side + 4), generator=generator) for side in (8, 16, 40)]
    errors = [
        torch.randint(-e, e + 1, r.shape, generator=generator) for e, r in zip((2, 8, 30), references, strict=True)
    ]
    pictures = [(r + e).to(torch.uint8) for r, e in zip(references, errors, strict=True)]
    mses = [e.double().square().mean().item() for e in errors]
    each = [10 * math.log10(255**2 / mse) for mse in mses]
    value = _call(answer, pictures, [r.to(torch.uint8) for r in references])
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0):
        raise Wrong("It returned a number for each picture; the set has one, their mean.")
    value = _number(value)
    pooled = sum(e.double().square().sum().item() for e in errors) / sum(e.numel() for e in errors)
    wrapped = [e.to(torch.uint8).to(torch.uint8).pow(2).double().mean().item() for e in errors]
    mistakes = {
        sum(each): "That is the sum; the set has the mean.",
        10 * math.log10(255**2 * 3 / sum(mses)): "That is the PSNR of the mean error: the worst picture decides alone.",
        10
        * math.log10(
            255**2 / pooled
        ): "All errors are in one pot: large and bad pictures decide. Each picture counts once.",
        sum(each) / 3 - 20 * math.log10(255): "The peak of 8-bit pictures is 255.",
        sum(10 * math.log10(255**2 / w) for w in wrapped)
        / 3: "uint8 wraps round: 3 − 5 is 254. Make floats of them first.",
    }
    _known(value, mistakes)
    if not abs(value - sum(each) / 3) <= 0.01:
        raise Wrong(f"It gives {value:.2f} dB where {sum(each) / 3:.2f} dB is right.")


def _known(value: float, mistakes: dict[float, str], tolerance: float = 0.01) -> None:
    """Wrong, where a value is that of a usual mistake."""
    for mistaken, said in mistakes.items():
        if abs(value - mistaken) < tolerance:
            raise Wrong(said)


@exercise("6.2")
def copies(answer: Callable) -> None:
    """my_copies(train, test): the places in `test`, uint8 (1, 32, 32) each, of pictures that are in `train`, too."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.rand(9, 1, 8, 8, generator=generator)
    pictures = [images.to_uint8(p) for p in torch.nn.functional.interpolate(whole, size=32, mode="bicubic").clamp(0, 1)]
    coded = images.to_uint8(degradations.jpeg(images.to_float(pictures[4]), 60))
    turned = pictures[0].flip(-1)  # another picture of the same brightness, to the last digit
    train, test = pictures[:5], [pictures[5], pictures[2], pictures[6], coded, pictures[7], turned]
    value = _call(answer, train, test)
    try:
        found = {operator.index(place) for place in value}
    except TypeError:
        raise Wrong("Return the places as whole numbers, such as [0, 2].") from None
    if isinstance(value, list | tuple) and len(value) == len(test) and all(isinstance(v, bool) for v in value):
        raise Wrong("Those are truths, one for each picture; return the places of the true ones.")
    if found == {1}:
        raise Wrong("One copy went through JPEG, and no longer has the same bytes. Ask for a small difference.")
    if found == {2, 4}:
        raise Wrong("Those are places in `train`; where in `test` are they?")
    if missed := {1, 3} - found:
        raise Wrong(f"Picture {min(missed)} of the test set is in the training set, too, and was not found.")
    if found != {1, 3}:
        raise Wrong(f"Picture {min(found - {1, 3})} is no copy: it differs by far more than a file format would.")


@exercise("6.3")
def bd_rate(answer: Callable) -> None:
    """my_bd_rate(curve, anchor): Bjøntegaard's delta rate in percent, of (bits per pixel, dB) points that rise."""
    theirs = [(0.1, 30.0), (0.115, 31.0), (0.15, 33.0), (0.24, 36.0), (0.45, 38.0)]
    ours = [(0.06, 31.0), (0.064, 32.0), (0.09, 34.0), (0.15, 36.0), (0.23, 37.0), (0.7, 42.0)]
    shared, union = np.linspace(31, 38, 7001), np.linspace(30, 42, 7001)

    def logs(qualities: np.ndarray) -> list[np.ndarray]:
        return [np.interp(qualities, [q for _, q in c], np.log([r for r, _ in c])) for c in (ours, theirs)]

    first, second = logs(shared)
    difference = np.mean(first - second)
    value, right = _number(_call(answer, ours, theirs)), 100 * (np.exp(difference) - 1)
    rates = [np.interp(shared, [q for _, q in c], [r for r, _ in c]) for c in (ours, theirs)]
    middle = logs(np.array([34.5]))
    mistakes = {
        100 * (np.exp(-difference) - 1): "That is how many more bits the anchor takes; which of the two is asked?",
        difference: "That is the mean difference of the logarithms; make percent of it: 100·(exp(…) − 1).",
        100 * difference: "Percent of a logarithm are no percent: 100·(exp(…) − 1).",
        100 * (np.exp(first).sum() / np.exp(second).sum() - 1): "Average the *logarithms*; else large files decide.",
        100
        * (np.exp(first - second).mean() - 1): "That is the mean of ratios; average their logarithms, then take exp.",
        100
        * (np.exp(np.mean(np.log(rates[0] / rates[1]))) - 1): "The lines are straight in log(rate), not in the rate.",
        100
        * (
            np.exp(np.subtract(*logs(union)).mean()) - 1
        ): "Only qualities that both curves reach may count, 31 to 38 dB.",
        100
        * (
            np.exp(middle[0] - middle[1]).item() - 1
        ): "That is the middle alone; it is to be a mean over all qualities.",
    }
    _known(value, mistakes, 0.1)
    if not abs(value - right) <= 0.2:
        raise Wrong(f"It gives {value:.1f} % where {right:.1f} % is right.")


@exercise("6.4")
def bootstrap(answer: Callable) -> None:
    """my_bootstrap(differences): the limits between which the mean of (n,) numbers lies with a confidence of 95 %."""
    numbers = 0.2 + torch.randn(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, error = numbers.mean().item(), (numbers.std() / len(numbers) ** 0.5).item()
    value = _call(answer, numbers)
    value = value.tolist() if hasattr(value, "tolist") else value  # a tensor or an array of two will do
    low, high = (_number(limit) for limit in _two(value, "limits"))
    if low > high:
        raise Wrong("The lower limit is above the upper one.")
    if not low < mean < high:
        raise Wrong(f"From {low:.3f} to {high:.3f} it does not hold the mean of the sample, {mean:.3f}.")
    share = (high - low) / (2 * 1.96 * error)
    if share > 4:
        raise Wrong("It is as wide as the numbers are spread; asked is how surely their *mean* is known.")
    if share < 0.05:
        raise Wrong("It has no width: draw *with* replacement, or each sample is the same numbers in another order.")
    if not 0.9 < share < 1.1:
        raise Wrong(f"It is {share:.2f} times as wide as it should be: of 95 %, how many per cent lie on either side?")
    if max(abs(low - mean + 1.96 * error), abs(high - mean - 1.96 * error)) > 0.2 * error:
        raise Wrong("It is as wide as it should be, but lopsided: as many means should lie below it as above it.")
