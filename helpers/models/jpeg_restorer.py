"""JPEG restorers: the Conv-Unit network, AR-CNN as the field's baseline, and a small DRUNet that is blind to quality.

Dong et al., "Compression Artifacts Reduction by a Deep Convolutional Network", ICCV 2015 (AR-CNN);
Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", TPAMI 2021 (DRUNet).
"""

import torch
import torch.nn.functional as F
from torch import nn

from .. import degradations, images
from .base import Restorer, random_features, zero


class ConvUnits(Restorer):
    """The restorer of TsengMJ's Image_Compressor: three Conv Units, 3 → 128 → 64 → 32, then 1×1 and 5×5, RGB.

    A unit is 3×3, `middle`×`middle`, PReLU, 3×3, and the same PReLU again. `middle` 3 is the code (485,095 parameters),
    1 is its documentation. With `residual` the network predicts what to add to its input. `std` is that of all fresh
    weights: the original's 0.001 lets the signal fade within a few layers; None is PyTorch's own initialisation.
    """

    def __init__(self, middle: int = 3, residual: bool = False, std: float | None = 0.001):
        super().__init__()
        self.residual, self.channels = residual, 3
        self.halo = 3 * (1 + middle // 2 + 1) + 2
        widths = [3, 128, 64, 32]
        self.units = nn.Sequential(*(_ConvUnit(a, b, middle) for a, b in zip(widths, widths[1:], strict=False)))
        self.reduce = nn.Sequential(nn.Conv2d(32, 16, 1), nn.PReLU())
        self.last = nn.Conv2d(16, 3, 5, padding=2)
        if std is not None:
            for weight in (layer.weight for layer in self.modules() if isinstance(layer, nn.Conv2d)):
                nn.init.normal_(weight, std=std)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """JPEG's pixels, (N, 3, H, W) in [0, 1] → restored, of the same shape."""
        x = self.last(self.reduce(self.units(y)))  # (N, 3, H, W)
        return y + x if self.residual else x


class _ConvUnit(nn.Module):
    def __init__(self, inputs: int, outputs: int, middle: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.middle = nn.Conv2d(outputs, outputs, middle, padding=middle // 2)
        self.last = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.prelu = nn.PReLU()  # one slope for both places, as the original

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.prelu(self.middle(self.first(x)))
        return self.prelu(self.last(x))


class ARCNN(Restorer):
    """AR-CNN: SRCNN with a layer of feature enhancement, 9-7-1-5, 64, 32 and 16 features, gray; 106,561 parameters."""

    def __init__(self):
        super().__init__()
        self.halo = 4 + 3 + 2
        sizes = [(1, 64, 9), (64, 32, 7), (32, 16, 1), (16, 1, 5)]
        convolutions = [nn.Conv2d(a, b, k, padding=k // 2, padding_mode="replicate") for a, b, k in sizes]
        first, enhance, shrink, last = convolutions
        self.layers = nn.Sequential(first, nn.ReLU(), enhance, nn.ReLU(), shrink, nn.ReLU(), last)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """JPEG's luma, (N, 1, H, W) in [0, 1] → restored, of the same shape."""
        return self.layers(y)

    def start_from_interpolation(self) -> None:
        """Set fresh weights with which the output is the input: the first feature of each layer passes it on."""
        for convolution in self.layers[::2]:
            random_features(convolution)
            nn.init.dirac_(convolution.weight.data[:1])


class DRUNet(Restorer):
    """A small residual U-Net on YCbCr that adds to its input what JPEG took away; told nothing of the quality.

    Two economies against the paper: it begins at half resolution, by pixel unshuffling (Shi et al. 2016), and has two
    levels instead of four. Colour pictures go through as they are, gray ones as R = G = B.
    """

    multiple = 4  # sides that it works on divide by this
    tile = 1024  # at half resolution and less, as much memory as 512 elsewhere
    adds_to_input = True
    least_change = 0.023  # that tells of damage, as a share of the finest detail plus 4 gray levels

    def __init__(self, widths: tuple[int, int] = (48, 96), blocks: tuple[int, int, int] = (2, 5, 2)):
        super().__init__()
        self.channels = 3
        half, quarter = widths
        before, middle, after = blocks
        self.halo = 2 + 4 * before + 8 * middle + 4 * after + 2 + self.multiple
        self.head = nn.Conv2d(12, half, 3, padding=1)
        self.encoder = nn.Sequential(*(ResidualBlock(half) for _ in range(before)))
        self.down = nn.Conv2d(half, quarter, 2, stride=2)
        self.body = nn.Sequential(*(ResidualBlock(quarter) for _ in range(middle)))
        self.up = nn.ConvTranspose2d(quarter, half, 2, stride=2)
        self.decoder = nn.Sequential(*(ResidualBlock(half) for _ in range(after)))
        self.tail = nn.Conv2d(half, 12, 3, padding=1)
        zero(self.tail)  # begin as the identity

    def restore(self, image: torch.Tensor, *arguments, **options) -> torch.Tensor:
        """As `Restorer.restore`; but a picture in which there is for certain nothing to restore comes back as it is."""
        images.check_values(image)
        if image.dim() == 4 and len(image):
            return torch.stack([self.restore(one, *arguments, **options) for one in image])
        if not len(image) or (image.dim() == 3 and len(image) in (1, 3) and self.finds_nothing(image)):
            return image.clone() if image.dtype == torch.uint8 else images.to_float(image).clamp(0, 1)
        return super().restore(image, *arguments, **options)

    def finds_nothing(self, image: torch.Tensor) -> bool:
        """Whether a picture, (1 or 3, H, W), shows neither a grid of JPEG nor any damage that this network can mend.

        A resized JPEG has lost its grid. So the network is asked, too: it changes half of the pixels of a damaged
        picture by more than those of a clean one with as much fine detail. `least_change` was chosen on training and
        validation pictures. Flat parts tell nothing and are left out; of a large picture, a part is looked at.
        """
        part = images.to_float(image[..., :1024, :1024])
        if not degradations.without_jpeg_grid(part):
            return False
        pair = (part, super().restore(part))
        before, after = (255 * images.rgb_to_ycbcr(images.as_rgb(x), studio=False)[0] for x in pair)
        not_flat = before.diff(dim=1)[1:].bool() | before.diff(dim=0)[:, 1:].bool()
        change = (after - before)[1:, 1:][not_flat].abs().median()  # gray levels
        detail = before.diff(dim=0).diff(dim=1)[not_flat].square().mean().sqrt() / 2  # Haar's finest, diagonal band
        return bool(change < self.least_change * (detail + 4))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """JPEG's pixels, (N, 3, H, W) in [0, 1] → restored, of the same shape."""
        height, width = y.shape[-2:]
        x = images.pad_to_multiple(y, self.multiple)
        x = F.pixel_unshuffle(images.rgb_to_ycbcr(x, studio=False), 2)  # (N, 12, H/2, W/2)
        x = self.encoder(self.head(x))  # (N, 48, H/2, W/2)
        x = x + self.up(self.body(self.down(x)))  # (N, 96, H/4, W/4) in between
        x = F.pixel_shuffle(self.tail(self.decoder(x)), 2)  # (N, 3, H, W): what to add to Y, Cb, Cr
        change = images.ycbcr_to_rgb(x, studio=False, offset=False)
        return y + change[..., :height, :width]


class ResidualBlock(nn.Module):
    """x + conv(ReLU(conv(x))), 3×3, without batch norm (Lim et al. 2017); fresh, it adds little."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        random_features(self.first, self.second)
        self.second.weight.data.mul_(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) → the same shape."""
        return x + self.second(F.relu(self.first(x)))
