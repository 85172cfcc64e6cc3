"""Checks of notebook 3: JPEG by hand, a schedule, and what is known of the original."""

import math
from collections.abc import Callable

import torch

from .examine import compare, exercise


def _dct_matrix() -> torch.Tensor:
    """The orthonormal DCT of 8 numbers, (8, 8); row k is the k-th pattern."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)
    matrix = torch.cos((2 * n + 1) * k * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


D = _dct_matrix()


def _block() -> torch.Tensor:
    """An 8×8 block of pixels, 0 to 255: a ramp, steeper downwards than across, with a bright corner.

    Its mean, less 128, is just nearer to step −14 of a table that begins with 23; less 127.5, to step −13.
    """
    rows, columns = torch.arange(8.0)[:, None], torch.arange(8.0)
    return 19 + 11 * rows + 3 * columns + 90.0 * (rows + columns < 5)


def _dct(block: torch.Tensor) -> torch.Tensor:
    return D @ block @ D.T


@exercise("3.1", course=_dct)
def dct(answer: Callable) -> None:
    """my_dct(block): the DCT coefficients of an 8×8 block, columns and rows."""
    block = _block() - 128
    mistakes = {
        "That transforms in one direction only, the columns; D.T on the right does the rows.": D @ block,
        "That transforms in one direction only, the rows; D on the left does the columns.": block @ D.T,
        "That is the way back, from coefficients to pixels: D belongs on the left.": D.T @ block @ D,
        "Rows and columns are swapped: that is the transpose of what was expected.": _dct(block).T,
    }
    compare(answer, (block,), _dct(block), mistakes, "D @ block does the columns; what does the rows?", within=0.1)


def _round_trip(
    block: torch.Tensor, table: torch.Tensor, centre: float = 128, rounded: Callable = torch.round
) -> torch.Tensor:
    return D.T @ (rounded(_dct(block - centre) / table) * table) @ D + centre


@exercise("3.2", course=_round_trip)
def round_trip(answer: Callable) -> None:
    """my_round_trip(block, table): an 8×8 block, 0 to 255, as it comes back from a JPEG file with this table."""
    case = block, table = _block(), 23 + 9 * torch.arange(8.0)[:, None] + 7 * torch.arange(8.0)
    right, stored = _round_trip(*case), (_dct(block - 128) / table).round()
    mistakes = {
        "Those are the stored integers. Multiply by the table again and transform back.": stored,
        "It is too dark by 128: undo the centring at the end.": right - 128,
        "The integers must be multiplied by the table before they are transformed back.": D.T @ stored @ D + 128,
        "Nothing is lost: divide by the table and round before you multiply again.": block,
        "Subtract 128 first, and add it at the end: JPEG rounds centred numbers.": _round_trip(*case, centre=0),
        "Centre by 128, half of the 256 values, not by half of the largest.": _round_trip(*case, centre=127.5),
        "The quotients were cut off; round to the nearest integer.": _round_trip(*case, rounded=torch.trunc),
        "The quotients were cut off downwards; round to the nearest.": _round_trip(*case, rounded=torch.floor),
    }
    hint = "Centre, transform, divide, round, multiply, transform back, undo the centring: one is amiss."
    compare(answer, case, right, mistakes, hint, within=0.6)  # rounded to whole gray levels is right, too


def _excess(image: torch.Tensor, column: int = 7, amount: Callable = torch.square, mean: Callable = torch.mean):
    """Mean amount of the steps after columns 7, 15, 23, … minus that of the others."""
    steps = amount(image.diff(dim=-1))
    border = torch.arange(steps.shape[-1]) % 8 == column
    return mean(steps[..., border]) - mean(steps[..., ~border])


@exercise("3.3")
def blocking(answer: Callable) -> None:
    """my_blocking(image): mean square horizontal step across block borders minus that elsewhere, at least 0."""
    image = 0.1 * torch.tensor([3.0, 5.0, 2.0]).repeat_interleave(8).repeat(1, 5, 1)  # (1, 5, 24): three flat blocks
    image = image + 0.02 * (torch.arange(24.0) % 8)
    mistakes = {
        "Those are absolute steps; the formula has squares.": _excess(image, amount=torch.abs),
        "The columns are off by one: column 7 to 8 is number 7 of the differences, not 0.": _excess(image, column=0),
        "The columns are off by one: column 7 to 8 is number 7 of the differences, not 6.": _excess(image, column=6),
        "Subtract what is elsewhere: detail has steps everywhere.": image.diff(dim=-1)[..., 7::8].square().mean(),
        "Take means, not sums: there are seven times as many steps inside blocks.": _excess(image, mean=torch.sum),
    }
    compare(answer, (image,), _excess(image), mistakes, "Borders lie after columns 7, 15, 23, …", within=1e-5)
    lines = torch.tensor([0.0, 1, 0, 1, 0, 1, 0, 0]).repeat(1, 5, 3)  # steps everywhere but across borders
    compare(answer, (lines,), 0, {}, "A picture with larger steps inside blocks shows no blocks: stop at 0.", 1e-5)


@exercise("3.4")
def learning_rate(answer: Callable) -> None:
    """my_learning_rate(epoch, epochs, start): halved after each completed fifth of the epochs; epoch counts from 0."""
    for epoch, halvings in ((0, 0), (10, 0), (19, 0), (20, 1), (39, 1), (99, 4)):
        mistakes = {
            "It halves nearly every epoch, as the original does.": 5e-4 / 2**epoch,
            "It is halved too early: counted from 0, the fifth ends after this epoch.": 5e-4 / 2 ** (halvings + 1),
        }
        compare(answer, (epoch, 100, 5e-4), 5e-4 / 2**halvings, mistakes, f"{halvings} halvings were expected.", 1e-9)
    mistakes = {"Use the argument `epochs`: a fifth of 10 are 2.": 1.0, "Use the argument `start`.": 5e-4 / 16}
    compare(answer, (8, 10, 1.0), 1 / 16, mistakes)
    no_fifth = {"It divides by zero: 3 // 5 is 0. Count completed fifths, 5 * epoch // epochs.": ZeroDivisionError}
    compare(answer, (0, 3, 1.0), 1.0, no_fifth, "The first epoch has the full rate.")
    compare(answer, (8, 9, 1.0), 1 / 16, {}, "A fifth of 9 epochs are 1.8: `epochs // 5` loses the remainder.")


def _bounded(restored: torch.Tensor, decoded: torch.Tensor, tau: float) -> torch.Tensor:
    return restored.clamp(decoded - tau, decoded + tau)


@exercise("3.5", course=_bounded)
def bounded(answer: Callable) -> None:
    """my_bounded(restored, decoded, tau): the picture nearest to `restored` within `tau` of `decoded` everywhere."""
    decoded = torch.linspace(0.3, 0.7, 40).view(1, 5, 8)
    change, tau = 0.1 * torch.sin(torch.arange(40.0)).view(1, 5, 8), 0.05
    restored, dropped = decoded + change, torch.where(change.abs() > tau, 0, change)
    mistakes = {
        "That is the allowed change alone; it belongs on top of `decoded`.": change.clamp(-tau, tau),
        "The limits are not −tau and tau, but that far to both sides of `decoded`.": restored.clamp(-tau, tau),
        "Some pixels are further than tau away from `decoded`.": lambda v: (v - decoded).abs().max() > tau + 1e-5,
        "Pixels that were within tau have changed; the nearest picture leaves them alone.": decoded,
        "Pixels within tau have shrunk with the others; it leaves them alone.": decoded + change * tau / 0.1,
        "Pixels beyond the limit should come to lie on it, not back on `decoded`.": decoded + dropped,
    }
    hint = "Clamp between decoded − tau and decoded + tau."
    compare(answer, (restored, decoded, tau), _bounded(restored, decoded, tau), mistakes, hint, within=1e-5)


def _interval(coefficients: torch.Tensor, stored: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return coefficients.clamp((stored - 0.5) * table, (stored + 0.5) * table)


@exercise("3.6", course=_interval)
def interval(answer: Callable) -> None:
    """my_interval(coefficients, stored, table): (N, 8, 8) moved to where JPEG rounds to the stored integers."""
    table = 10.0 + 3 * torch.arange(64.0).view(8, 8)
    stored = (4 * torch.sin(torch.arange(128.0))).round().view(2, 8, 8)
    c = (stored + 1.6 * torch.cos(7 * torch.arange(128.0)).view(2, 8, 8)) * table
    mistakes = {
        "That is the decoded file; what the network found inside the intervals should stay.": stored * table,
        "The integers count steps of the table: multiply the limits by it.": c.clamp(stored - 0.5, stored + 0.5),
        "That is twice too wide: rounding moves by half a step.": c.clamp((stored - 1) * table, (stored + 1) * table),
        "Half a step is half of the *table entry*, not 0.5.": c.clamp(stored * table - 0.5, stored * table + 0.5),
    }
    hint = "Clamp each coefficient between (stored − ½)·table and (stored + ½)·table."
    compare(answer, (c, stored, table), _interval(c, stored, table), mistakes, hint, within=0.01)
