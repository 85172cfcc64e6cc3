"""Learned compressed sensing: ResCSNet, and one network for every ratio and every size.

ResCSNet and its DW-SSIM loss are of F. Zhang et al., "An Image Compression Method for Video Surveillance System in
Underground Mines Based on Residual Networks and Discrete Wavelet Transform", Electronics 2019, 8(12), 1559.
`ResCSNetAny` senses block by block as CSNet (Shi et al., TIP 2020) and recovers by stages with a data-consistency step,
as OPINE-Net (Zhang et al., JSTSP 2020) and its like.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .. import degradations, images
from ..service.devices import full_precision
from ..service.errors import require
from .base import zero
from .jpeg_restorer import ResidualBlock

BLOCK = degradations.SENSED_BLOCK
TOP_RATIO, LEAST_RATIO = 0.25, 0.02  # of measurements to a block's pixels, in training
FAR = 0.03  # pictures are sensed at half their size at ratios below this
TILE, HALO = 24, 9  # blocks: the side of the tiles in which large pictures are recovered, and what they see beyond it


class ResCSNet(nn.Module):
    """The original: gray pictures of 100×100 at one ratio, a linear sensor of all pixels at once, and residual units.

    The measurements are laid out as a square and enlarged to 50, 75 and 100 pixels between the units. 1,416,193
    parameters for recovery, and 10,001 for each measurement. Inside, pictures are in [−1, 1]. Left out are three
    convolutions that the original defines and does not use (291 parameters).

    `normalise` False leaves out batch norm, one of the three ways to improve that its authors name.
    """

    channels = 1
    SIDE = 100

    def __init__(self, ratio: float = 0.1, normalise: bool = True):
        super().__init__()
        measurements = int(self.SIDE**2 * ratio)
        self.width = math.ceil(measurements**0.5)
        self.sensor = nn.Linear(self.SIDE**2, measurements)

        def unit(count: int) -> nn.Sequential:
            return _convolutions(96, count, normalise)

        self.unit1 = nn.Sequential(_convolutions(1, 1, normalise), nn.LeakyReLU(0.01))
        self.unit2 = nn.Sequential(_Unit(unit(3), unit(1)), _Unit(unit(3)))
        self.unit3 = _Unit(unit(3))
        self.unit4 = _Unit(unit(3), unit(1))
        self.unit5 = nn.Sequential(_Unit(unit(3)), nn.Conv2d(96, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sense and recover (N, 1, 100, 100) in [0, 1]. Raises ValueError for other shapes."""
        if x.shape[1:] != (1, self.SIDE, self.SIDE):
            raise ValueError(f"ResCSNet takes (N, 1, 100, 100) alone, not {tuple(x.shape)}; ResCSNetAny takes any.")
        return self.recover(self.sense(x))

    def sense(self, x: torch.Tensor) -> torch.Tensor:
        """The measurements, (N, M), of (N, 1, 100, 100) in [0, 1]."""
        return self.sensor((2 * x - 1).flatten(1))

    def recover(self, y: torch.Tensor) -> torch.Tensor:
        """(N, 1, 100, 100) of measurements (N, M); not clipped."""
        square = F.interpolate(y[:, None], self.width**2).view(-1, 1, self.width, self.width)
        x = self.unit2(self.unit1(square))
        for unit, side in ((self.unit3, 50), (self.unit4, 75), (self.unit5, 100)):
            x = unit(F.interpolate(x, (side, side)))
        return (x + 1) / 2


def _convolutions(inputs: int, count: int, normalise: bool) -> nn.Sequential:
    """`count` 3×3 convolutions to 96 features, each with batch norm, and LeakyReLU between them."""
    layers = []
    for index in range(count):
        layers += [nn.LeakyReLU(0.01)] if index else []
        layers += [nn.Conv2d(inputs, 96, 3, padding=1), nn.BatchNorm2d(96) if normalise else nn.Identity()]
    return nn.Sequential(*layers)


class _Unit(nn.Module):
    """A sum of two branches, without activation after it."""

    def __init__(self, residual: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.residual, self.shortcut = residual, shortcut or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.residual(x)


class ResCSNetAny(nn.Module):
    """One network for every ratio of measurements to pixels from 0 to 0.25, and pictures of every size; gray.

    The rows of the sensing operator are orthonormal and ordered by importance: the first m of them are the operator at
    ratio m/1024. They begin as the low frequencies of the DCT. Recovery goes over the whole picture, so that there are
    no block edges, at half resolution; each stage sees what the measurements still contradict. At ratios below 0.03 a
    block of 32×32 is too small to be told by its few numbers: there the picture is sensed at half its size.
    """

    channels = 1

    def __init__(self, width: int = 48, stages: int = 6, blocks: int = 2):
        super().__init__()
        self.raw_rows = nn.Parameter(degradations.zonal_rows(BLOCK, round(TOP_RATIO * BLOCK**2)))
        self.stages = nn.ModuleList(_Stage(width, blocks) for _ in range(stages))

    @property
    def rows(self) -> torch.Tensor:
        """The sensing operator, (256, 32, 32): Gram-Schmidt, which keeps the span of the first m rows, for every m."""
        here = self.raw_rows.device
        raw = self.raw_rows.flatten(1).to("cpu" if here.type == "mps" else here)  # where qr is missing, or slow
        q, r = torch.linalg.qr(raw.T)
        return (q * r.diagonal().sign()).T.view_as(self.raw_rows).to(here)

    def forward(self, x: torch.Tensor, ratio: float = 0.1) -> torch.Tensor:
        """Sense and recover (N, 1, H, W) in [0, 1].

        In training each picture has a ratio of its own, and a quarter of the batches an edge within a block, beyond
        which x comes back as it is.
        """
        height, width = x.shape[-2:]
        if not self.training:
            size, counts = self.geometry(height, width, ratio, x.device)
            y = self.sense(_resized(x, size), counts.expand(len(x), -1, -1))
            recovered = self.recover(y, counts.expand(len(x), -1, -1))
            return _resized(recovered[..., : size[0], : size[1]], (height, width))
        cut = torch.randint(min(BLOCK, height, width), (2,)).tolist() if torch.rand(()) < 0.25 else (0, 0)
        inside = (..., slice(height - cut[0]), slice(width - cut[1]))
        seen, result = x[inside], x.clone()
        place = (1.2 * torch.rand(len(x)) - 0.1).clamp(0, 1)  # its ends, which have neighbours on one side, more often
        ratios = TOP_RATIO * (LEAST_RATIO / TOP_RATIO) ** place  # evenly in the logarithm
        size, device = seen.shape[-2:], x.device
        counts = torch.stack([degradations.measurement_counts(*size, r, BLOCK, device) for r in ratios.tolist()])
        result[inside] = self.recover(self.sense(seen, counts), counts)[inside]
        return result

    @staticmethod
    def geometry(height: int, width: int, ratio: float, device=None) -> tuple[tuple[int, int], torch.Tensor]:
        """The size at which a picture is sensed, and how many numbers are measured of each block, (1, h, w).

        Below the ratio FAR that is half its size, to whole blocks. Raises CourseError for a ratio that is not above 0
        and at most TOP_RATIO.
        """
        said = f"this network measures up to {TOP_RATIO:g} numbers per pixel, and more than 0"
        require(0 < ratio <= TOP_RATIO, f"{said}, not {ratio:g}; 10 % is 0.1.")
        if ratio >= FAR:
            return (height, width), degradations.measurement_counts(height, width, ratio, BLOCK, device)[None]
        rows, columns = (max(1, round(side / (2 * BLOCK))) for side in (height, width))
        count = min(round(TOP_RATIO * BLOCK**2), int(ratio * height * width / (rows * columns)))
        return (BLOCK * rows, BLOCK * columns), torch.full((1, rows, columns), count, device=device)

    def sense(self, x: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """The first `counts`, (N, h, w), measurements of x − 0.5, (N, 256, h, w); zero beyond them."""
        with full_precision(x.device):
            return self.mask(counts) * degradations.block_sense(x - 0.5, self.rows)

    def mask(self, counts: torch.Tensor) -> torch.Tensor:
        """1 where something is measured, (N, 256, h, w)."""
        index = torch.arange(len(self.raw_rows), device=counts.device).view(-1, 1, 1)
        return (index < counts[:, None]).float()

    def recover(self, y: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """The picture, (N, 1, 32·h, 32·w), not clipped, of measurements (N, 256, h, w) and their counts (N, h, w)."""
        return self.estimates(y, counts)[-1]

    def estimates(self, y: torch.Tensor, counts: torch.Tensor) -> list[torch.Tensor]:
        """What recovery goes through: the linear estimate, the picture after each stage made to agree with y."""
        with full_precision(y.device):
            rows, mask = self.rows, self.mask(counts)
        height, width = (BLOCK * side for side in y.shape[-2:])
        planes = planes_of(counts[:, None] / len(self.raw_rows), height, width)
        x, features, passed = y.new_zeros(len(y), 1, height, width), 0, []
        missed = self._missed(x, y, mask, rows)
        for stage in self.stages:
            x = x + missed
            passed.append(x + 0.5)
            change, features = stage(x, missed, planes, features)
            x = x + change
            missed = self._missed(x, y, mask, rows)
        return [*passed, x + missed + 0.5]

    def _missed(self, x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """What to add to x so that it agrees with the measurements; a projection, since the rows are orthonormal."""
        with full_precision(x.device):
            return degradations.block_adjoint(y - mask * degradations.block_sense(x, rows), rows)

    @torch.no_grad()
    def measure(self, image: torch.Tensor, ratio: float) -> torch.Tensor:
        """The measurements, (256, h, w), of a picture (1, H, W), uint8 or float, of any size."""
        images.check_values(image)
        device = self.raw_rows.device
        size, counts = self.geometry(*image.shape[-2:], ratio, device)
        return self.sense(_resized(images.to_float(image)[None].to(device), size), counts)[0]

    @torch.no_grad()
    def picture(self, y: torch.Tensor, height: int, width: int, ratio: float, progress: bool = False) -> torch.Tensor:
        """The picture, (1, height, width), clipped, of what `measure` returns; large ones in tiles."""
        size, counts = self.geometry(height, width, ratio, y.device)

        def recover(piece: torch.Tensor) -> torch.Tensor:
            return self.recover(piece[None, :-1], piece[None, -1])[0]

        self.to(memory_format=torch.channels_last)
        whole = images.map_tiles(recover, torch.cat([y, counts.to(y)]), TILE, HALO, BLOCK, progress)
        return _resized(whole[None, :, : size[0], : size[1]], (height, width))[0].clamp(0, 1)

    def reconstruct(self, image: torch.Tensor, ratio: float, progress: bool = False) -> torch.Tensor:
        """Sense and recover (1, H, W), of any size; uint8 in gives uint8 out, else float32 in [0, 1]."""
        recovered = self.picture(self.measure(image, ratio), *image.shape[-2:], ratio, progress).to(image.device)
        return images.to_uint8(recovered) if image.dtype == torch.uint8 else recovered


def _resized(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic in full precision, or as it is where nothing changes."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    with full_precision(x.device):
        return degradations.resize(x.float(), size)


def planes_of(share: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """What a pixel should know besides the picture, (N, 5, H/2, W/2): how much was measured, its place in the block."""
    half = BLOCK // 2
    share = (share.clamp(min=1e-3).log10() + 1).repeat_interleave(half, -1).repeat_interleave(half, -2)
    angle = (torch.arange(max(height, width) // 2, device=share.device) + 0.5) * (2 * math.pi / half)
    waves = torch.stack([angle.cos(), angle.sin()])  # (2, the longer side)
    across = waves[:, None, : width // 2].expand(-1, height // 2, -1)
    down = waves[:, : height // 2, None].expand(-1, -1, width // 2)
    return torch.cat([share, torch.cat([across, down]).expand(len(share), -1, -1, -1)], 1)


class _Stage(nn.Module):
    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.head = nn.Conv2d(4 + 4 + 5, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.tail = nn.Conv2d(width, 4, 3, padding=1)
        zero(self.tail)

    def forward(self, x, missed, planes, features):
        given = [F.pixel_unshuffle(x, 2), F.pixel_unshuffle(missed, 2), planes]
        features = self.body(features + self.head(torch.cat(given, 1)))
        return F.pixel_shuffle(self.tail(features), 2).float(), features
