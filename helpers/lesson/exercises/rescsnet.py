"""Checks of notebook 5: peaks, signs, measurements, and agreement with them."""

import math
from collections.abc import Callable

import torch

from .build import built
from .examine import exercise

Y = torch.linspace(-0.6, 0.5, 64).view(8, 8)  # no picture that reaches black and white

BAND, EMPTY = torch.tensor([[0.3, -1.2, 0.8], [0.1, 0.4, -0.6]]), torch.zeros(2, 3)
OTHER = torch.tensor([[0.2, -0.7, 0.9], [0.5, 0.1, 0.2]])
RANDOM = torch.Generator().manual_seed(0)
ROWS = torch.linalg.qr(torch.randn(12, 4, generator=RANDOM))[0].T  # (4, 12), orthonormal


@exercise("5.1", (Y + 0.1 * torch.sin(torch.arange(64.0)).view(8, 8), Y), within=0.01)
def signed_psnr(x: torch.Tensor, y: torch.Tensor):
    """my_psnr(x, y): PSNR in dB of two pictures whose pixels lie in [−1, 1]."""
    mse = (x - y).square().mean().item()
    yield (right := 10 * math.log10(4 / mse))
    yield {
        "The peak is the range that pixels may have, not that of this picture.": 10 * math.log10(1.1**2 / mse),
        "20·log₁₀ is for the ratio of peak and root mean square; of their squares it is 10·log₁₀.": 2 * right,
        "That is the natural logarithm; decibels want the one to base 10.": 10 * math.log(4 / mse),
        "That is the original's: 6.02 dB too low. From black to white it is 2, not 1.": 10 * math.log10(1 / mse),
        "The peak enters squared.": 10 * math.log10(2 / mse),
        "The sign is wrong.": -right,
    }


@exercise("5.2", (BAND, -BAND), (BAND, OTHER), (BAND, BAND), (EMPTY, EMPTY))
def similarity(a: torch.Tensor, b: torch.Tensor):
    """my_similarity(c1, c2): (2·Σc₁c₂ + K) / (Σc₁² + Σc₂² + K), K = 0.01, of a negated band close to −1."""
    product, energy = (a * b).sum(), a.square().sum() + b.square().sum()
    yield (2 * product + 0.01) / (energy + 0.01)
    yield {
        "The absolute value, or a square, has forgotten the sign.": (2 * product.abs() + 0.01) / (energy + 0.01),
        "It is half of what is right: mind the 2.": (product + 0.01) / (energy + 0.01),
        "It is half of what is right: mind the 2, and K above.": product / (energy + 0.01),
        "K is missing: two empty bands would divide zero by zero.": 2 * product / energy,
        "K is missing above: two empty bands are equal and should score 1.": 2 * product / (energy + 0.01),
    }


@exercise("5.3", (100, 100, 0.1, 32), (256, 256, 0.1, 32), (33, 64, 0.04, 32))
def measurements(height: int, width: int, ratio: float, block: int):
    """my_measurements(height, width, ratio, block): numbers measured where every block is, those of padding too."""
    blocks, each = math.ceil(height / block) * math.ceil(width / block), round(ratio * block**2)
    yield blocks * each
    whole = (height // block) * (width // block)
    yield {
        "It leaves out the blocks that hang over the edge: round the number of blocks up.": whole * each,
        "A block has a whole number of measurements: round that.": blocks * ratio * block**2,
        "Round the measurements of *each* block, not their sum.": round(blocks * ratio * block**2),
        "It counts pixels; the camera measures whole blocks, of padding as well.": round(ratio * height * width),
        f"{blocks} blocks of {each} were expected.": True,
    }


@exercise("5.4", (torch.randn(12, generator=RANDOM), torch.randn(4, generator=RANDOM), ROWS))
def consistent(x: torch.Tensor, y: torch.Tensor, rows: torch.Tensor):
    """my_step(x, y, rows): the nearest picture to x that agrees with the measurements y = rows @ picture."""
    step = rows.T @ (y - rows @ x)
    yield x + step
    yield {
        "That is the linear estimate: it forgets x wherever nothing was measured.": rows.T @ y,
        "The sign is wrong: it moves away from the measurements.": x - step,
        "That is what to add to x; return the sum.": step,
        "What x already has of the measurements must be taken away first: y − rows @ x.": x + rows.T @ y,
        "Measured again, it does not give y.": lambda v: not torch.allclose(rows.double() @ v, y.double(), atol=1e-4),
        "It agrees with y, but changes more of x than it must.": True,
    }


@exercise("5.5", *((torch.tensor([-3.0, -1.26, -0.2, 0.0, 0.49, 1.24, 2.9]), 3.2, bits) for bits in (3, 5)))
def quantizer(y: torch.Tensor, largest: float, bits: int):
    """my_quantizer(y, largest, bits): each number rounded to the nearest of the levels k·largest/top, |k| ≤ top."""

    def levels(top: int, rounded: Callable = torch.round) -> torch.Tensor:
        return rounded(y / largest * top) * largest / top

    top = 2 ** (bits - 1) - 1
    yield levels(top)
    few = f"{bits} bits tell {2**bits} apart, and k goes from −top to top = 2^(bits − 1) − 1."
    yield {
        "Those are the whole numbers k; return the measurements that they stand for.": levels(top) * top / largest,
        "It cuts off instead of rounding: a level may be half a step away.": levels(top, torch.floor),
        "It cuts off towards zero instead of rounding.": levels(top, torch.trunc),
        f"It has one level too many: {few}": levels(top + 1),
        f"It has about twice as many levels: {few}": levels(2 * top + 1),
        f"It has twice as many levels and one: {few}": levels(2 * top + 2),
        "Round to the nearest level.": True,
    }


recovery = built("5.A", "rescsnet-any")
