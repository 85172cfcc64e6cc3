"""Checks of notebook 3: JPEG by hand, a schedule, and what is known of the original."""

import math
from collections.abc import Callable

import torch

from .build import built
from .examine import exercise

K = torch.arange(8.0)
D = torch.cos((2 * K + 1) * K[:, None] * math.pi / 16) / 2  # the DCT of 8 numbers, orthonormal; row k: the k-th pattern
D[0] /= math.sqrt(2)

# 0 to 255: a ramp, steeper downwards than across, with a bright corner. Its mean, less 128, is just nearer to step −14
# of a table that begins with 23; less 127.5, to step −13.
BLOCK = 19 + 11 * K[:, None] + 3 * K + 90.0 * (K[:, None] + K < 5)
BLOCKS = torch.stack([BLOCK, 0.5 * BLOCK.T + 60, 200 - BLOCK.flip(0)])
TABLE = 23 + 9 * K[:, None] + 7 * K
# three flat blocks with a slope that differs from row to row; steps everywhere but across borders; and rows of both
BLOCKY = 0.1 * torch.tensor([3.0, 5.0, 2.0]).repeat_interleave(8) + 0.02 * K.repeat(3)
BLOCKY = (BLOCKY + 0.03 * torch.sin(torch.arange(16.0))[:, None] * K.repeat(3))[None]
LINES = torch.tensor([0.0, 1, 0, 1, 0, 1, 0, 0]).repeat(1, 16, 3)
MIXED = torch.cat([BLOCKY[:, :12], 0.1 * LINES[:, :4]], dim=1)
WIDE = torch.cat([BLOCKY] * 4, dim=2)[..., :77]
HUNDRED = [(epoch, 100, 5e-4) for epoch in (0, 10, 19, 20, 39, 99)]
DECODED = torch.linspace(0.3, 0.7, 40).view(1, 5, 8)
STORED = (4 * torch.sin(torch.arange(128.0))).round().view(2, 8, 8)
STEPS = 10.0 + 3 * torch.arange(64.0).view(8, 8)
MOVED = (STORED + 1.6 * torch.cos(7 * torch.arange(128.0)).view(2, 8, 8)) * STEPS


@exercise("3.1", (BLOCK, TABLE), (BLOCKS, TABLE), within=0.01)
def round_trip(block: torch.Tensor, table: torch.Tensor):
    """my_round_trip(block, table): blocks (…, 8, 8), 0 to 255, as they come back from a JPEG file with this table."""

    def through(centre: float = 128, rounded: Callable = torch.round) -> torch.Tensor:
        return D.T @ (rounded(D @ (block - centre) @ D.T / table) * table) @ D + centre

    yield through()
    stored = (D @ (block - 128) @ D.T / table).round()
    yield {
        "Those are the stored integers. Multiply by the table again and transform back.": stored,
        "It is too dark by 128: undo the centring at the end.": through() - 128,
        "The integers must be multiplied by the table before they are transformed back.": D.T @ stored @ D + 128,
        "Nothing is lost: divide by the table and round before you multiply again.": block,
        "Subtract 128 first, and add it at the end: JPEG rounds centred numbers.": through(centre=0),
        "Centre by 128, half of the 256 values, not by half of the largest.": through(centre=127.5),
        "Undo the centring by 128, as much as you subtracted.": through() - 0.5,
        "Leave the pixels unrounded.": through().round(),
        "The quotients were cut off; round to the nearest integer.": through(rounded=torch.trunc),
        "The quotients were cut off downwards; round to the nearest.": through(rounded=torch.floor),
        "Several blocks at a time, (…, 8, 8), are transformed along their last two axes alone.": block.dim() == 3,
        "Centre, transform, divide, round, multiply, transform back, undo the centring: one is amiss.": True,
    }


@exercise("3.2", (BLOCKY,), (LINES,), (MIXED,), (WIDE,), within=1e-5)
def blocking(image: torch.Tensor):
    """my_blocking(image): mean square horizontal step across block borders minus that elsewhere, at least 0."""

    def excess(steps: torch.Tensor, column: int = 7, mean: Callable = torch.mean) -> torch.Tensor:
        border = torch.arange(steps.shape[-1]) % 8 == column
        return mean(steps[..., border]) - mean(steps[..., ~border])

    signed = image.diff(dim=-1)
    squares, borders = signed.square(), signed[..., 7::8].square()
    rows = torch.stack([excess(row) for row in squares[0]])
    yield excess(squares).clamp(min=0)
    yield {
        "A picture with larger steps inside blocks shows no blocks: stop at 0.": excess(squares),
        "Those are absolute steps; the formula has squares.": excess(signed.abs()),
        "That is 255² times too large: leave the pixels in [0, 1].": 255**2 * excess(squares),
        "Those are vertical steps: take differences along the last axis.": excess(image.diff(dim=-2).square().mT),
        "Inside are all steps but those at borders.": borders.mean() - squares.mean(),
        "Subtract what is elsewhere: detail has steps everywhere.": borders.mean(),
        "Take means, not sums: there are seven times as many steps inside blocks.": excess(squares, mean=torch.sum),
        "Square each step first, and then take the mean over all rows.": excess(signed.mean(-2).square()),
        "Square each step first, and then take means.": excess(signed, mean=lambda steps: steps.mean().square()),
        "Stop at 0 last: the mean over all rows comes first.": rows.clamp(min=0).mean(),
        "The columns are off by one: column 7 to 8 is number 7 of the differences.": excess(squares, column=6),
        "It finds no blocks: are those the steps from column 7 to 8, along the last axis?": lambda value: value == 0,
        "A picture may be of any width, here 77: every eighth step, up to the end.": image.shape[-1] > 24,
        "Compare each part with the formula: which steps, their squares, the two means.": True,
    }


@exercise("3.3", *HUNDRED, (8, 10, 1.0), (0, 3, 1.0), (8, 9, 1.0), (2, 3, 1.0), (3, 6, 1.0), within=1e-7)
def learning_rate(epoch: int, epochs: int, start: float):
    """my_learning_rate(epoch, epochs, start): halved after each completed fifth of the epochs; epoch counts from 0."""
    yield (right := start / 2 ** (5 * epoch // epochs))
    uneven = epochs % 5 > 0
    yield {
        "It divides by zero: 3 // 5 is 0. How many fifths are over after this many epochs?": ZeroDivisionError,
        f"A fifth of {epochs} epochs is {epochs / 5}, not a whole number: count the fifths that are over.": uneven,
        "It halves nearly every epoch, as the original does.": start / 2**epoch,
        "It is halved too early: counted from 0, the fifth ends after this epoch.": right / 2,
        "Use the argument `start`.": right * 5e-4 / start,
        "Use the argument `epochs`: a fifth of 10 is 2.": epochs == 10,
        f"{5 * epoch // epochs} halvings were expected.": True,
    }


@exercise("3.4", (2, 5, 2), (1, 2, 1), (3, 0, 1))
def halo(before: int, middle: int, after: int):
    """my_halo(before, middle, after): pixels of the picture that this U-Net sees beyond the edge of a tile."""
    layers = 2 + 4 * before + 8 * middle + 4 * after + 2  # what the 3×3 layers alone reach
    yield (right := layers + 2)
    at_half, alike = layers - 4 * middle, 2 + 2 * (before + middle + after)
    single = 4 + 2 * before + 4 * middle + 2 * after
    yield {
        "That is what the 3×3 layers reach. A 2×2 layer works in pairs: an odd number takes one more.": layers,
        "The odd number occurs only on the way up; on the way down the number is even.": right + 2,
        "A 3×3 layer reaches one pixel of its own resolution: 2 pixels of the picture at half, 4 at a quarter.": alike,
        "Those are pixels at half the resolution: each is two of the picture.": right / 2,
        "Those are pixels at half the resolution: each is two of the picture. And a 2×2 layer makes pairs.": layers / 2,
        "The narrow part works at a quarter of the resolution, not at half: its layers reach 4 pixels.": at_half,
        "A block has two 3×3 layers.": lambda v: v - single in (0, 2),
        "An odd number takes one more: halve and round up.": right - 4,
        "The first and the last layer are 3×3, too.": layers - 4,
        "That is about the side of the whole square; the halo is what it sees beyond one edge.": 2 * right + 1,
        "Go back from the output: how many pixels does each layer want of the one before, at its resolution?": True,
    }


@exercise("3.5", (DECODED + 0.1 * torch.sin(torch.arange(40.0)).view(1, 5, 8), DECODED, 0.05), within=1e-5)
def bounded(restored: torch.Tensor, decoded: torch.Tensor, tau: float):
    """my_bounded(restored, decoded, tau): the picture nearest to `restored` within `tau` of `decoded` everywhere."""
    yield restored.clamp(decoded - tau, decoded + tau)
    change = restored - decoded
    yield {
        "That is the allowed change alone; it belongs on top of `decoded`.": change.clamp(-tau, tau),
        "The limits are not −tau and tau, but that far to both sides of `decoded`.": restored.clamp(-tau, tau),
        "Some pixels are further than tau away from `decoded`.": lambda v: (
            v.shape == decoded.shape and (v - decoded).abs().max() > tau + 1e-5
        ),
        "Pixels that were within tau have changed; the nearest picture leaves them alone.": decoded,
        "Pixels within tau have shrunk with the others; it leaves them alone.": decoded + change * tau / 0.1,
        "Pixels beyond the limit should come to lie on it, not back on `decoded`.": decoded
        + torch.where(change.abs() > tau, 0, change),
        "Clamp between decoded − tau and decoded + tau.": True,
    }


@exercise("3.6", (MOVED, STORED, STEPS), within=0.01)
def interval(coefficients: torch.Tensor, stored: torch.Tensor, table: torch.Tensor):
    """my_interval(coefficients, stored, table): (N, 8, 8) moved to where JPEG rounds to the stored integers."""
    clamp, centre = coefficients.clamp, stored * table
    outside = (coefficients - centre).abs() > 0.5 * table
    yield clamp(centre - 0.5 * table, centre + 0.5 * table)
    yield {
        "That is the decoded file; what the network found inside the intervals should stay.": centre,
        "The integers count steps of the table: multiply the limits by it.": clamp(stored - 0.5, stored + 0.5),
        "That is twice too wide: rounding moves by half a step.": clamp(centre - table, centre + table),
        "Half a step is half of the *table entry*, not 0.5.": clamp(centre - 0.5, centre + 0.5),
        "Those are counted in steps: multiply by the table again.": (coefficients / table).clamp(
            stored - 0.5, stored + 0.5
        ),
        "One from outside goes to the nearer limit, not to the middle.": torch.where(outside, centre, coefficients),
        "Between which two numbers does a coefficient round to the stored integer?": True,
    }


conv_units, unet = built("3.A", "conv-units", std=None), built("3.B", "jpeg-blind")
arcnn = built("3.C", "arcnn-q10")
