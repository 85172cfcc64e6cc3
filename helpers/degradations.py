"""How pictures go bad: y = f(x). No function here knows a model or a file.

Images are float tensors in [0, 1], (C, H, W) or (N, C, H, W).
"""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from . import images

TASKS = {"sr-x2": 2, "sr-x3": 3, "sr-x4": 4, "deblock-q20": 1}  # name: output pixels per input pixel and side


class TaskError(ValueError):
    """A task that does not exist; the message lists those that do."""


def downscale(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Bicubic reduction by a whole number with anti-aliasing, as MATLAB's `imresize` (Keys 1981, a = −0.5).

    Both sides must divide by `scale` (see `images.crop_to_multiple`). Not clipped: bicubic overshoots at edges.
    """
    height, width = image.shape[-2:]
    if height % scale or width % scale:
        raise ValueError(f"{width}x{height} pixels do not divide by {scale}; crop_to_multiple() first.")
    return resize(image, (height // scale, width // scale))


def upscale(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Bicubic interpolation by a whole number, as MATLAB's `imresize`. Not clipped."""
    return resize(image, (image.shape[-2] * scale, image.shape[-1] * scale))


def resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic resize to (height, width) with anti-aliasing (Keys 1981, a = −0.5)."""
    return _batched(lambda x: F.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False), image)


def enlarge(pixels: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
    """A uint8 gray picture (1, H, W) resized by Lanczos, as the skyline system prepares its photographs."""
    picture = Image.fromarray(pixels[0].numpy())
    size = (round(picture.width * factor), round(picture.height * factor))
    return torch.from_numpy(np.array(picture.resize(size, Image.Resampling.LANCZOS)))[None]


def for_task(task: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The degradation that a task undoes, from a clean uint8 picture (C, H, W) to a degraded one.

    "sr-x3" reduces by 3 with bicubic; "deblock-q20" is JPEG at quality 20. Raises TaskError.
    """
    function = partial(downscale, scale=scale_of(task)) if task.startswith("sr") else partial(jpeg, quality=20)
    return lambda picture: images.to_uint8(function(images.to_float(picture)))


def scale_of(task: str) -> int:
    """Output pixels per input pixel, and side, of a task. Raises TaskError."""
    if task not in TASKS:
        raise TaskError(f"unknown task {task!r}; there are {', '.join(TASKS)}.")
    return TASKS[task]


def gaussian_blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur with a Gaussian of `sigma` pixels, cut at 3σ, edges replicated; `sigma` 0 changes nothing."""
    if sigma <= 0:
        return image
    radius = max(1, int(np.ceil(3 * sigma)))
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()

    def blur(x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        x = F.pad(x, (radius,) * 4, mode="replicate")
        x = F.conv2d(x, kernel.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
        return F.conv2d(x, kernel.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)

    return _batched(blur, image)


def gaussian_noise(image: torch.Tensor, sigma: float, seed: int = 0) -> torch.Tensor:
    """Add white Gaussian noise of standard deviation `sigma` (pixels in [0, 1]); the same seed, the same noise."""
    generator = torch.Generator().manual_seed(seed)
    return image + sigma * torch.randn(image.shape, generator=generator).to(image)


def jpeg(image: torch.Tensor, quality: int, subsampling: str = "4:2:0") -> torch.Tensor:
    """Through a JPEG file in memory and back (libjpeg, by Pillow); gray stays gray, a batch is coded in threads."""
    if image.dim() == 4:
        with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter lock while it codes
            return torch.stack(list(pool.map(lambda x: jpeg(x, quality, subsampling), image)))
    return images.to_float(decode(jpeg_bytes(image, quality, subsampling))).to(image.device)


def jpeg_bytes(image: torch.Tensor, quality: int, subsampling: str = "4:2:0") -> bytes:
    """The JPEG file itself, with optimised Huffman tables, of a (C, H, W) image."""
    pixels = images.to_uint8(image).cpu()
    picture = Image.fromarray(pixels[0].numpy() if len(pixels) == 1 else pixels.movedim(0, -1).contiguous().numpy())
    buffer = io.BytesIO()
    options = {} if len(pixels) == 1 else {"subsampling": subsampling}
    picture.save(buffer, "JPEG", quality=int(quality), optimize=True, **options)
    return buffer.getvalue()


def decode(data: bytes) -> torch.Tensor:
    """uint8 (C, H, W) of an 8-bit gray or RGB picture file held in memory."""
    array = np.array(Image.open(io.BytesIO(data)))
    return torch.from_numpy(array).movedim(-1, 0) if array.ndim == 3 else torch.from_numpy(array)[None]


def _batched(function: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    return function(image[None])[0] if image.dim() == 3 else function(image)
