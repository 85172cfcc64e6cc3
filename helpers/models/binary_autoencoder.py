"""Autoencoders whose code is made of bits: NPEG's noisy one, and its descendants that are codecs.

The original is ctmakro's NPEG (2017). The codecs' noise and rate term follow Ballé et al., "End-to-end Optimized Image
Compression", ICLR 2017; what their codes cost, `entropy` says.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from .. import degradations, images
from ..entropy import TOP_RATE, ContextModel, fixed, laplace_bits, rates, shrunk, straight_through, trade_off
from ..service.devices import full_precision
from .base import zero
from .jpeg_restorer import DRUNet

BLOCK = 16  # side of a block in pixels
TILE = 96  # blocks: the side of the tiles in which large pictures are decoded


class Coded(NamedTuple):
    """What a codec returns while it is trained."""

    picture: torch.Tensor  # (N, 3, H, W), decoded
    bits_per_pixel: torch.Tensor  # (N,), what the entropy model says that the code costs
    trade_off: torch.Tensor  # (N,), λ: the bits per pixel that a mean squared error of one gray level² is worth


class NoisyCode(NamedTuple):
    """What NPEG returns."""

    picture: torch.Tensor  # (N, 3, H, W), decoded
    code: torch.Tensor  # (N, 128, H, W) in [0, 1]


class NPEG(nn.Module):
    """ctmakro's noisy binary autoencoder: 3×3 convolutions with ELU to 128 numbers per pixel, and as many back.

    Noise of standard deviation `noise` is added to the code before its sigmoid, in training; to be heard through it the
    encoder must shout, and codes come out near 0 and 1. In evaluation they are exactly that. With `hard` it is trained
    as it is evaluated, without noise: bits for the decoder, for the encoder the gradient of the sigmoid.
    """

    channels = 3

    def __init__(self, noise: float = 15.0, hard: bool = False):
        super().__init__()
        self.noise, self.hard = noise, hard
        self.encoder = _chain(3, 16, 32, 64, 128)
        self.decoder = _chain(128, 64, 32, 16, 3)

    def forward(self, x: torch.Tensor) -> NoisyCode:
        """(N, 3, H, W) in [0, 1] through the code and back."""
        logits = self.encoder(x - 0.5)
        if self.training and not self.hard:
            logits = logits + self.noise * torch.randn_like(logits)
        code = torch.sigmoid(logits)
        if self.hard or not self.training:
            code = straight_through(code, (code > 0.5).to(code.dtype))
        return NoisyCode(torch.sigmoid(self.decoder(code)), code)


def _chain(*widths: int) -> nn.Sequential:
    """3×3 convolutions with ELU between. Fresh weights are normal, of variance 2 / fan-in; the original cuts them."""
    layers = []
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        layer = nn.Conv2d(inputs, outputs, 3, padding=1)
        nn.init.trunc_normal_(layer.weight, std=(2 / (9 * inputs)) ** 0.5, a=-10, b=10)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ELU()]
    return nn.Sequential(*layers[:-1])


class FactorizedCodec(nn.Module):
    """A codec for one size of file, after Ballé et al. (2017): every channel has one distribution, everywhere the same.

    Kernels of 16×16 that begin as the DCT, levels with a step and a Laplace distribution for each channel, and three
    convolutions at half resolution that mend the picture. `step`: what the steps begin with, in gray levels.
    """

    channels = 3

    def __init__(self, step: float = 70.0):
        super().__init__()
        there, back, _ = dct_basis()
        codes = len(there)
        self.analysis = nn.Conv2d(3, codes, BLOCK, stride=BLOCK, bias=False)
        self.synthesis = nn.ConvTranspose2d(codes, 3, BLOCK, stride=BLOCK, bias=False)
        self.analysis.weight.data, self.synthesis.weight.data = there, back
        self.log_step = nn.Parameter(torch.full((codes, 1, 1), math.log(step)))
        self.log_scale = nn.Parameter(torch.full((codes, 1, 1), -1.0))  # of the levels, which are in steps
        inner = [nn.Conv2d(12, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 48, 3, padding=1), nn.ReLU()]
        self.mend = nn.Sequential(nn.PixelUnshuffle(2), *inner, nn.Conv2d(48, 12, 3, padding=1), nn.PixelShuffle(2))
        zero(self.mend[-2])  # it begins by changing nothing

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """The levels of (N, 3, H, W) in [0, 1] before rounding, (N, 384, H/16, W/16); H and W multiples of 16."""
        return self.analysis(255 * x - 128) / self.log_step.exp()

    def decode(self, levels: torch.Tensor) -> torch.Tensor:
        """The picture of levels, (N, 3, H, W)."""
        x = (self.synthesis(levels * self.log_step.exp()) + 128) / 255
        return x + self.mend(x)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The decoded picture, and the bits per pixel of all pictures together; in training both have gradients."""
        levels = self.encode(x)
        rounded = straight_through(levels, levels.round())
        priced = levels + torch.rand_like(levels) - 0.5 if self.training else rounded
        bits = laplace_bits(priced, torch.zeros_like(priced), self.log_scale.exp())
        return self.decode(rounded), bits.sum() / (x.numel() / 3)


class TransformAutoencoder(nn.Module):
    """A codec: a strided convolution to a grid of codes, rounded; one back, and a restorer that mends the picture.

    The convolutions begin as a block DCT (16×16 for Y, 8×8 for Cb and Cr at half resolution), the steps of rounding
    begin equal, the restorer is the identity (recipes load the blind JPEG restorer): at its first step this is a codec.
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
        x, rate = images.pad_to_multiple(x, BLOCK), rates(x, self.training)
        with full_precision(x.device):
            steps = self.steps(rate)  # (N, codes, 1, 1)
            levels = self.encode(x, steps)
            rounded, bits = self.through_bits(levels) if self.binary else self.through_integers(levels)
            means, scales = self.context(rounded.detach() * steps.detach(), rate)
            bits = bits(means / steps, scales / steps).sum((1, 2, 3))
            picture = self.decode(rounded, steps)
        picture = self.restorer(picture)[..., :height, :width]
        return Coded(picture, bits / (height * width), trade_off(nominal_step(rate)))

    def through_integers(self, levels: torch.Tensor) -> tuple[torch.Tensor, Callable]:
        """Rounded levels, and a function from means and scales to their bits (Ballé et al. 2017).

        Rounding has no gradient: the decoder's goes straight through it, the bits' is that of levels with noise in
        place of rounding.
        """
        noisy = levels + torch.rand_like(levels) - 0.5 if self.training else levels.round()
        return straight_through(levels, levels.round()), partial(laplace_bits, noisy)

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
        bit = straight_through(soft, (logit > 0).to(soft.dtype))

        def bits(means: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
            zero, one = (laplace_bits(level, means, scales) for level in (below, below + 1))
            return torch.lerp(zero, one, soft if self.training else bit)

        return below + bit, bits

    def encode(self, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """The codes of (N, 3, H, W) in units of their steps, before rounding: (N, codes, H/16, W/16)."""
        levels = self.analysis((x - 0.5) * 255 / BLOCK) / steps
        return shrunk(levels, self.dead_zone.view(-1, 1, 1))

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
        return fixed(self.steps(torch.tensor([rate], dtype=torch.float64))[0], 6)

    @torch.no_grad()
    def picture(self, levels: torch.Tensor, rate: float, progress: bool = False) -> torch.Tensor:
        """uint8 (3, 16·h, 16·w) of rounded codes, int (codes, h, w); large ones in tiles, to the same result."""
        steps = self.exact_steps(rate).float().to(self.log_steps.device)

        def decode(piece: torch.Tensor) -> torch.Tensor:
            x = self.decode(piece[None].to(steps), steps).contiguous(memory_format=torch.channels_last)
            return images.to_uint8(self.restorer(x)[0]).to(piece.device)

        self.to(memory_format=torch.channels_last)
        return images.map_tiles(decode, levels, TILE, -(-self.restorer.halo // BLOCK), BLOCK, progress)


def nominal_step(rate: torch.Tensor) -> torch.Tensor:
    """The step in gray levels that a rate on the dial begins with: 160 at 0, 20 at 6."""
    return 160 * 2 ** (-rate / 2)


def dct_basis() -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """The block DCT of YCbCr as convolution kernels, there and back, and the sizes of its groups of frequencies.

    Kernels are (384, 3, 16, 16): 256 of Y, and 64 each of Cb and Cr at half resolution.
    """
    return dct_kernels([([0], 16), ([1, 2], 8)], [0, 1, 2, 3, 4, 6, 8, 11, 16, 31])


def dct_kernels(planes: list[tuple[list[int], int]], edges: list[int]) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """As `dct_basis`: which of Y, Cb and Cr are cut into blocks of how many samples, and where groups begin.

    Smaller blocks than the first ones lie in a plane of lower resolution. Kernels are sorted by frequency, row plus
    column, within a group by planes, and orthonormal in their own plane, so that an error of one in a code is between
    2.5 and 3.3 gray levels² in RGB, whichever code it is.
    """
    there, back = images.FULL, images.INVERSE[False].T  # rows of `back`: what Y, Cb, Cr give to R, G, B
    analysis, synthesis, groups = [], [], []
    for low, high in zip(edges, edges[1:], strict=False):
        for chosen_planes, side in planes:
            factor = planes[0][1] // side
            patterns = degradations.dct_patterns(side)
            patterns = patterns.repeat_interleave(factor, -1).repeat_interleave(factor, -2) / factor
            places = sorted((i // side + i % side, i) for i in range(side**2))
            chosen = [i for frequency, i in places if low <= frequency < high]
            analysis += [patterns[i] * there[p].view(3, 1, 1) for i in chosen for p in chosen_planes]
            synthesis += [patterns[i] * back[p].view(3, 1, 1) for i in chosen for p in chosen_planes]
            groups += [len(chosen) * len(chosen_planes)] if chosen else []
    return torch.stack(analysis), torch.stack(synthesis), groups
