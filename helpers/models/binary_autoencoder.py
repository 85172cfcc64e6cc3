"""Autoencoders whose code is made of bits: NPEG's noisy one, and its descendants that are codecs.

The original is ctmakro's NPEG (2017). The codecs' noise and rate term follow Ballé et al., "End-to-end Optimized Image
Compression", ICLR 2017; the context model follows He et al., "Checkerboard Context Model", CVPR 2021, and the channel
groups of Minnen and Singh, "Channel-wise Autoregressive Entropy Models", ICIP 2020.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .. import degradations, images
from .base import full_precision
from .jpeg_restorer import DRUNet

BLOCK = 16  # side of a block in pixels
TILE = 96  # blocks: the side of the tiles in which large pictures are decoded
TOP_RATE = 6.0  # the dial of a codec goes from 0, the smallest files, to this; +1 halves the squared step
UNIT = 32.0  # gray levels: what the context model counts coefficients in


class Coded(NamedTuple):
    """What a codec returns while it is trained."""

    picture: torch.Tensor  # (N, 3, H, W), decoded
    bits_per_pixel: torch.Tensor  # (N,), what the entropy model says that the code costs
    trade_off: torch.Tensor  # (N,), the bits per pixel that a mean squared error of one gray level² is worth


class NoisyCode(NamedTuple):
    """What NPEG returns."""

    picture: torch.Tensor  # (N, 3, H, W), decoded
    code: torch.Tensor  # (N, 128, H, W) in [0, 1]


class NPEG(nn.Module):
    """ctmakro's noisy binary autoencoder: 3×3 convolutions with ELU to 128 numbers per pixel, and as many back.

    Noise of standard deviation `noise` is added to the code before its sigmoid, in training; to be heard through it the
    encoder must shout, and codes come out near 0 and 1. In evaluation they are exactly that: above `threshold` or not.
    With `hard` it is trained as it is evaluated, without noise: bits for the decoder, for the encoder the gradient of
    the sigmoid.
    """

    channels = 3

    def __init__(self, noise: float = 15.0, hard: bool = False, threshold: float = 0.5):
        super().__init__()
        self.noise, self.hard, self.threshold = noise, hard, threshold
        self.encoder = _chain(3, 16, 32, 64, 128)
        self.decoder = _chain(128, 64, 32, 16, 3)

    def forward(self, x: torch.Tensor) -> NoisyCode:
        """(N, 3, H, W) in [0, 1] through the code and back."""
        logits = self.encoder(x - 0.5)
        if self.training and not self.hard:
            logits = logits + self.noise * torch.randn_like(logits)
        code = torch.sigmoid(logits)
        if self.hard or not self.training:
            code = code + ((code > self.threshold).to(code.dtype) - code).detach()  # straight through
        return NoisyCode(torch.sigmoid(self.decoder(code)), code)


def _chain(*widths: int) -> nn.Sequential:
    """3×3 convolutions with ELU between them, and NPEG's fresh weights: truncated normal, variance 2 / inputs."""
    layers = []
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        layer = nn.Conv2d(inputs, outputs, 3, padding=1)
        nn.init.trunc_normal_(layer.weight, std=(2 / (9 * inputs)) ** 0.5, a=-10, b=10)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ELU()]
    return nn.Sequential(*layers[:-1])


class TransformAutoencoder(nn.Module):
    """A codec: a strided convolution to a grid of codes, rounded; one back, and a restorer that mends the picture.

    The convolutions begin as a block DCT (16×16 for Y, 8×8 for Cb and Cr at half resolution), the steps of rounding
    begin equal, the restorer begins as the blind JPEG restorer: at its first training step this is a codec already.
    """

    channels = 3

    def __init__(self, hidden: int = 64, binary: bool = False):
        super().__init__()
        self.binary = binary
        analysis, synthesis, groups = dct_basis()
        codes = len(analysis)
        self.analysis = nn.Conv2d(3, codes, BLOCK, stride=BLOCK, bias=False)
        self.synthesis = nn.ConvTranspose2d(codes, 3, BLOCK, stride=BLOCK, bias=False)
        self.analysis.weight.data = BLOCK * analysis  # numbers of about one: Adam moves all weights by the same amount
        self.synthesis.weight.data = BLOCK * synthesis
        self.log_steps = nn.Parameter(nominal_step(torch.arange(TOP_RATE + 1)).log()[:, None].repeat(1, codes))
        self.log_gain = nn.Parameter(torch.full((codes,), math.log(4.0))) if binary else None
        self.dead_zone = nn.Parameter(torch.full((codes,), 0.1))
        self.context = ContextModel(groups, hidden)
        self.restorer = DRUNet()

    def forward(self, x: torch.Tensor) -> Coded:
        """Code (N, 3, H, W) in [0, 1] and decode it: in training with noise and at random rates, else at rate 3."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
        rate = TOP_RATE * (torch.rand(len(x), device=x.device) if self.training else x.new_full((len(x),), 0.5))
        with full_precision(x.device):
            steps = self.steps(rate)  # (N, codes, 1, 1)
            levels = self.encode(x, steps)
            rounded, bits = self.through_bits(levels) if self.binary else self.through_integers(levels)
            means, scales = self.context(rounded.detach() * steps.detach(), rate)
            bits = bits(means / steps, scales / steps).sum((1, 2, 3))
            picture = self.decode(rounded, steps)
        picture = self.restorer(picture)[..., :height, :width]
        return Coded(picture, bits / (height * width), 7 / nominal_step(rate) ** 2)

    def through_integers(self, levels: torch.Tensor) -> tuple[torch.Tensor, Callable]:
        """Rounded levels, and a function from means and scales to their bits (Ballé et al. 2017).

        Rounding has no gradient: the decoder's goes straight through it, the bits' is that of levels with noise in
        place of rounding.
        """
        noisy = levels + torch.rand_like(levels) - 0.5 if self.training else levels.round()
        return levels + (levels.round() - levels).detach(), partial(laplace_bits, noisy)

    def through_bits(self, levels: torch.Tensor) -> tuple[torch.Tensor, Callable]:
        """The same by bits: a level is a thermometer, a row of bits of which those below it are one.

        All are certain but the one next to the level. That one is made as NPEG makes its bits, of a logit with Gaussian
        noise; by the chain rule the bits of a thermometer cost what their number costs.
        """
        below = levels.floor().detach()
        logit = self.log_gain.exp().view(-1, 1, 1) * (levels - below - 0.5)
        if self.training:
            logit = logit + torch.randn_like(logit)
        soft = torch.sigmoid(logit)
        bit = soft + ((logit > 0).to(soft.dtype) - soft).detach()

        def bits(means: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
            zero, one = (laplace_bits(level, means, scales) for level in (below, below + 1))
            return torch.lerp(zero, one, soft if self.training else bit)

        return below + bit, bits

    def encode(self, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """The codes of (N, 3, H, W) in units of their steps, before rounding: (N, codes, H/16, W/16)."""
        levels = self.analysis((x - 0.5) * 255 / BLOCK) / steps
        return levels - self.dead_zone.view(-1, 1, 1) * (4 * levels).clamp(-1, 1)  # small ones cost more than they give

    def decode(self, levels: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """The picture of rounded codes before it is restored: (N, 3, H, W)."""
        return self.synthesis(levels * steps) / (BLOCK * 255) + 0.5

    def steps(self, rate: torch.Tensor) -> torch.Tensor:
        """The rounding step of each code in gray levels, (N, codes, 1, 1), at `rate` (N,) from 0 to TOP_RATE."""
        below = rate.floor().clamp(max=TOP_RATE - 1)
        share, below = (rate - below)[:, None], below.long()
        table = self.log_steps.to(rate)
        return torch.lerp(table[below], table[below + 1], share).exp()[..., None, None]

    @torch.no_grad()
    def exact_steps(self, rate: float) -> torch.Tensor:
        """The steps at one rate, (codes, 1, 1), in double precision and rounded so that all machines have the same."""
        return _fixed(self.steps(torch.tensor([rate], dtype=torch.float64))[0], 6)

    @torch.no_grad()
    def picture(self, levels: torch.Tensor, rate: float, progress: bool = False) -> torch.Tensor:
        """uint8 (3, 16·h, 16·w) of rounded codes, int (codes, h, w); large ones in tiles, to the same result."""
        steps = self.exact_steps(rate).float().to(self.log_steps.device)

        def decode(piece: torch.Tensor) -> torch.Tensor:
            x = self.decode(piece[None].to(steps), steps).contiguous(memory_format=torch.channels_last)
            return images.to_uint8(self.restorer(x)[0]).to(piece.device)

        self.to(memory_format=torch.channels_last)
        return images.map_tiles(decode, levels, TILE, -(-self.restorer.halo // BLOCK), BLOCK, progress)


class ContextModel(nn.Module):
    """What the codes decoded so far say about the next ones: a mean and a scale for each, in gray levels.

    Codes are decoded in groups of channels, coarse frequencies first, and each group in two passes, as the white and
    the black squares of a checkerboard. A small network for each group sees all that is known of 3×3 blocks.
    """

    def __init__(self, groups: list[int], hidden: int):
        super().__init__()
        ends = torch.tensor(groups).cumsum(0).tolist()
        self.groups = list(zip([0, *ends], ends, strict=False))  # (first channel, first of the next)
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
        """Means and scales of all codes, (N, codes, h, w) in gray levels, from codes that are all known."""
        white = checkerboard(codes)
        means, scales = [], []
        for index in range(len(self.groups)):
            first, second = (self.group(index, codes, rate, which) for which in (0, 1))
            means.append(torch.where(white, first[0], second[0]))
            scales.append(torch.where(white, first[1], second[1]))
        return torch.cat(means, 1), torch.cat(scales, 1)

    def group(
        self, index: int, codes: torch.Tensor, rate: torch.Tensor, second: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and scales of one group's codes in one pass; of its own codes only the white ones are looked at."""
        start, end = self.groups[index]
        known = codes[:, :end] / UNIT
        own = known[:, start:] * checkerboard(codes) * second
        planes = torch.stack([rate / TOP_RATE - 0.5, torch.full_like(rate, second)], 1)
        planes = planes[..., None, None].expand(-1, -1, *codes.shape[-2:])
        mean, log_scale = self.networks[index](torch.cat([known[:, :start], own, planes], 1)).chunk(2, 1)
        return mean * UNIT, log_scale.clamp(-7, 4).exp() * UNIT


class ExactContext:
    """The context model in numbers that every machine adds up to the same sums: what encoder and decoder both run.

    A sum of floats depends on the order of its terms, so on processor and threads, and a decoder that is off by one bit
    loses the rest of the file. Here weights are multiples of 2⁻¹⁶ and activations of 2⁻⁸: in double precision all sums
    of products are exact, in whatever order (the idea of Ballé et al., "Integer Networks for Data Compression", 2019).
    """

    def __init__(self, context: ContextModel):
        self.groups = context.groups
        self.codes = context.groups[-1][1]
        self.layers = [
            [(_fixed(layer.weight, 16).flatten(1), _fixed(layer.bias, 16)[:, None]) for layer in network[::2]]
            for network in context.networks
        ]

    def walk(self, levels: torch.Tensor, steps: torch.Tensor, rate: float, code: Callable) -> None:
        """Go through the codes of a tile, (all codes, h, w), in the order of the file.

        `code(given, means, scales)` is called for each group and pass, (codes, squares) each, in units of the steps,
        (all codes, 1, 1), and what it returns is written into `levels`: one road for both directions, since an encoder
        returns what it is given, and a decoder what it reads. Of codes not decoded yet nothing is looked at.
        """
        white = checkerboard(levels)
        around = [_Neighbourhoods(squares) for squares in (white, ~white)]
        known = [levels.new_empty(9 * self.codes, where.count, dtype=torch.float64) for where in around]
        inside = [where.of(torch.ones(1, *white.shape, dtype=torch.float64)) for where in around]
        planes = torch.tensor([[_fixed(rate / TOP_RATE - 0.5, 8), second] for second in (0.0, 1.0)]).double()
        for (start, end), ((first, bias), *rest) in zip(self.groups, self.layers, strict=True):
            of_known, of_own, of_planes = first.split([9 * start, 9 * (end - start), 18], dim=1)
            for second, (squares, where) in enumerate(zip((white, ~white), around, strict=True)):
                if not where.count:  # a grid of one square
                    continue
                x = of_known @ known[second][: 9 * start] + bias
                x += torch.einsum("hpk,p->hk", of_planes.unflatten(1, (2, 9)), planes[second]) @ inside[second]
                if second:
                    x += of_own @ where.of(self._values(levels, steps, start, end) * white)
                for weight, bias_ in rest:
                    x = weight @ _fixed(x.relu(), 8) + bias_
                levels[start:end, squares] = code(levels[start:end, squares], *_in_steps(x, steps[start:end, 0]))
            for where, rows in zip(around, known, strict=True):
                rows[9 * start : 9 * end] = where.of(self._values(levels, steps, start, end))

    @staticmethod
    def _values(levels: torch.Tensor, steps: torch.Tensor, start: int, end: int) -> torch.Tensor:
        return levels[start:end].double() * steps[start:end] / UNIT  # steps are multiples of 2⁻⁶: these are exact, too


class _Neighbourhoods:
    """Where the 3×3 values around some squares of a grid lie; each code's are gathered once for all later groups."""

    def __init__(self, squares: torch.Tensor):
        height, width = squares.shape
        rows, columns = squares.nonzero(as_tuple=True)
        self.count = len(rows)
        offsets = torch.arange(3)[:, None] * (width + 2) + torch.arange(3)
        self.index = (offsets.view(9, 1) + rows * (width + 2) + columns).flatten()

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """(9·n, squares) of values (n, h, w); zeros beyond the edge."""
        padded = F.pad(values, (1, 1, 1, 1)).flatten(1)
        return padded.index_select(1, self.index).view(9 * len(values), self.count)


def _in_steps(x: torch.Tensor, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and scales in units of the steps, (codes, 1), of what a context's network gives, (2·codes, squares)."""
    mean, log_scale = x.chunk(2)
    scale = (_fixed(log_scale.clamp(-7, 4), 4)).exp() * UNIT / steps
    return _fixed(mean * UNIT / steps, 6), _fixed(scale.clamp(min=2**-8), 16)


def _fixed(x, bits: int):
    """Rounded to a multiple of 2⁻ᵇⁱᵗˢ, in double precision."""
    scaled = torch.as_tensor(x).detach().double() * 2**bits
    return scaled.round_().div_(2**bits)


def checkerboard(codes: torch.Tensor) -> torch.Tensor:
    """True on the white squares, of which the first is one: (h, w)."""
    rows, columns = (torch.arange(side, device=codes.device) for side in codes.shape[-2:])
    return (rows[:, None] + columns) % 2 == 0


def laplace_bits(level: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """−log₂ of the probability that a Laplace distribution gives to the interval of length one around `level`."""
    distance = (level - mean).abs()
    near, far = ((0.5 - distance).abs() / scale).neg().exp(), (-(0.5 + distance) / scale).exp()
    probability = torch.where(distance < 0.5, 1 - (near + far) / 2, (near - far) / 2)
    return -probability.clamp(min=1e-7).log2()


def nominal_step(rate: torch.Tensor) -> torch.Tensor:
    """The step in gray levels that a rate on the dial begins with: 160 at 0, 20 at 6."""
    return 160 * 2 ** (-rate / 2)


def dct_basis() -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """The block DCT of YCbCr as convolution kernels, there and back, and the sizes of its groups of frequencies.

    Kernels are (384, 3, 16, 16): 256 of Y, and 64 each of Cb and Cr at half resolution. They are sorted by frequency,
    within a group those of Y before those of Cb and Cr, and orthonormal in their own plane, so that an error of one in
    a code is between 2.5 and 3.3 gray levels² in RGB, whichever code it is.
    """
    edges = [0, 1, 2, 3, 4, 6, 8, 11, 16, 31]  # of row + column
    there = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    back = torch.linalg.inv(there.double()).T.float()  # rows: what Y, Cb, Cr give to R, G, B
    fine = degradations.dct_patterns(16)
    coarse = degradations.dct_patterns(8).repeat_interleave(2, -1).repeat_interleave(2, -2) / 2
    analysis, synthesis, groups = [], [], []
    for low, high in zip(edges, edges[1:], strict=False):
        for planes, patterns in (([0], fine), ([1, 2], coarse)):
            side = math.isqrt(len(patterns))
            chosen = [i for i in range(len(patterns)) if low <= i // side + i % side < high]
            chosen.sort(key=lambda i: i // side + i % side)
            analysis += [patterns[i] * there[p].view(3, 1, 1) for i in chosen for p in planes]
            synthesis += [patterns[i] * back[p].view(3, 1, 1) for i in chosen for p in planes]
            groups += [len(chosen) * len(planes)] if chosen else []
    return torch.stack(analysis), torch.stack(synthesis), groups
