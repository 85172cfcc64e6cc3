"""Super-resolution from SRCNN to a small EDSR, and the skyline deblocker, which is an SRCNN too.

Dong et al., "Image Super-Resolution Using Deep Convolutional Networks", TPAMI 2016 (SRCNN);
Dong et al., "Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016 (FSRCNN);
Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017 (EDSR).
"""

import torch
import torch.nn.functional as F
from torch import nn

from .. import degradations, images
from .base import Restorer, random_features, zero


class SRCNN(Restorer):
    """Three convolutions on the bicubically enlarged picture: patch extraction, non-linear mapping, reconstruction.

    `kernels` (9, 1, 5) has 8,129 parameters, (9, 5, 5) has 57,281 on one channel. `final_relu` puts a ReLU on the
    output, as one of the original systems did: where it starts below zero, a pixel gets no gradient.
    """

    def __init__(
        self, scale: int = 3, kernels: tuple[int, int, int] = (9, 5, 5), channels: int = 1, final_relu: bool = False
    ):
        super().__init__()
        self.scale, self.channels, self.final_relu = scale, channels, final_relu
        first, second, third = kernels
        self.reach = sum(k // 2 for k in kernels)  # large pixels that an output pixel sees to each side
        self.halo = -(-self.reach // scale)  # in pixels of the small picture, rounded up
        self.conv1 = nn.Conv2d(channels, 64, first)
        self.conv2 = nn.Conv2d(64, 32, second)
        self.conv3 = nn.Conv2d(32, channels, third)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """The small picture, (N, C, H, W) in [0, 1] → (N, C, sH, sW)."""
        x = degradations.upscale(y, self.scale) if self.scale > 1 else y  # (N, C, sH, sW)
        x = F.pad(x, (self.reach,) * 4, mode="replicate")  # once: zeros around each layer would darken the border
        x = F.relu(self.conv1(x))  # (N, 64, …): each layer takes k - 1 pixels away again
        x = F.relu(self.conv2(x))  # (N, 32, …)
        x = self.conv3(x)  # (N, C, sH, sW)
        return F.relu(x) if self.final_relu else x

    def start_from_interpolation(self) -> None:
        """Set fresh weights with which the output is the bicubic picture, and training begins at its PSNR.

        The first feature of each layer passes the picture on; all others are random and leave it alone at first.
        """
        random_features(self.conv1, self.conv2)
        nn.init.zeros_(self.conv3.bias)
        for convolution in (self.conv1, self.conv2, self.conv3):
            nn.init.dirac_(convolution.weight.data[: self.channels])


class SkylineSRCNN(Restorer):
    """The 9-1-5 network of the skyline system, a deblocker: gray in, gray out, same size.

    `padding` (2, 2, 2) is the original's; names and shapes are those of its `checkpoint.pth`. It pads the 9×9 layer by
    2 and the 1×1 layer by 2 as well: the size comes out right, but the outermost pixels of every tile are computed
    from an edge that was repeated in the wrong place. (4, 0, 2) pads each layer by what it needs. With `residual` the
    network predicts what to add to its input.
    """

    def __init__(self, padding: tuple[int, int, int] = (2, 2, 2), residual: bool = False):
        super().__init__()
        self.residual = residual
        self.halo = 6 + sum(abs(p - q) for p, q in zip(padding, (4, 0, 2), strict=True))  # 4 + 0 + 2 if none is wrong
        self.conv1 = nn.Conv2d(1, 64, 9, padding=padding[0], padding_mode="replicate")
        self.conv2 = nn.Conv2d(64, 32, 1, padding=padding[1], padding_mode="replicate")
        self.conv3 = nn.Conv2d(32, 1, 5, padding=padding[2], padding_mode="replicate")
        if residual:  # begin as the identity
            zero(self.conv3)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """JPEG's luma, (N, 1, H, W) in [0, 1] → restored, of the same shape."""
        height, width = y.shape[-2:]
        missing = self.conv1.kernel_size[0] - 2 * self.conv1.padding[0] - min(height, width)
        if missing > 0:  # smaller than the first filter: repeat the edge until it fits
            return self(F.pad(y, (0, missing, 0, missing), mode="replicate"))[..., :height, :width]
        x = F.relu(self.conv1(y))  # (N, 64, H, W), with the original's padding (N, 64, H - 4, W - 4)
        x = F.relu(self.conv2(x))  # (N, 32, H, W)
        x = self.conv3(x)  # (N, 1, H, W)
        return y + x if self.residual else x


class FSRCNN(Restorer):
    """SRCNN accelerated: works on the small picture and enlarges it last, by a transposed convolution.

    Feature extraction 5×5 (d), shrinking 1×1 (s), m mapping layers 3×3, expanding 1×1 (d), deconvolution 9×9.
    """

    def __init__(self, scale: int = 3, d: int = 56, s: int = 12, m: int = 4):
        super().__init__()
        self.scale, self.channels = scale, 1
        self.halo = 2 + m + -(-4 // scale)
        edge = {"padding": "same", "padding_mode": "replicate"}  # zeros would darken the border, and small pictures
        layers = [nn.Conv2d(1, d, 5, **edge), nn.PReLU(d), nn.Conv2d(d, s, 1), nn.PReLU(s)]
        for _ in range(m):
            layers += [nn.Conv2d(s, s, 3, **edge), nn.PReLU(s)]
        self.body = nn.Sequential(*layers, nn.Conv2d(s, d, 1), nn.PReLU(d))  # (N, d, H, W)
        self.deconv = nn.ConvTranspose2d(d, 1, 9, stride=scale, padding=4, output_padding=scale - 1)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """The small picture, (N, C, H, W) in [0, 1] → (N, C, sH, sW)."""
        x = F.pad(self.body(y), (2, 2, 2, 2), mode="replicate")  # the 9×9 kernel reaches 4 / s small pixels beyond
        return images.shave(self.deconv(x), 2 * self.scale)  # (N, C, sH, sW)

    def start_from_interpolation(self) -> None:
        """Set fresh weights with which the network is linear interpolation, and training begins at its PSNR."""
        convolutions = [layer for layer in self.body if isinstance(layer, nn.Conv2d)]
        random_features(*convolutions)
        for convolution in convolutions:
            nn.init.dirac_(convolution.weight.data[:1])
        centre = 4 + (self.scale - 1) / 2  # a small pixel lies in the middle of its block of large ones
        tent = (1 - (torch.arange(9.0) - centre).abs() / self.scale).clamp(min=0)
        for phase in range(self.scale):  # at ×4 the tent is wider than the kernel: let what is left sum to one
            tent[phase :: self.scale] /= tent[phase :: self.scale].sum()
        nn.init.normal_(self.deconv.weight, std=1e-3)  # as the paper
        nn.init.zeros_(self.deconv.bias)
        self.deconv.weight.data[0, 0] = torch.outer(tent, tent)


class EDSR(Restorer):
    """A small EDSR: residual blocks without batch norm on the small picture, enlarged last, by a pixel shuffle.

    Three departures from the paper: one convolution and one shuffle make the large picture (as ESPCN, Shi et al. 2016);
    the network adds to the bicubic picture rather than making all of it (as VDSR, Kim et al. 2016); and no convolution
    follows the blocks, so the skip around them only doubles the head's maps.
    """

    adds_to_input = True

    def __init__(self, scale: int = 3, width: int = 64, blocks: int = 6, channels: int = 1):
        super().__init__()
        self.scale, self.channels = scale, channels
        self.halo = 2 * blocks + 2
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(blocks)
        )
        self.tail = nn.Conv2d(width, channels * scale**2, 3, padding=1)
        self.start_from_interpolation()

    def start_from_interpolation(self) -> None:
        """Set fresh weights: the output is the bicubic picture, and each block adds little (Wang et al. 2018, §3.1)."""
        random_features(self.head)
        for first, _, second in self.blocks:
            random_features(first, second)
            second.weight.data.mul_(0.1)
        zero(self.tail)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """The small picture, (N, C, H, W) in [0, 1] → (N, C, sH, sW)."""
        first = x = self.head(y)  # (N, width, H, W)
        for block in self.blocks:
            x = x + block(x)
        x = self.tail(first + x)  # (N, C·s², H, W)
        return F.pixel_shuffle(x, self.scale) + degradations.upscale(y, self.scale)  # (N, C, sH, sW)
