"""Checks of notebook 5: sensing, the index of wavelets, counts of numbers, agreement with them, and their bits."""

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from .build import built
from .examine import exercise

PICTURE = torch.sin(1.7 * torch.arange(96.0)).view(1, 1, 8, 12)
PATTERNS = torch.cos(0.9 * torch.arange(48.0) ** 1.5).view(3, 4, 4)
BANDS = [torch.sin(torch.arange(2.0 * k * n * n) ** 1.3).view(2, k, n, n) for k, n in ((1, 2), (3, 4), (3, 2), (3, 1))]
OTHERS = [torch.cat([-band[:1], 0.3 * band[1:] + 0.2]) for band in BANDS]  # the first picture's are negated
FLAT = [*BANDS[:1], *(0 * band for band in BANDS[1:])]
RANDOM = torch.Generator().manual_seed(0)
ROWS = torch.linalg.qr(torch.randn(12, 4, generator=RANDOM))[0].T  # (4, 12), orthonormal


@exercise("5.1", (PICTURE, PATTERNS))
def block_sensing(x: torch.Tensor, rows: torch.Tensor):
    """my_sense(x, rows): each block of (1, 1, H, W) times each pattern of (m, s, s), summed up: (1, m, H/s, W/s)."""
    side, kernels = rows.shape[-1], rows[:, None]
    sensed = functools.partial(F.conv2d, x, stride=side)
    yield (right := sensed(kernels))
    runs = x.reshape(-1, side * side) @ rows.flatten(1).T
    last = right.movedim(1, -1)
    reordered = last.reshape(right.shape)
    yield {
        "The patterns move on by one pixel: the next block begins a whole side further on.": F.conv2d(x, kernels),
        "It takes the mean of the products; an inner product is their sum.": right / side**2,
        "The patterns are flipped: PyTorch's convolution multiplies them as they are.": sensed(kernels.flip(2, 3)),
        "The patterns, or the blocks, have rows and columns exchanged.": sensed(kernels.mT),
        "A view cuts the picture into runs of pixels along its rows, not into squares.": runs.T.reshape(right.shape),
        "Keep the blocks where they lie in the picture: (1, m, H/s, W/s).": right.flatten(2),
        "The numbers of a block are channels, and those come second.": last,
        "The leading 1, a batch of one picture, is missing.": right[0],
        "s is the side of the given patterns, not always 32.": F.conv2d(x, kernels, stride=32),
        "The numbers are right, their order is not: pattern, then row and column of the block.": reordered,
        "Each pattern's numbers are off by a constant: a bias, or the 0.5 that was taken from x.": lambda v: (
            v.shape == right.shape and (v - right).std((0, 2, 3)).max() < 1e-4
        ),
        "If conv2d raised it: it wants patterns as (m, 1, s, s), one channel each.": RuntimeError,
        "The first number is the first block times the first pattern, pixel by pixel, summed up.": True,
    }


@exercise("5.2", (BANDS, OTHERS), (FLAT, FLAT), (FLAT, BANDS))
def wavelet_index(a: list[torch.Tensor], b: list[torch.Tensor]):
    """my_index(a, b): (N,), 0.2·s of the low bands + 0.8·(the mean s of the levels); signed, each picture by itself."""

    def index(dims: tuple[int, ...] = (1, 2, 3), k: float = 0.01, above: float = 0.01, weights=(0.2, 0.8), **how):
        bands = []
        for c, d in zip(a, b, strict=True):
            product, energy = (c * d).sum(dims), (c.square() + d.square()).sum(dims)
            product = product.abs() if how.get("absolute") else product
            band = (how.get("times", 2) * product + above) / (energy + k)
            bands.append(band.mean(1) if band.dim() == 2 else band)
        return weights[0] * bands[0] + weights[1] * torch.stack(bands[1:]).mean(0)

    every = (0, 1, 2, 3)
    yield index()
    yield {
        "The absolute value has forgotten the sign.": index(absolute=True),
        "It sums over the batch: a picture of high contrast hides the errors of another.": index(every),
        "It sums over the batch, and the absolute value has forgotten the sign.": index(every, absolute=True),
        "The three kinds of details of a level belong together: sum over all of them, then divide.": index((2, 3)),
        "Return one index for each picture, not their mean.": index().mean(),
        "Return one index for each picture, not their sum.": index().sum(),
        "The mean over the levels, not their sum, is worth 0.8.": index(weights=(0.2, 2.4)),
        "The low band is worth 0.2, the mean over the levels 0.8.": index(weights=(0.8, 0.2)),
        "It is the mean of all bands; the low one is worth 0.2, the levels together 0.8.": index(weights=(0.25, 0.75)),
        "The 2 before the sum of products is missing.": index(times=1),
        "K is missing: two empty bands would divide zero by zero.": index(k=0, above=0),
        "K is missing above: two empty bands are equal and should score 1.": index(above=0),
        "Of each level: sums over a picture's bands, 2·Σab + K over Σa² + Σb² + K; then the weights.": True,
    }


@exercise("5.3", (100, 100, 0.1, 32), (256, 256, 0.1, 32), (33, 100, 0.01, 16))
def measurements(height: int, width: int, ratio: float, block: int):
    """my_measurements(height, width, ratio, block): numbers measured where every block is, those of padding too."""
    blocks, each = math.ceil(height / block) * math.ceil(width / block), round(ratio * block**2)
    yield blocks * each
    whole = (height // block) * (width // block)
    yield {
        "It leaves out the blocks that hang over the edge: round the number of blocks up.": whole * each,
        "A block has a whole number of measurements: round that.": blocks * ratio * block**2,
        "Round, do not cut off.": blocks * int(ratio * block**2),
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
        "Return a block of n numbers, like x.": lambda v: v.shape != x.shape,
        "Measured again, it does not give y.": lambda v: not torch.allclose(rows.double() @ v, y.double(), atol=1e-4),
        "It agrees with y, but changes more of x than it must.": True,
    }


@exercise("5.5", *((torch.tensor([-3.1, -1.26, -0.2, 0.0, 0.49, 1.24, 2.9]), 3.2, bits) for bits in (3, 5)))
def quantizer(y: torch.Tensor, largest: float, bits: int):
    """my_quantizer(y, largest, bits): each number rounded to the nearest of the levels k·largest/top, |k| ≤ top."""

    def levels(top: int, rounded: Callable = torch.round, largest: float = largest) -> torch.Tensor:
        return rounded(y / largest * top) * largest / top

    top = 2 ** (bits - 1) - 1
    yield levels(top)
    few = f"k goes from −top to top = 2^(bits − 1) − 1 = {top}; one of the {2**bits} codes of {bits} bits stays unused."
    yield {
        "Those are the whole numbers k; return the measurements that they stand for.": levels(top) * top / largest,
        "It cuts off instead of rounding: a level may be half a step away.": levels(top, torch.floor),
        "The last factor, `largest`, is missing.": levels(top) / largest,
        "The scale is `largest`, not the largest number of this y.": levels(top, largest=y.abs().max()),
        "It cuts off towards zero instead of rounding.": levels(top, torch.trunc),
        f"It has two levels too many: {few}": levels(top + 1),
        f"It has about twice as many levels: {few}": levels(2 * top + 1),
        f"It has more than twice as many levels: {few}": levels(2 * top + 2),
        "Round to the nearest level.": True,
    }


recovery = built("5.A", "rescsnet-any")
