"""What all networks of the course share: `restore`, which takes any picture, in tiles, colour and 8 bits included."""

import torch
from torch import nn

from .. import degradations, images

TILE = 512  # output pixels a side; a 64-channel float32 layer of such a tile takes 67 MB


class Restorer(nn.Module):
    """A network that maps a degraded picture to a better one, `scale` output pixels for each input pixel.

    Subclasses set `scale`, `channels` (1: luma, 3: RGB) and `halo`, the number of input pixels beyond a point that its
    output depends on, and define `forward` on (N, channels, H, W) in [0, 1].
    """

    scale: int = 1
    channels: int = 1
    halo: int = 0

    @torch.inference_mode()
    def restore(self, image: torch.Tensor, tile: int | None = TILE, progress: bool = False) -> torch.Tensor:
        """Restore (C, H, W) or (N, C, H, W), C = 1 or 3, of any size; uint8 in gives uint8 out, else float in [0, 1].

        A luma network restores Y of BT.601 and takes Cb and Cr from bicubic interpolation. Pictures larger than `tile`
        output pixels go through in overlapping tiles, to the same result (`None`: always in one piece).
        Raises ValueError for any other shape.
        """
        if image.dim() not in (3, 4) or image.shape[-3] not in (1, 3):
            raise ValueError(f"restore() wants (C, H, W) or (N, C, H, W) with C = 1 or 3, not {tuple(image.shape)}.")
        whole = image if image.dim() == 4 else image[None]
        size = max(1, tile // self.scale) if tile else max(whole.shape[-2:])
        halo = self.halo + 2  # bicubic interpolation looks two pixels beyond
        result = images.map_tiles(self._restore_tile, whole, size, halo, self.scale, progress)
        return result if image.dim() == 4 else result[0]

    def _restore_tile(self, piece: torch.Tensor) -> torch.Tensor:
        device = next(self.parameters()).device
        result = self._restore_float(images.to_float(piece).to(device)).clamp(0, 1)
        return images.to_uint8(result).cpu() if piece.dtype == torch.uint8 else result.to(piece.device)

    def _restore_float(self, y: torch.Tensor) -> torch.Tensor:
        if y.shape[1] == self.channels:
            return self(y)
        if self.channels == 3:  # a colour network given a gray picture
            return self(y.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
        ycbcr = images.rgb_to_ycbcr(y)
        chroma = degradations.upscale(ycbcr[:, 1:], self.scale) if self.scale > 1 else ycbcr[:, 1:]
        return images.ycbcr_to_rgb(torch.cat([self(ycbcr[:, :1]), chroma], dim=1))
