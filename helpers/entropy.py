"""What a symbol costs: the context model of the learned codecs, and the same in numbers that every machine agrees on.

The context model follows He et al., "Checkerboard Context Model", CVPR 2021, and the channel groups of Minnen and
Singh, "Channel-wise Autoregressive Entropy Models", ICIP 2020.
"""

import functools
import math
from collections.abc import Callable
from decimal import Context, Decimal

import torch
import torch.nn.functional as F
from torch import nn

TOP_RATE = 6.0  # the dial of a codec goes from 0, the smallest files, to this; +1 halves the squared step
UNIT = 32.0  # gray levels: what the context model counts coefficients in


class ContextModel(nn.Module):
    """What the codes decoded so far say about the next ones: a mean and a scale for each, in gray levels.

    Codes are decoded in groups of channels, coarse frequencies first, and each group in two passes, as the white and
    the black squares of a checkerboard. A small network for each group sees all that is known of 3×3 blocks. The first
    `given` channels are no codes: they are known to the decoder from elsewhere.
    """

    def __init__(self, groups: list[int], hidden: int, given: int = 0):
        super().__init__()
        ends = torch.tensor([given, *groups]).cumsum(0).tolist()
        self.groups = list(zip(ends, ends[1:], strict=False))  # (first channel, first of the next)
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(end + 2, hidden, 3, padding=1), nn.ReLU(),
                nn.Conv2d(hidden, hidden, 1), nn.ReLU(),
                nn.Conv2d(hidden, 2 * (end - start), 1),
            )
            for start, end in self.groups
        )  # fmt: skip
        for (start, end), network in zip(self.groups, self.networks, strict=True):
            nn.init.zeros_(network[-1].weight)
            nn.init.zeros_(network[-1].bias)
            network[-1].bias.data[end - start :] = math.log(0.3)

    def forward(self, codes: torch.Tensor, rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and scales of all codes, (N, codes, h, w) in gray levels, from channels that are all known."""
        white, means, scales = checkerboard(codes), [], []
        known = codes / UNIT
        for (start, end), network in zip(self.groups, self.networks, strict=True):
            passes = []
            for second in (0, 1):  # of its own codes a group sees the white ones, and those in the second pass
                planes = torch.stack([rate / TOP_RATE - 0.5, torch.full_like(rate, second)], 1)
                planes = planes[..., None, None].expand(-1, -1, *codes.shape[-2:])
                own = known[:, start:end] * white * second
                passes.append(network(torch.cat([known[:, :start], own, planes], 1)))
            mean, log_scale = torch.where(white, *passes).chunk(2, 1)
            means.append(mean * UNIT)
            scales.append(log_scale.clamp(-7, 4).exp() * UNIT)
        return torch.cat(means, 1), torch.cat(scales, 1)


class ExactContext:
    """The context model in numbers that every machine adds up to the same sums: what encoder and decoder both run.

    A sum of floats depends on the order of its terms, so on processor and threads, and a decoder that is off by one bit
    loses the rest of the file. Here weights are multiples of 2⁻¹⁶, activations of 2⁻⁸, the first inputs of 2⁻¹¹: in
    double precision all sums of products are exact, in whatever order (the idea of Ballé et al., "Integer Networks for
    Data Compression", 2019).
    """

    def __init__(self, context: ContextModel):
        self.groups, self.codes = context.groups, context.groups[-1][1]
        self.layers = [
            [(fixed(layer.weight, 16).flatten(1), fixed(layer.bias, 16)[:, None]) for layer in network[::2]]
            for network in context.networks
        ]

    def walk(self, levels: torch.Tensor, steps: torch.Tensor, rate: float, code: Callable) -> None:
        """Go through the codes of a tile, (all codes, h, w), in the order of the file.

        `code(given, means, scales)` is called for each group and pass with NumPy's integers, (codes · squares,) each:
        `means` in 1/64 of the steps, (all codes, 1, 1), `scales` as in rangecoder.SCALES. What it returns is written
        into `levels`: one road for both directions, since an encoder returns what it is given, and a decoder what it
        reads. Of codes not decoded yet nothing is looked at.
        """
        white = checkerboard(levels)
        passes = [(squares, squares.flatten().nonzero()[:, 0]) for squares in (white, ~white)]
        around = [torch.empty(9 * self.groups[-1][0], len(index), dtype=torch.float64) for _, index in passes]
        inside = _neighbours(torch.ones_like(levels[:1], dtype=torch.float64))  # 0 beyond the edge
        planes = torch.tensor([[fixed(rate / TOP_RATE - 0.5, 8), second] for second in (0.0, 1.0)]).double()

        def values(start: int, end: int) -> torch.Tensor:
            return levels[start:end].double() * steps[start:end] / UNIT  # steps are multiples of 2⁻⁶: exact, too

        known = 0
        for (start, end), ((first, bias), *rest) in zip(self.groups, self.layers, strict=True):
            if start > known:
                found = _neighbours(values(known, start))
                for (_, index), rows in zip(passes, around, strict=True):
                    rows[9 * known : 9 * start] = found.index_select(1, index)
                known = start
            of_known, of_own, of_planes = first.split([9 * start, 9 * (end - start), 18], dim=1)
            for second, (squares, index) in enumerate(passes):
                if not len(index):  # a grid of one square
                    continue
                x = of_known @ around[second][: 9 * start] + bias
                x += torch.einsum("hpk,p->hk", of_planes.unflatten(1, (2, 9)), planes[second]) @ inside[:, index]
                if second:
                    x += of_own @ _neighbours(values(start, end) * white).index_select(1, index)
                for weight, bias_ in rest:
                    x = weight @ fixed(x.relu(), 8) + bias_
                given = levels[start:end, squares]
                found = code(*(t.flatten().numpy() for t in (given, *_in_steps(x, steps[start:end, 0]))))
                levels[start:end, squares] = torch.from_numpy(found).view_as(given).to(given.dtype)


def _neighbours(values: torch.Tensor) -> torch.Tensor:
    """(9·n, h·w): the 3×3 values around each square of (n, h, w); zeros beyond the edge."""
    return F.unfold(values[None], 3, padding=1)[0]


def _in_steps(x: torch.Tensor, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means in 1/64 of the steps, (codes, 1), and scales as in rangecoder.SCALES, of a network's (2·codes, squares).

    Both are integers. Sums and roundings are exact here, and IEEE 754 knows only one result of a division.
    """
    mean, log_scale = x.chunk(2)
    unit = torch.tensor([[_logarithm(step)] for step in (steps * 2**6).flatten().tolist()], dtype=torch.float64)
    scale = (log_scale.clamp(-7, 4) + unit) * 16
    return (mean * (64 * UNIT) / steps).round().long(), scale.round().long()


@functools.cache
def _logarithm(step: float) -> float:
    """ln(UNIT / step), the step in 1/64 gray levels, to 16 bits after the point; by `decimal` alike everywhere."""
    return float(round((Decimal(int(UNIT) << 6) / Decimal(int(step))).ln(Context(prec=30)) * 2**16)) / 2**16


def fixed(x, bits: int):
    """Rounded to a multiple of 2⁻ᵇⁱᵗˢ, in double precision."""
    scaled = torch.as_tensor(x).detach().double() * 2**bits
    return scaled.round_().div_(2**bits)


def checkerboard(codes: torch.Tensor) -> torch.Tensor:
    """True on the white squares, of which the first is one: (h, w)."""
    rows, columns = (torch.arange(side, device=codes.device) for side in codes.shape[-2:])
    return (rows[:, None] + columns) % 2 == 0


def laplace_bits(level: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """−log₂ of the probability that a Laplace distribution gives to the interval of length one around `level`.

    At most 23.25 bits, without a gradient there: smaller probabilities than 10⁻⁷ are taken for that.
    """
    distance = (level - mean).abs()
    near, far = ((0.5 - distance).abs() / scale).neg().exp(), (-(0.5 + distance) / scale).exp()
    probability = torch.where(distance < 0.5, 1 - (near + far) / 2, (near - far) / 2)
    return -probability.clamp(min=1e-7).log2()


def straight_through(soft: torch.Tensor, hard: torch.Tensor) -> torch.Tensor:
    """The values of `hard` with the gradient of `soft`."""
    return soft + (hard - soft).detach()


def shrunk(levels: torch.Tensor, dead_zone: float | torch.Tensor) -> torch.Tensor:
    """Levels before rounding, towards zero by `dead_zone` steps, small ones by less: they cost more than they give."""
    return levels - dead_zone * (4 * levels).clamp(-1, 1)


def rates(x: torch.Tensor, training: bool) -> torch.Tensor:
    """A rate from 0 to `TOP_RATE` for each picture of a batch, (N,): random ones in training, else the middle."""
    return TOP_RATE * (torch.rand(len(x), device=x.device) if training else x.new_full((len(x),), 0.5))


def trade_off(step: float | torch.Tensor) -> float | torch.Tensor:
    """The bits per pixel that a mean squared error of one gray level² is worth where `step`, in gray levels, is right.

    High-rate theory says 6 / (ln 2 · step²), which is 8.7 / step²; the codecs of the course were trained with 7.
    """
    return 7 / step**2
