"""What all networks of the course share: `restore`, which takes any picture, in tiles, colour and 8 bits included."""

import copy
import itertools
from contextlib import nullcontext

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from .. import degradations, images
from ..service.devices import autocast, half_precision


class Restorer(nn.Module):
    """A network that maps a degraded picture to a better one, `scale` output pixels for each input pixel.

    Subclasses set `scale`, `channels` (1: luma, 3: RGB) and `halo`, the number of input pixels beyond a point that its
    output depends on, and define `forward` on (N, channels, H, W) in [0, 1]. A network that works on blocks of input
    pixels gives their side as `multiple`, so that tiles begin where blocks do. `tile` is the side of a tile in output
    pixels: a float32 layer of 64 channels takes 67 MB at 512. `adds_to_input`: the network computes what to add to its
    (interpolated) input, a small number, for which half precision is enough.
    """

    scale: int = 1
    channels: int = 1
    halo: int = 0
    multiple: int = 1
    tile: int = 512
    adds_to_input: bool = False

    @torch.no_grad()
    def restore(
        self, image: torch.Tensor, tile: int | None = 0, progress: bool = False, half: bool = False
    ) -> torch.Tensor:
        """Restore (C, H, W) or (N, C, H, W), C = 1 or 3, of any size; uint8 in gives uint8 out, else float32 in [0, 1].

        A luma network restores Y of BT.601 and takes Cb and Cr from bicubic interpolation. Pictures with a side above
        `tile` go through in overlapping tiles, to the same result; `tile` is in pixels of the output, where
        `images.map_tiles` counts those of the input (0: the network's own size; None: no tiles). `half` lets a network
        that `adds_to_input` compute in the device's half precision, several times as fast; others take no notice. On
        bundled pictures, single pixels are then off by up to 9 gray levels in bfloat16, a CPU's, and by less than one
        in float16, CUDA's.
        Raises ValueError for any other shape, type or scale of values, and for pictures without pixels.
        """
        images.check_values(image)
        if image.dim() not in (3, 4) or image.shape[-3] not in (1, 3):
            raise ValueError(f"restore() wants (C, H, W) or (N, C, H, W) with C = 1 or 3, not {tuple(image.shape)}.")
        whole = image if image.dim() == 4 else image[None]
        size = max(whole.shape[-2:]) if tile is None else max(1, int(tile or self.tile) // self.scale)
        size += -size % self.multiple
        halo = self.halo + 2  # bicubic interpolation looks two pixels beyond
        halo += -halo % self.multiple
        self.to(memory_format=torch.channels_last)  # convolutions take a half to nine tenths of the time in this layout
        device = next(self.parameters()).device
        context = autocast(device, half_precision(device)) if half and self.adds_to_input else nullcontext()

        def network(x: torch.Tensor) -> torch.Tensor:
            with context:  # the network alone: colours are always converted in full precision
                return self(x).float()

        def restore_tile(piece: torch.Tensor) -> torch.Tensor:
            y = images.to_float(piece).to(device, torch.float32, memory_format=torch.channels_last)
            if y.shape[1] == self.channels:
                result = network(y)
            elif self.channels == 3:  # a colour network given a gray picture
                result = network(y.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
            else:
                ycbcr = images.rgb_to_ycbcr(y)
                chroma = degradations.upscale(ycbcr[:, 1:], self.scale) if self.scale > 1 else ycbcr[:, 1:]
                result = images.ycbcr_to_rgb(torch.cat([network(ycbcr[:, :1]), chroma], dim=1))
            result = result.clamp(0, 1)
            return (images.to_uint8(result) if piece.dtype == torch.uint8 else result).to(piece.device)

        result = images.map_tiles(restore_tile, whole, size, halo, self.scale, progress)
        return result if image.dim() == 4 else result[0]


class Ensemble(nn.Module):
    """A network that is asked about all eight orientations of a picture; its answers are turned back and averaged.

    This self-ensemble (Timofte et al., "Seven Ways to Improve Example-Based Single Image Super Resolution", CVPR 2016)
    takes eight times as long. It has the `restore`, the `scale` and the `channels` of a Restorer.
    """

    def __init__(self, network: Restorer):
        super().__init__()
        self.network, self.scale, self.channels = network, network.scale, network.channels

    @torch.no_grad()
    def restore(
        self, image: torch.Tensor, tile: int | None = 0, progress: bool = False, half: bool = False
    ) -> torch.Tensor:
        """As the network's own `restore`; the progress is told in orientations."""
        total, orientations = None, [*itertools.product(range(4), (False, True))]
        for turns, mirrored in tqdm(orientations, unit="orientation", leave=None, disable=None if progress else True):
            seen = torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))
            back = torch.rot90(self.network.restore(images.to_float(seen), tile, half=half), -turns, (-2, -1))
            back = back.flip(-1) if mirrored else back
            total = back.contiguous() if total is None else total.add_(back)  # in place: pictures may be large
            del back
        total.div_(8)
        return images.to_uint8(total) if image.dtype == torch.uint8 else total


def random_features(*convolutions: nn.Conv2d) -> None:
    """Set fresh weights by He's initialisation (He et al. 2015), biases zero."""
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)


def zero(layer: nn.Module) -> None:
    """Weights and bias 0: whatever this layer makes is added to begins unchanged."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)


def multiply_adds(model: Restorer) -> int:
    """Multiplications, each with its addition, per output pixel: counted while a picture goes through."""
    side = 2**20  # so large that borders do not count; "meta" tensors have a shape and no memory
    ghost, scale = copy.deepcopy(model).to("meta"), getattr(model, "scale", 1)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        ghost(torch.empty(1, model.channels, side, side, device="meta"))
    return round(counter.get_total_flops() / 2 / (side * scale) ** 2)
