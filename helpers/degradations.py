"""How pictures go bad: y = f(x). No function here knows a model or a file.

Images are float tensors in [0, 1], (C, H, W) or (N, C, H, W).
"""

import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from . import images
from .service.errors import CourseError, require

# Name: output pixels per input pixel and side. "jpeg" is any JPEG; jpeg-qN and jpeg-color-qN take N from 1 to 100.
# "cs" is compressed sensing at any ratio; cs-NN takes NN from 01 to 25.
TASKS = {"sr-x2": 2, "sr-x3": 3, "sr-x4": 4, "deblock-q20": 1, "jpeg": 1, "codec": 1, "codec-detail": 1, "cs": 1}
JPEG_TASKS = ("jpeg-q10", "jpeg-q20", "jpeg-q30", "jpeg-q40")  # luma, as the literature reports
JPEG_COLOR_TASKS = ("jpeg-color-q10", "jpeg-color-q20", "jpeg-color-q30", "jpeg-color-q40")
CS_TASKS = ("cs-01", "cs-04", "cs-10", "cs-15", "cs-20", "cs-25")  # percent of measurements, luma
SENSED_BLOCK = 32  # side of the blocks of compressed sensing in pixels
_NUMBERED = re.compile(r"(?:jpeg|jpeg-color)-q(?:0?[1-9]|[1-9]\d|100)|cs-(?:0[1-9]|1\d|2[0-5])")
_INSTEAD = {  # of a task that names no damage, what to do
    "jpeg": "name its quality, such as jpeg-q10 or jpeg-color-q40",
    "codec": "`compress` and `decompress` do it, `evaluate` measures it",
    "codec-detail": "it is part of a codec, which `evaluate` measures",
    "cs": "`sense` and `recover` do it, `evaluate` measures it",
}


def downscale(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Bicubic reduction by a whole number with anti-aliasing, as MATLAB's `imresize` (Keys 1981, a = −0.5).

    But for the border: MATLAB mirrors the picture there, and this takes the mean of what there is. Both sides must
    divide by `scale` (see `images.crop_to_multiple`). Not clipped: bicubic overshoots at edges.
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
    batch = image if image.dim() == 4 else image[None]
    resized = F.interpolate(batch, size=size, mode="bicubic", antialias=True, align_corners=False)
    return resized.view(*image.shape[:-2], *size)


def enlarge(pixels: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
    """A uint8 picture, (1, H, W) or (3, H, W), resized by Lanczos, as the skyline system prepares its photographs."""
    picture = images.to_pillow(pixels)
    size = (round(picture.width * factor), round(picture.height * factor))
    return images.from_pillow(picture.resize(size, Image.Resampling.LANCZOS))


def for_task(task: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The degradation that a task undoes, from a clean uint8 picture (C, H, W) to a degraded one.

    "sr-x3" reduces by 3 with bicubic; "jpeg-q20" and "deblock-q20" are JPEG at quality 20. Raises CourseError.
    """
    kind = "cs" if task.startswith("cs") else "codec" if task == "codec-gray" else task
    if kind in _INSTEAD:
        raise CourseError(f"the task {task} undoes nothing by itself; {_INSTEAD[kind]}.")
    scale = scale_of(task)
    quality = re.fullmatch(r".*-q(\d+)", task)
    function = partial(jpeg, quality=int(quality[1])) if quality else partial(downscale, scale=scale)
    return lambda picture: images.to_uint8(function(images.to_float(picture)))


def scale_of(task: str) -> int:
    """Output pixels per input pixel, and side, of a task. Raises CourseError."""
    if task not in TASKS and not _NUMBERED.fullmatch(task):
        known = "sr-x2, sr-x3, sr-x4, deblock-q20, jpeg-q1 to jpeg-q100, jpeg-color-q1 to jpeg-color-q100"
        raise CourseError(f"unknown task {task!r}; there are {known}, cs-01 to cs-25, codec and codec-gray.")
    return TASKS.get(task, 1)


def covers(wide: str, task: str) -> bool:
    """Whether a network for the task `wide` also solves `task`: the same one, "jpeg" any quality, "cs" any ratio."""
    return wide == task or (wide in ("jpeg", "cs") and task.startswith(f"{wide}-"))


def ratio_of(task: str) -> float:
    """Measurements per pixel of a task such as cs-04. Raises CourseError."""
    if task.startswith("cs-") and _NUMBERED.fullmatch(task):
        return int(task.removeprefix("cs-")) / 100
    raise CourseError(f"the task {task!r} measures no ratio; name one in percent, cs-01 to cs-25.")


def gaussian_blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur with a Gaussian of `sigma` pixels, cut at 3σ, edges replicated; `sigma` 0 changes nothing."""
    if sigma <= 0:
        return image
    radius = int(np.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(image.reshape(-1, 1, *image.shape[-2:]), (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1)).view(image.shape)


def gaussian_noise(image: torch.Tensor, sigma: float, seed: int = 0) -> torch.Tensor:
    """Add white Gaussian noise of standard deviation `sigma` (pixels in [0, 1]); the same seed, the same noise."""
    generator = torch.Generator().manual_seed(int(seed))
    return image + sigma * torch.randn(image.shape, generator=generator).to(image)


def jpeg(image: torch.Tensor, quality: int, subsampling: str = "4:2:0") -> torch.Tensor:
    """Through a JPEG file in memory and back (libjpeg, by Pillow); gray stays gray, a batch is coded in threads."""
    images.check_values(image)
    if image.dim() == 4:
        with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter lock while it codes
            return torch.stack(list(pool.map(lambda x: jpeg(x, quality, subsampling), image)))
    return images.to_float(decode(jpeg_bytes(image, quality, subsampling))).to(image.device)


def jpeg_bytes(image: torch.Tensor, quality: int, subsampling: str = "4:2:0", optimize: bool = True) -> bytes:
    """The JPEG file itself, by default with Huffman tables of its own, of a float or uint8 (C, H, W) image."""
    if not 1 <= quality <= 100:  # Pillow takes 0 for "as usual", and others for the nearest
        raise CourseError(f"JPEG quality goes from 1 to 100, not {quality}.")
    picture, buffer = images.to_pillow(image), io.BytesIO()
    options = {} if picture.mode == "L" else {"subsampling": subsampling}
    picture.save(buffer, "JPEG", quality=int(quality), optimize=optimize, **options)
    return buffer.getvalue()


_FREQUENCIES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2), (0, 3), (3, 0))  # (row, column)


def jpeg_steps(image: torch.Tensor) -> dict[tuple[int, int], int]:
    """The quantisation steps that a JPEG left in a picture's luma, by frequency (row, column) of the 8×8 DCT.

    After JPEG a coefficient lies close to a multiple of its step: a comb (Fan and de Queiroz 2003). Step 1 is no comb;
    frequencies with too few coefficients to tell are left out. The blocks may begin anywhere. `image` is uint8 or float
    in [0, 1], (1 or 3, H, W); of a large one a part is looked at.
    """
    image = images.to_float(image[..., :1024, :1024]).float().cpu()
    y = images.rgb_to_ycbcr(image, studio=False)[:1] if len(image) == 3 else image
    if min(y.shape[-2:]) < 16:
        return {}
    kernels = dct_patterns(8)[[8 * row + column for row, column in _FREQUENCIES]][:, None]
    everywhere = F.conv2d(255 * y[None] - 128, kernels)[0]  # (frequency, H - 7, W - 7): blocks that begin at any pixel
    zeros = (everywhere[4:].abs() < 1).float().mean(0)
    corners = [(top, left) for top in range(8) for left in range(8)]
    top, left = max(corners, key=lambda corner: zeros[corner[0] :: 8, corner[1] :: 8].mean().item())
    steps = {}
    for frequency, values in zip(_FREQUENCIES, everywhere[:, top::8, left::8].flatten(1), strict=True):
        values = values[:: max(1, len(values) // 2048)]
        if (values.abs() > 4).sum() >= 48:
            steps[frequency] = _comb(values)
    return steps


def _comb(values: torch.Tensor) -> int:
    """The step whose multiples lie closest to the values beyond half of it; 1 where none lie close."""
    best, found = 0.5, 1
    for step in range(2, 129):
        beyond = values[values.abs() > step / 2]
        if len(beyond) < 16:
            break
        closeness = torch.cos(2 * torch.pi * beyond / step).mean().item()
        if closeness > best:
            best, found = closeness, step
    return found


def without_jpeg_grid(image: torch.Tensor) -> bool:
    """Whether a picture, (1 or 3, H, W), shows for certain no JPEG coarser than quality 92 on a grid of 8×8 pixels.

    Small pictures do not tell. A resized or turned JPEG has lost its grid, and shows none either.
    """
    steps = jpeg_steps(image)
    return len(steps) >= 3 and sum(step > 1 for step in steps.values()) < 3


# ------------------------------------------------------------------------------------------- sensing


def dct_patterns(side: int) -> torch.Tensor:
    """All products of two orthonormal DCT-II rows, row by row of the frequencies' square: (side², side, side)."""
    n = torch.arange(float(side))
    rows = torch.cos(torch.pi * torch.outer(n, 2 * n + 1) / (2 * side)) * (2 / side) ** 0.5
    rows[0] /= 2**0.5
    return torch.einsum("uy,vx->uvyx", rows, rows).reshape(-1, side, side)


def zonal_rows(side: int, count: int) -> torch.Tensor:
    """The `count` lowest frequencies of the 2-D DCT of a block, the lowest first: (count, side, side), orthonormal."""
    vertical, horizontal = torch.arange(side**2) // side, torch.arange(side**2) % side
    return dct_patterns(side)[torch.argsort(vertical**2 + horizontal**2, stable=True)[:count]]


def measurement_counts(height: int, width: int, ratio: float, block: int = SENSED_BLOCK, device=None) -> torch.Tensor:
    """How many numbers are measured of each block, int64 (rows, columns): round(ratio · block²).

    Of a block that hangs over the picture's edge as much less as it holds fewer pixels, rounded down. Raises
    CourseError for a ratio that is not above 0 and at most 1.
    """
    if not 0 < ratio <= 1:
        raise CourseError(f"a ratio is measurements per pixel, above 0 and at most 1, not {ratio:g}; 10 % is 0.1.")
    rows = (height - torch.arange(0, height, block, device=device)).clamp(max=block)
    columns = (width - torch.arange(0, width, block, device=device)).clamp(max=block)
    pixels = torch.outer(rows, columns)
    return torch.where(pixels == block**2, (ratio * pixels).round(), (ratio * pixels).floor()).long()


def keep_low_frequencies(picture: torch.Tensor, ratio: float) -> torch.Tensor:
    """What the low frequencies of its blocks alone give back of a uint8 picture (1, H, W), uint8: dct-zonal."""
    height, width = picture.shape[-2:]
    kept, rows, _ = low_frequencies(picture, ratio)
    return images.to_uint8(block_adjoint(kept, rows)[0, :, :height, :width] + 0.5)


def low_frequencies(picture: torch.Tensor, ratio: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is measured of a uint8 picture (1, H, W), (1, m, h, w); the rows that measure it; and where they do."""
    counts = measurement_counts(*picture.shape[-2:], ratio)
    rows = zonal_rows(SENSED_BLOCK, max(1, int(counts.max())))  # of a tiny picture nothing is measured
    mask = torch.arange(len(rows)).view(-1, 1, 1) < counts
    return mask * block_sense(images.to_float(picture)[None] - 0.5, rows), rows, mask


def block_sense(image: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Inner products of each block of (N, 1, H, W) with the rows, (m, side, side): (N, m, ⌈H/side⌉, ⌈W/side⌉).

    Blocks that hang over the edge are filled by replication. Raises CourseError for more than one channel.
    """
    channels, side = image.shape[1], rows.shape[-1]
    require(channels == 1, f"sensing takes one channel, not {channels}; take a picture's luma, images.luma_uint8.")
    return F.conv2d(images.pad_to_multiple(image, side), rows[:, None], stride=side)


def block_adjoint(measurements: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The transpose of `block_sense`, (N, m, h, w) → (N, 1, side·h, side·w); its inverse in the span of the rows."""
    return F.conv_transpose2d(measurements, rows[:, None], stride=rows.shape[-1])


# ---------------------------------------------------------------------------------------------- JPEG


class RandomJPEG:
    """JPEG as it is met with, from a uint8 batch (N, C, H, W) to its decoded files; R = G = B is coded as gray.

    quality: the range (both ends included), low qualities more often; or one number. shifted: how many patches have
    their 8×8 grid elsewhere than in the corner; twice: how many were a JPEG of another quality and grid before;
    untouched: how many are not coded at all. Chroma is whole or halved.
    """

    def __init__(self, quality: int | tuple[int, int] = (5, 95), shifted=0.4, twice=0.15, untouched=0.03):
        self.low, self.high = np.broadcast_to(quality, 2).tolist()
        self.shifted, self.twice, self.untouched = shifted, twice, untouched

    def __call__(self, batch: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Code uint8 patches, (N, C, H, W), each with a draw of its own; the same shape and type."""
        draws = [rng.random(4) for _ in batch]  # as many for each patch, whatever becomes of it
        grids = rng.integers(8, size=(len(batch), 2, 2))
        qualities = self.low + (self.high - self.low) * rng.random((len(batch), 2)) ** 1.6

        def degrade(index: int) -> torch.Tensor:
            pixels, (untouched, twice, shifted, chroma) = batch[index], draws[index]
            if untouched < self.untouched:
                return pixels
            subsampling = "4:2:0" if chroma < 0.7 else "4:4:4" if chroma < 0.9 else "4:2:2"
            if twice < self.twice:
                pixels = _shifted_jpeg(pixels, round(qualities[index, 1]), subsampling, grids[index, 1])
            grid = grids[index, 0] if shifted < self.shifted else (0, 0)
            return _shifted_jpeg(pixels, round(qualities[index, 0]), subsampling, grid)

        with ThreadPoolExecutor() as pool:
            return torch.stack(list(pool.map(degrade, range(len(batch)))))


def _shifted_jpeg(pixels: torch.Tensor, quality: int, subsampling: str, grid: tuple[int, int]) -> torch.Tensor:
    """uint8 (C, H, W) through JPEG whose blocks begin `grid` pixels above and left of the picture."""
    top, left = (int(g) for g in grid)
    gray = bool((pixels == pixels[:1]).all())
    padded = np.pad(pixels[:1] if gray else pixels, ((0, 0), (top, 0), (left, 0)), mode="edge")
    decoded = decode(jpeg_bytes(torch.from_numpy(padded), quality, subsampling, optimize=False))
    return decoded[:, top:, left:].expand(len(pixels), -1, -1)


def decode(data: bytes) -> torch.Tensor:
    """uint8 (C, H, W) of an 8-bit gray or RGB picture file held in memory."""
    return images.from_pillow(Image.open(io.BytesIO(data)))
