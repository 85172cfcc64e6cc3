"""What a codec's picture lacks, as the second layer of a file: it takes the dial on from where the codec ends.

To code a picture in layers is old (JPEG has it in its Annex J); a learned context for what a lossy codec leaves is of
Mentzer et al., "Learning Better Lossless Compression Using Lossy Compression", CVPR 2020.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .. import images
from ..entropy import TOP_RATE, ContextModel, fixed, laplace_bits, rates, shrunk, trade_off
from ..rangecoder import TOP
from ..service.devices import full_precision
from .binary_autoencoder import BLOCK, Coded, TransformAutoencoder, dct_basis, dct_kernels

SIDE = 8  # of a block in pixels; four of them lie in a block of the codec
DEAD_ZONE = 0.1  # of a step
MOST, PART = 64, 2.0  # what the context is told of the codec's levels: their sum, up to 64, as so many gray levels each


class DetailLayer(nn.Module):
    """A block DCT of the picture minus the codec's picture, one step for all coefficients, and a context model.

    The coefficients are those of Y, Cb and Cr at full resolution, (N, 192, H/8, W/8). Beside those that are decoded,
    the context model is told what the codec has spent at each place: the sum of |levels| of each of its groups.
    Training is of the context model alone: nothing else here is learned.
    """

    channels = 3

    def __init__(self, hidden: int = 64):
        super().__init__()
        analysis, synthesis, groups = dct_kernels([([0, 1, 2], SIDE)], [0, 1, 2, 3, 5, 7, 15])
        self.register_buffer("analysis", analysis, persistent=False)
        self.register_buffer("synthesis", synthesis, persistent=False)
        ends = torch.tensor(dct_basis()[2]).cumsum(0).tolist()
        self.spent = list(zip([0, *ends], ends, strict=False))  # the codec's groups: first code, first of the next
        self.context = ContextModel(groups, hidden, given=len(self.spent))
        self.codec = ()

    def begin_with(self, start: dict[str, torch.Tensor]) -> None:
        """Be trained on what the codec of these weights leaves. Raises RuntimeError for other weights."""
        codec = TransformAutoencoder()
        codec.load_state_dict(start)
        self.codec = (codec.eval().requires_grad_(False),)  # in a tuple it is no part of this network

    def forward(self, x: torch.Tensor) -> Coded:
        """Code (N, 3, H, W) in [0, 1] in both layers; of the bits, those of the second. See TransformAutoencoder."""
        height, width = x.shape[-2:]
        x, rate = images.pad_to_multiple(x, BLOCK), rates(x, self.training)
        with full_precision(x.device):
            levels, picture = self.first_layer(x)
            steps = step(rate).view(-1, 1, 1, 1)
            coefficients = steps * self.levels(255 * (x - picture), steps)
            known = torch.cat([PART * self.spending(levels), coefficients], 1)
            means, scales = self.context(known, rate)
            bits = laplace_bits(coefficients / steps, means / steps, scales / steps).sum((1, 2, 3))
        picture = picture + self.pixels(coefficients) / 255
        return Coded(picture[..., :height, :width], bits / (height * width), trade_off(step(rate)))

    @torch.no_grad()
    def first_layer(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The codec's levels and its picture of (N, 3, H, W); without a codec no levels, and gray."""
        if not self.codec:
            blocks = (side // BLOCK for side in x.shape[-2:])
            return x.new_zeros(len(x), self.spent[-1][1], *blocks), torch.full_like(x, 0.5)
        codec = self.codec[0].to(x.device, non_blocking=x.device.type != "mps")  # which would read freed memory
        steps = codec.steps(x.new_full((len(x),), TOP_RATE))
        levels = codec.encode(x, steps).round()
        return levels, images.quantize(codec.restorer(codec.decode(levels, steps)))

    def spending(self, levels: torch.Tensor) -> torch.Tensor:
        """The sums of |levels| of each group of the codec's, up to MOST: (…, 384, h, w) → (…, 17, 2h, 2w)."""
        sums = [levels[..., first:end, :, :].abs().sum(-3).clamp(max=MOST) for first, end in self.spent]
        return torch.stack(sums, -3).to(levels).repeat_interleave(2, -1).repeat_interleave(2, -2)

    def levels(self, lacking: torch.Tensor, steps: float | torch.Tensor) -> torch.Tensor:
        """The rounded coefficients of (N, 3, H, W) in gray levels, in units of their steps: (N, 192, H/8, W/8)."""
        levels = F.conv2d(lacking, self.analysis, stride=SIDE) / steps
        return shrunk(levels, DEAD_ZONE).round().clamp(-TOP, TOP)

    def pixels(self, coefficients: torch.Tensor) -> torch.Tensor:
        """What coefficients add to a picture, (N, 3, H, W) in gray levels."""
        return F.conv_transpose2d(coefficients, self.synthesis, stride=SIDE)

    def exact_steps(self, rate: float) -> torch.Tensor:
        """The steps of all that the context model knows, (17 + 192, 1, 1), the same on all machines."""
        steps = torch.full((self.context.groups[-1][1], 1, 1), float(fixed(step(rate), 6)), dtype=torch.float64)
        steps[: len(self.spent)] = PART
        return steps


def step(rate: float | torch.Tensor) -> float | torch.Tensor:
    """The step in gray levels: 40 at rate 0, 2.5 at TOP_RATE."""
    return 40 * 2 ** (rate * (-4 / TOP_RATE))
