"""What the networks are measured against: classical enhancement, file formats by Pillow, packed bits.

The classical methods have no training, but a strength for each task, tuned on training pictures by
`python docs/tools/experiments.py classical`; the whole search is kept in `data/experiments/classical.csv`, and the best
setting of a task in it is the one that is used.
"""

import contextlib
import io
import itertools
import json
import lzma
import re
import struct
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from . import degradations, images, zoo
from .codec import mean_of_channels, read_header
from .service.errors import CourseError, require
from .service.files import DATA

with contextlib.suppress(ImportError):
    import pillow_jxl  # noqa: F401  where it is installed, Pillow knows JPEG XL

SEARCH = DATA / "experiments" / "classical.csv"
# Name: Pillow's format and options that stay, the option that sets the size, and its places on a curve. Of the options
# tried on clean pictures at 0.1 to 0.8 bits per pixel, data/experiments/rivals.csv, none saves more than 1.2 % beyond
# these, but slower speeds of AVIF: 3 takes fourteen times as long as its default, 6, and 0 saves 2 % more. Our networks
# aim at PSNR. "avif-psnr" tells AVIF's encoder to do so, too, which by default is tuned for how pictures look, and
# "jpeg-psnr" has the steps of `psnr_steps`. JPEG 2000 has the lossless wavelet, which is worse, unless irreversible.
FILE_FORMATS = {
    "jpeg": ("JPEG", {"optimize": True}, "quality", (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)),
    "jpeg-psnr": ("JPEG", {"optimize": True}, "quality", (4, 7, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)),
    "jpeg2000": ("JPEG2000", {"irreversible": True}, "bpp", (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.2, 2, 3)),
    "webp": ("WEBP", {"method": 6}, "quality", (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 98)),
    "avif": ("AVIF", {}, "quality", (0, 10, 20, 25, 30, 35, 40, 45, 50, 60, 75, 85, 92)),
    "avif-slow": ("AVIF", {"speed": 3}, "quality", (0, 10, 20, 30, 40, 50, 60, 75, 85)),
    "avif-psnr": ("AVIF", {"speed": 3, "advanced": {"tune": "psnr"}}, "quality", (0, 10, 20, 30, 40, 50, 60, 75, 85)),
    "jpegxl": ("JXL", {"effort": 9}, "quality", (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)),  # by pillow-jxl-plugin
}
FULL_COLOUR = 90  # the quality from which a JPEG has it: below, it costs more bits than it is worth
_BITS = struct.Struct("<HHB")
# a pixel's 128 bits are 16 bytes: xz is to predict each from those at the same place (lp), not by the one before (lc)
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 4, "pb": 0}]


# ---------------------------------------------------------------------------------------------------- classical methods


def _filter(path: str, **stays) -> Callable:
    """A filter of scikit-image, by its name there, after bicubic interpolation: of each plane, colour as YCbCr."""

    def restore(y: torch.Tensor, scale: int, **settings) -> torch.Tensor:
        import skimage

        given, enhance = degradations.upscale(y, scale), attrgetter(path)(skimage)
        planes = images.rgb_to_ycbcr(given, studio=False) if len(given) == 3 else given
        planes = np.stack([enhance(plane.double().numpy(), **stays, **settings) for plane in planes])
        result = torch.from_numpy(planes).float()
        return images.ycbcr_to_rgb(result, studio=False) if len(result) == 3 else result

    return restore


def back_projection(y: torch.Tensor, scale: int, steps: int) -> torch.Tensor:
    """Bicubic interpolation, corrected until reducing it gives the small picture again (Irani and Peleg, 1991)."""
    z = degradations.upscale(y, scale)
    for _ in range(steps):
        z = z + degradations.upscale(y - degradations.downscale(z, scale), scale)
    return z


def shifted_jpegs(y: torch.Tensor, scale: int, quality: int) -> torch.Tensor:
    """The mean of JPEGs of a picture, coded once more with the grid at each place (Nosratinia, 2001).

    A grid has 64 places; that of colour, whose blocks of Cb and Cr cover 16 pixels a side, has 256.
    """
    side = 16 if len(y) == 3 else 8
    padded = torch.nn.functional.pad(y[None], (side, side, side, side), mode="replicate")[0].clamp(0, 1)
    total = torch.zeros_like(padded)
    for top, left in itertools.product(range(side), repeat=2):
        total[:, top:, left:] += degradations.jpeg(padded[:, top:, left:], quality)
    return total[:, side:-side, side:-side] / side**2


def sensed_tv(picture: torch.Tensor, ratio: float, weight: float) -> torch.Tensor:
    """A uint8 picture, (1, H, W), from the low frequencies of its blocks: smoothed, and made to agree, in turns."""
    from skimage.restoration import denoise_tv_chambolle

    height, width = picture.shape[-2:]
    y, rows, mask = degradations.low_frequencies(picture, ratio)
    z = degradations.block_adjoint(y, rows)
    for _ in range(40):
        z = torch.from_numpy(denoise_tv_chambolle(z[0, 0].numpy(), weight, max_num_iter=30))[None, None]
        z = z + degradations.block_adjoint(y - mask * degradations.block_sense(z, rows), rows)
    return images.to_uint8(z[0, :, :height, :width] + 0.5)


# by name: the function, (C, H, W) in [0, 1], scale and settings → (C, sH, sW), for sensing as above
METHODS = {
    "total-variation": _filter("restoration.denoise_tv_chambolle"),
    "non-local-means": _filter("restoration.denoise_nl_means", patch_size=5, patch_distance=6, fast_mode=True),
    "wavelet": _filter("restoration.denoise_wavelet", wavelet="sym4", rescale_sigma=True),
    "bilateral": _filter("restoration.denoise_bilateral"),
    "unsharp": _filter("filters.unsharp_mask"),
    "back-projection": back_projection,
    "sensed-tv": sensed_tv,
    "shifted-jpegs": shifted_jpegs,
}


class Classical(NamedTuple):
    """One method with its settings for one task; `restore`s as a network does."""

    name: str
    settings: dict
    scale: int = 1
    channels: int = 1

    def restore(self, image: torch.Tensor) -> torch.Tensor:
        """(C, H, W), uint8 or float in [0, 1], which the result is, too; enlarged where the task wants it."""
        images.check_values(image)
        result = METHODS[self.name](images.to_float(image), self.scale, **self.settings).clamp(0, 1)
        return images.to_uint8(result) if image.dtype == torch.uint8 else result

    def reconstruct(self, picture: torch.Tensor, ratio: float) -> torch.Tensor:
        """Sense a uint8 picture, (1, H, W), and give it back, as networks for compressed sensing do."""
        return METHODS[self.name](picture, ratio, **self.settings)

    def geometry(self, height: int, width: int, ratio: float) -> tuple[float, torch.Tensor]:
        """The ratio, and how many numbers are measured of each block."""
        return ratio, degradations.measurement_counts(height, width, ratio)


def find(name: str, task: str) -> Classical:
    """A method with the settings that were best for `task` on training pictures. Raises CourseError."""
    rows = _search()
    fit = rows[(rows["method"] == name) & (rows["task"] == task)]
    tuned = ", ".join(sorted(set(rows.loc[rows["method"] == name, "task"])))
    require(len(fit), f"{name!r} has no strength for {task}; it was tuned for {tuned or 'no task'}.")
    best = fit.loc[fit["psnr"].idxmax()]
    return Classical(name, json.loads(best["settings"]), degradations.scale_of(task))


def for_task(task: str) -> list[str]:
    """The methods that were tuned for a task."""
    tuned = _search().query("task == @task")["method"]
    return [name for name in METHODS if name in set(tuned)]


@cache
def _search() -> pd.DataFrame:
    return pd.read_csv(SEARCH)


# --------------------------------------------------------------------------------------------------------- file formats


def file_bytes(image: torch.Tensor, name: str, setting: float) -> bytes:
    """A picture as a file of one of FILE_FORMATS, by Pillow. JPEG 2000 aims at `setting` bits per pixel.

    A JPEG is baseline or progressive, whichever is smaller: the same pixels in another order.
    Raises CourseError where this Pillow cannot write the format.
    """
    kind, options = FILE_FORMATS[name][0], file_options(name, setting, len(image))
    picture, files = images.to_pillow(image), []
    for order in ({}, {"progressive": True}) if kind == "JPEG" else ({},):
        try:
            picture.save(buffer := io.BytesIO(), kind, **options, **order)
        except (KeyError, OSError):
            remedy = "pillow-jxl-plugin" if kind == "JXL" else "a newer one"
            raise CourseError(f"this Pillow cannot write {kind}; install {remedy}, or leave {name} out.") from None
        files.append(buffer.getvalue())
    return min(files, key=len)


def file_options(name: str, setting: float, channels: int) -> dict:
    """Pillow's options for a picture of 1 or 3 channels as a file of one of FILE_FORMATS."""
    kind, options, key, _ = FILE_FORMATS[name]
    size = {"quality_layers": [8 * channels / float(setting)]} if key == "bpp" else {key: round(setting)}
    if name == "jpeg-psnr":
        size = {"qtables": psnr_steps(setting)}
    colour = {
        "JPEG": {"subsampling": "4:2:0" if setting < FULL_COLOUR else "4:4:4"},
        "JPEG2000": {"mct": int(channels == 3)},
        "AVIF": {"subsampling": "4:4:4" if channels == 3 else "4:0:0"},
    }
    return options | size | colour.get(kind, {})


def psnr_steps(quality: float, rise: float = 0.2, colour: float = 0.5) -> list[list[int]]:
    """A JPEG's rounding steps, 64 of luma and 64 of colour in gray levels, that make its squared error small.

    The usual steps follow what eyes see. These grow from the first, for each row and column, by `rise` of it; those of
    colour are `colour` times as large. Of 18 pairs of numbers none is better on validation pictures, in
    data/experiments/rivals.csv. The mean of luma's is 50 at quality 50, and scales with it as libjpeg's steps do.
    """
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    growth = 1 + rise * np.add.outer(np.arange(8), np.arange(8)).flatten()
    steps = 50 * scale * growth / growth.mean()
    return [(share * steps).round().clip(1, 255).astype(int).tolist() for share in (1, colour)]


@cache
def can_write(name: str) -> bool:
    """Whether a format of FILE_FORMATS can be written here; some need a newer Pillow, or its plugin."""
    try:
        return bool(file_bytes(torch.zeros(3, 8, 8, dtype=torch.uint8), name, 50))
    except CourseError:
        return False


def header_bytes(data: bytes) -> int:
    """How many of a .bic or JPEG file's bytes are not coded pixels but say what and how; 0 where we cannot tell."""
    if data[:3] == b"BIC":
        return read_header(data).length
    if data[:2] != b"\xff\xd8":
        return 0
    first = data.index(b"\xff\xda")  # where the first scan begins; a progressive file has further tables and scans
    later = re.finditer(rb"\xff[\xc4\xda](..)", data[first:], re.DOTALL)
    return first + sum(2 + int.from_bytes(match[1], "big") for match in later)


class PackedBits:
    """NPEG with the file that it never had: its bits, the 128 of a pixel side by side, packed and compressed by xz."""

    settings = (0.5,)  # the threshold

    def __init__(self, name: str):
        self.model = zoo.load(name)
        self.parameters = sum(p.numel() for p in self.model.parameters())

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor, threshold: float = 0.5) -> bytes:
        """The file of uint8 (1 or 3, H, W): height, width and channels, then the bits of the code."""
        x = images.to_float(pixels).expand(1, 3, -1, -1)
        code = torch.sigmoid(self.model.encoder(x - 0.5))[0] > threshold  # (128, H, W)
        packed = lzma.compress(np.packbits(code.movedim(0, -1).numpy()).tobytes(), lzma.FORMAT_RAW, filters=_XZ)
        return _BITS.pack(*pixels.shape[-2:], len(pixels)) + packed

    @torch.inference_mode()
    def decode(self, data: bytes) -> torch.Tensor:
        """uint8 (1 or 3, H, W) of such a file; for measuring, not for files from elsewhere."""
        height, width, channels = _BITS.unpack_from(data)
        packed = np.frombuffer(lzma.decompress(data[_BITS.size :], lzma.FORMAT_RAW, filters=_XZ), np.uint8)
        code = torch.from_numpy(np.unpackbits(packed)).view(1, height, width, 128).movedim(-1, 1).contiguous()
        picture = images.to_uint8(torch.sigmoid(self.model.decoder(code.float())))[0]
        return picture if channels == 3 else mean_of_channels(picture)
