"""A codec that is fitted to one picture: its few weights stand in the file, and nothing is trained beforehand.

After COOL-CHIC (Ladune et al., "COOL-CHIC: Coordinate-based Low Complexity Hierarchical Image Codec", ICCV 2023, arXiv
2212.05458), and simpler: the planes are Y, Cb and Cr, each the sum of its enlarged grids, mended by two convolutions;
the context is linear, and sees the coarser grid and the planes before, too. It goes through a grid in four passes in
place of pixel after pixel, so that a decoder works on whole arrays.
"""

import functools
import math
import time
from collections.abc import Callable
from decimal import Context, Decimal
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from .. import images
from ..entropy import fixed, laplace_bits, trade_off
from ..rangecoder import MEAN, SCALES, TOP, LevelDecoder, LevelEncoder

GRIDS = 6  # the coarsest has a 32nd of the picture's side
AROUND = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c]  # neighbours in a grid
ABOVE = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]  # in the next coarser grid
INPUTS = len(AROUND) + len(ABOVE) + 2  # the last two: the same place in the planes before
CUBIC = (-0.0234375, 0.2265625, 0.8671875, -0.0703125, 0.0)  # Keys' kernel a quarter of a pixel beside its middle
RGB = torch.tensor([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])  # of Y, Cb, Cr: JPEG's
UNIT = 64.0  # gray levels: what planes are counted in
FINE = 30  # the quality from which Y has a grid of the picture's own size
FINEST, MOST_HIDDEN = 7, 64  # weights are rounded to 2⁻⁸ at the finest; channels of `mend`
MOST_PIXELS, MOST_MINUTES = 1 << 20, 24 * 60
GRAIN = 12  # bits after the point of the numbers in an exact decoder


class Grid(NamedTuple):
    """One array of latents: which, and where it begins in the row of all."""

    level: int  # its side is that of the picture / 2^level
    plane: int  # 0, 1, 2: Y, Cb, Cr
    height: int
    width: int
    first: int


class FittedCodec(nn.Module):
    """Latents of one picture (channels, height, width), their price, and the picture made of them.

    `finest`: the level of the finest grid of Y; the finest of Cb and Cr is 1. All weights but `mend` begin at what a
    decoder knows, so a file holds how they differ from that. In double precision none of its sums is rounded, so all
    machines decode the same picture.
    """

    def __init__(self, channels: int, height: int, width: int, finest: int = 1, hidden: int = 6):
        super().__init__()
        self.channels, self.size, self.finest, self.grids, at = channels, (height, width), finest, [], 0
        for level in range(GRIDS - 1, finest - 1, -1):
            for plane in range(channels if level else 1):
                h, w = -(-height // 2**level), -(-width // 2**level)
                self.grids.append(Grid(level, plane, h, w, at))
                at += h * w
        self.count = at  # of all latents
        # in gray levels: 1 for the coarsest, about twice as much for each finer, and more for Cb and Cr
        nominal = [0.6875 * (GRIDS - 1 - grid.level) + 0.25 * (grid.plane > 0) for grid in self.grids]
        self.log_steps = nn.Parameter(torch.tensor(nominal))
        self.kernels = nn.Parameter(torch.tensor(CUBIC).repeat(GRIDS - 1, 1))
        self.mend = nn.Conv2d(channels, hidden, 3, padding=1, padding_mode="replicate")
        self.back = nn.Conv2d(hidden, channels, 1, bias=False)
        self.means = nn.Parameter(torch.zeros(INPUTS))
        self.spreads = nn.Parameter(torch.full((4, INPUTS), 0.0625))  # of each pass
        self.log_floors = nn.Parameter(torch.full((len(self.grids),), -1.0))
        for weight in (*self.mend.parameters(), *self.back.parameters()):
            nn.init.zeros_(weight)

    def planes(self, latents: torch.Tensor) -> torch.Tensor:
        """Y, Cb and Cr, (channels, height, width) in UNIT: enlarge what there is, add the next finer grid."""
        steps, x = _exp(self.log_steps) / UNIT, None
        for level in range(GRIDS - 1, -1, -1):
            size = [-(-side // 2**level) for side in self.size]
            x = latents.new_zeros(self.channels, *size) if x is None else self.enlarge(x, level, size)
            mine = [(g, step) for g, step in zip(self.grids, steps, strict=True) if g.level == level]
            if mine:
                added = torch.stack([latents[g.first :][: g.height * g.width].view(size) * step for g, step in mine])
                x = _round(x + F.pad(added, (0, 0, 0, 0, 0, self.channels - len(mine))))
        return x

    def enlarge(self, x: torch.Tensor, level: int, size: list[int]) -> torch.Tensor:
        """Twice as many rows, then columns: of two new ones, one has the kernel, the other its mirror image."""
        kernel = torch.stack([self.kernels[level], self.kernels[level].flip(0)])[:, None, :, None]
        for _ in range(2):  # columns are the rows of the transposed
            c, h, w = x.shape
            x = _round(F.conv2d(F.pad(x[:, None], (0, 0, 2, 2), mode="replicate"), kernel))  # (c, 2, h, w)
            x = x.transpose(1, 2).reshape(c, 2 * h, w).transpose(1, 2)
        return x[:, : size[0], : size[1]]

    def picture(self, latents: torch.Tensor) -> torch.Tensor:
        """(channels, height, width) in gray levels, not rounded."""
        x = self.planes(latents)
        x = x + _round(self.back(_round(self.mend(x[None]).relu())))[0]
        if self.channels == 3:
            x = torch.einsum("oc,chw->ohw", fixed(RGB, GRAIN).to(x), x)
        return x * UNIT + 128

    def forecast(self, known: torch.Tensor, rows: torch.Tensor, passes: torch.Tensor, floors: torch.Tensor) -> tuple:
        """Mean and scale in steps of the latents whose neighbours are `rows` of `neighbours`, (n, INPUTS).

        `known`: all latents and a zero. The scale is linear in the neighbours' sizes: where they are large, so is it.
        """
        x = known.index_select(0, rows.flatten()).view(rows.shape)
        return x @ self.means, (x.abs() * self.spreads[passes]).sum(1) + floors

    def bits(self, latents: torch.Tensor, rows: torch.Tensor, passes: torch.Tensor) -> torch.Tensor:
        """The price of each latent; `rows` and `passes` of all grids, end to end."""
        sizes = torch.tensor([grid.height * grid.width for grid in self.grids])
        floors = _exp(self.log_floors).repeat_interleave(sizes)
        mean, scale = self.forecast(F.pad(latents, (0, 1)), rows, passes, floors)
        return laplace_bits(latents, mean, scale.clamp(0.05, 148))

    def neighbours(self, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
        """Where in the row of all latents those lie that a decoder knows before it reads one: (h·w, INPUTS).

        Those that it does not know yet, or that are outside, are at the end, where a zero is. And the pass of each.
        """
        r, c = torch.meshgrid(*(torch.arange(n, dtype=torch.int32) for n in grid[2:4]), indexing="ij")
        when, columns = _pass(r, c), []
        grids, nowhere = {(g.level, g.plane): g for g in self.grids}, Grid(-1, -1, 0, 0, 0)
        places = [(grid, r + dr, c + dc) for dr, dc in AROUND]
        above = grids.get((grid.level + 1, grid.plane), nowhere)
        places += [(above, r // 2 + dr, c // 2 + dc) for dr, dc in ABOVE]
        places += [(grids.get((grid.level, grid.plane - back), nowhere), r, c) for back in (1, 2)]
        for other, r, c in places:
            known = (r >= 0) & (r < other.height) & (c >= 0) & (c < other.width)
            if other is grid:
                known &= _pass(r, c) < when
            columns.append(torch.where(known, other.first + r * other.width + c, self.count))
        return torch.stack(columns, -1).flatten(0, 1), when.flatten()

    def walk(self, latents: torch.Tensor, code: Callable) -> torch.Tensor:
        """Go through all latents, (n,), in the order of the file; `code` is as in entropy.ExactContext.walk."""
        known = F.pad(latents.double(), (0, 1))
        for grid, floor in zip(self.grids, _exp(self.log_floors), strict=True):
            rows, passes = self.neighbours(grid)
            for index in range(4):
                here = (passes == index).nonzero()[:, 0]
                if len(here):
                    mean, scale = self.forecast(known, rows[here], passes[here], floor)
                    scales = torch.searchsorted(_edges(), scale) + SCALES[0]
                    places = grid.first + here
                    given = (known[places].long(), (mean * MEAN).round().long(), scales)
                    known[places] = torch.from_numpy(code(*(t.numpy() for t in given))).double()
        return known[:-1]

    def weights(self) -> dict[str, nn.Parameter]:
        """By name, in the order of the file."""
        return dict(self.named_parameters())

    def multiply_adds(self) -> float:
        """Per pixel of the picture, to decode it: enlarging, mending, colours, and the context of each latent."""
        enlarging = 1.5 * self.kernels.shape[1] * self.channels * sum(0.25**level for level in range(GRIDS - 1))
        mending = self.mend.weight.numel() + self.back.weight.numel() + (RGB.numel() if self.channels == 3 else 0)
        return enlarging + mending + 2 * INPUTS * self.count / math.prod(self.size)


def _pass(r: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """When places are coded: 0 those of even row and column, 1 of odd ones, 2 of even rows, 3 of odd rows."""
    r, c = r & 1, c & 1
    return 3 * r + 2 * c - 4 * (r & c)


def _round(x: torch.Tensor) -> torch.Tensor:
    """To 2⁻¹² in double precision, so that sums are exact; else as it is."""
    return fixed(x, GRAIN) if x.dtype == torch.float64 else x


def _exp(x: torch.Tensor) -> torch.Tensor:
    """eˣ: in double precision the same on every machine."""
    return x.new_tensor([_exact_exp(v) for v in x.tolist()]) if x.dtype == torch.float64 else x.exp()


@functools.lru_cache(maxsize=1024)
def _exact_exp(x: float) -> float:
    """eˣ to 16 bits after the point: `decimal` rounds it correctly."""
    return float(round(Decimal(x).exp(Context(prec=30)) * 2**16)) / 2**16


# ------------------------------------------------------------------------------------------------ fitting


def worth(quality: float) -> float:
    """The bits per pixel that a mean squared error of one gray level² is worth at a quality from 0 to 100."""
    return 0.001 * 200 ** (quality / 100)


def default_minutes(height: int, width: int) -> float:
    """3 for up to 256 × 256 pixels, more for more, at most 30."""
    return min(max(3, round(3 * height * width / 256**2)), 30)


def fit(
    pixels: torch.Tensor,
    quality: float = 50,
    minutes: float = 3,
    steps: int | None = None,
    progress: bool = False,
    log: list | None = None,
) -> tuple[FittedCodec, torch.Tensor]:
    """A codec for one picture, uint8 (1 or 3, H, W), and its rounded latents; in so many minutes, or steps.

    The latents, (n,), are whole numbers from -TOP to TOP. The loss is bits per pixel + worth · squared error. For the
    picture latents are rounded, with the gradient of a soft rounding; for the price they are softly rounded, given
    noise, and softly rounded again. `log` gets (step, mean squared error, bits per pixel).
    """
    price, begin, step, done = worth(quality), time.monotonic(), 0, 0.0
    model = FittedCodec(*pixels.shape, finest=int(quality < FINE))
    target, generator = pixels.float(), torch.Generator().manual_seed(0)
    latents = nn.Parameter(_start(model, target, price, generator))
    rows, passes = (torch.cat(part) for part in zip(*map(model.neighbours, model.grids), strict=True))
    groups = [{"params": [latents], "lr": 0.15}, {"params": list(model.weights().values()), "lr": 0.01}]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda _: 0.5 + 0.5 * math.cos(math.pi * done))
    what = f"{steps} steps" if steps else f"{minutes:g} minutes"
    with tqdm(total=100, unit="%", desc=f"fitting for {what}", disable=None if progress else True) as bar:
        while done < 1:
            softness = 0.3 - 0.18 * done
            soft = _soft_round(latents, softness)
            noise = torch.rand(latents.shape, generator=generator) - 0.5
            bits = model.bits(_soft_round(soft + noise, softness), rows, passes).sum() / target[0].numel()
            error = (model.picture(soft + (latents.round() - soft).detach()) - target).square().mean()
            optimiser.zero_grad()
            (bits + price * error).backward()
            optimiser.step()
            step += 1
            done = step / steps if steps else (time.monotonic() - begin) / (60 * minutes)
            schedule.step()
            bar.update(min(100, int(100 * done)) - bar.n)
            if log is not None:
                log.append((step, error.item(), bits.item()))
    return model, latents.detach().round().clamp(-TOP, TOP)


@torch.no_grad()
def _start(model: FittedCodec, target: torch.Tensor, price: float, generator: torch.Generator) -> torch.Tensor:
    """Steps for such a price, random weights for `mend`, and latents: of each grid what coarser ones leave over."""
    model.log_steps.add_(math.log((trade_off(1) / price) ** 0.5 / 2 ** (GRIDS - 1))).clamp_(min=-0.7)
    model.mend.weight += 0.1 * torch.randn(model.mend.weight.shape, generator=generator)
    planes = target - 128
    if model.channels == 3:
        planes = torch.einsum("oc,chw->ohw", torch.linalg.inv(RGB), planes)
    latents = torch.zeros(model.count)
    for grid, step in zip(model.grids, model.log_steps.exp(), strict=True):
        left = (planes - UNIT * model.planes(latents))[grid.plane]
        left = F.adaptive_avg_pool2d(left[None], (grid.height, grid.width))[0].flatten() / step
        left = left.sign() * (left.abs() - 0.6).clamp(min=0)
        latents[grid.first :][: len(left)] = left.clamp(-TOP, TOP)
    return latents


def _soft_round(x: torch.Tensor, softness: float) -> torch.Tensor:
    """Between x and its rounding (Agustsson and Theis, "Universally Quantized Neural Compression", NeurIPS 2020)."""
    middle = x.detach().floor() + 0.5
    return middle + ((x - middle) / softness).tanh() / (2 * math.tanh(0.5 / softness))


# ---------------------------------------------------------------------------------------------- files


@torch.no_grad()
def pack(model: FittedCodec, latents: torch.Tensor, pixels: torch.Tensor, quality: float) -> bytes:
    """The bytes of a codec fitted to `pixels`, uint8 (1 or 3, H, W), and its latents, (n,) from -TOP to TOP.

    They are its shape; for each weight how fine and how spread it is; weights; latents. Weight by weight,
    the rounding is made coarser until bits + worth · squared error rises.
    """
    price = worth(quality)
    rows, passes = (torch.cat(part) for part in zip(*map(model.neighbours, model.grids), strict=True))
    target, fine = pixels.float(), dict.fromkeys(model.weights(), FINEST)

    def cost() -> float:
        levels = _levels(model, fine)
        tried = _exact(model, levels, fine).float()
        error = (tried.picture(latents).clamp(0, 255) - target).square().mean()
        of_weights = sum(_weight_bits(level) for level in levels.values())
        return float(tried.bits(latents, rows, passes).sum() + of_weights + price * error * target[0].numel())

    least = cost()
    for name in fine:
        while fine[name] > 0:
            fine[name] -= 1
            if (now := cost()) > least:
                fine[name] += 1
                break
            least = now
    levels, encoder = _levels(model, fine), LevelEncoder()
    for level in levels.values():
        encoder.put(level, np.zeros_like(level), np.full_like(level, SCALES[0] + 4 * _spread(level)))
    _exact(model, levels, fine).walk(latents, encoder.put)
    encoder.end_tile()
    head = [model.mend.out_channels << 1 | model.finest]
    head += [fine[name] << 5 | _spread(level) for name, level in levels.items()]
    return bytes(head) + encoder.finish()


@torch.no_grad()
def unpack(data: bytes, channels: int, height: int, width: int) -> torch.Tensor:
    """The picture, uint8 (channels, height, width), of such bytes. Raises ValueError where they cannot be such."""
    hidden, finest = divmod(data[0], 2)
    model = FittedCodec(channels, height, width, finest, max(1, min(hidden, MOST_HIDDEN)))
    count = len(model.weights())
    decoder, levels, fine = LevelDecoder(data[1 + count :]), {}, {}
    for (name, weight), byte in zip(model.weights().items(), data[1 : 1 + count], strict=True):
        fine[name], spread = divmod(byte, 32)
        zeros = np.zeros(weight.numel(), np.int64)
        levels[name] = decoder.get(zeros, zeros + SCALES[0] + 4 * spread)
    model = _exact(model, levels, fine)
    latents = model.walk(torch.zeros(model.count), lambda _, means, scales: decoder.get(means, scales))
    decoder.finish()
    return images.to_uint8(model.picture(latents) / 255)


def _levels(model: FittedCodec, fine: dict[str, int]) -> dict[str, np.ndarray]:
    """Each weight less what it begins at, in steps of 2^-(fine + 1)."""
    start, levels = _fresh(model).weights(), {}
    for name, weight in model.weights().items():
        steps = (weight - start[name]) * 2 ** (fine[name] + 1)
        levels[name] = steps.round().clamp(-TOP, TOP).flatten().numpy().astype(np.int64)
    return levels


def _spread(level: np.ndarray) -> int:
    """The index, of every fourth scale, of the one that suits the levels of a weight."""
    return min(max(round((math.log(np.abs(level).mean() + 0.02) * 16 - SCALES[0]) / 4), 0), 31)


def _weight_bits(level: np.ndarray) -> float:
    scale = torch.tensor(math.exp((SCALES[0] + 4 * _spread(level)) / 16))
    return float(laplace_bits(torch.from_numpy(level).float(), torch.tensor(0.0), scale).sum())


def _exact(model: FittedCodec, levels: dict[str, np.ndarray], fine: dict[str, int]) -> FittedCodec:
    """The codec that a decoder has."""
    exact = _fresh(model).double()
    for name, weight in exact.weights().items():
        weight.data += torch.from_numpy(levels[name]).view_as(weight) / 2.0 ** (fine[name] + 1)
    return exact


def _fresh(model: FittedCodec) -> FittedCodec:
    return FittedCodec(model.channels, *model.size, model.finest, model.mend.out_channels)


@functools.cache
def _edges() -> torch.Tensor:
    """Between which scales the index of rangecoder.SCALES changes."""
    return torch.tensor([_exact_exp((k + 0.5) / 16) for k in SCALES[:-1]], dtype=torch.float64)
