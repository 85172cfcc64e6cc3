"""Pictures as tensors: read, write, luma, 8-bit rounding, tiles.

An image is a float32 tensor of shape (C, H, W) with values in [0, 1]; C is 1 (gray, luma) or 3 (RGB).
"""

import errno
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

from .files import atomic, reason

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_SIDE = 30_000  # pixels; wider pictures are refused before any memory is taken
MAX_PIXELS = 178_000_000  # just below where Pillow itself refuses
STRIP = 1 << 16  # pixels that are converted at a time: what is made of them on the way stays in the cache
FORMAT_SIDES = {"JPEG": 65_500, "WEBP": 16_383}  # pixels; libjpeg stops a little before the format's own 65,535
PROGRAMS = ("EPS", "WMF")  # Pillow has other programs run them: Ghostscript, Windows
LOSSY = {"JPEG": {"quality": 95, "subsampling": "4:4:4"}, "WEBP": {"quality": 95}}  # Pillow's own 75 undoes restoring


class ImageError(ValueError):
    """A picture that cannot be read or written; the message is one sentence that says what to do."""


# ---------------------------------------------------------------------------------------------- files


def load(path: str | os.PathLike | BinaryIO) -> torch.Tensor:
    """Read a picture, by path or from an open file, as float32 (3, H, W) or (1, H, W) in [0, 1].

    16-bit gray keeps its precision, a palette is resolved, CMYK becomes RGB, alpha is laid on white, and the
    EXIF orientation is applied. Colour profiles are not: measuring needs the stored numbers.

    Raises ImageError for what is missing, empty, truncated, not an image, or larger than MAX_SIDE or MAX_PIXELS.
    """
    return to_float(load_uint8(path, keep_16_bit=True))


def load_uint8(path: str | os.PathLike | BinaryIO, keep_16_bit: bool = False) -> torch.Tensor:
    """As `load`, in 8 bits: uint8 (C, H, W), a quarter of the memory. Optionally uint16 for 16-bit gray files."""
    with _opened(path) as picture:
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)  # in place: a copy of 64 megapixels is 256 MB
        array = _pixels(picture, _name(path))
    if array.dtype == np.uint16 and not keep_16_bit:
        array = np.round(array / 257.0).astype(np.uint8)
    return _channels_first(array)


def stored_size(path: str | os.PathLike | BinaryIO) -> tuple[int, int]:
    """(width, height) that a file declares, before any EXIF turn; no pixel is decoded. Raises ImageError as `load`."""
    with _opened(path) as picture:
        return picture.size


def colour_profile(path: str | os.PathLike) -> bytes | None:
    """The ICC profile of a gray or RGB picture file, to be stored with what is made of it; None where there is none."""
    with _one_sentence(Path(path)), Image.open(path) as picture:
        return picture.info.get("icc_profile") if picture.mode in ("L", "RGB") else None


def save(path: str | os.PathLike, image: torch.Tensor, quality: int | None = None, **options) -> Path:
    """Write a float image in [0, 1] (rounded to 8 bits) or a uint8 one, (1, H, W) or (3, H, W), as the suffix says.

    `quality` is that of JPEG and WebP (95, and JPEG's colours at full resolution); `options` go to Pillow
    (`subsampling="4:2:0"`). The file appears whole or not at all. Raises ImageError, also for NaN.
    """
    path = Path(path)
    check_writable(path, (image.shape[-1], image.shape[-2]) if image.ndim == 3 else None, quality)
    options = LOSSY.get(_format(path), {}) | options
    if quality is not None:
        options["quality"] = quality
    try:
        picture = to_pillow(image)
        with atomic(path) as temporary:
            picture.save(temporary, format=_format(path), **options)
    except ImageError as why:
        raise ImageError(f"{path}: {why}") from None
    except OSError as why:
        if why.errno == errno.ENOSPC:
            raise ImageError(f"{path}: the disk is full; free some space and try again.") from None
        raise ImageError(f"{path}: cannot be written ({why.strerror or why}); name another place.") from None
    except ValueError as why:  # a side longer than the format allows, say
        raise ImageError(f"{path}: this format cannot hold the picture ({why}); save it as PNG.") from None
    return path


def check_writable(path: str | os.PathLike, size: tuple[int, int] | None = None, quality: int | None = None) -> None:
    """Raise ImageError, before any work is done, where `save` could not write (width, height) pixels to `path`."""
    path = Path(path)
    kind = _format(path)
    if kind is None:
        raise ImageError(f"{path}: unknown picture format; end the name in one of {', '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise ImageError(f"{path}: the folder {path.parent} does not exist; create it first.")
    if quality is not None and kind not in LOSSY:
        raise ImageError(f"{path}: {kind} has no quality; leave it out, or name a .jpg or .webp file.")
    if size and max(size) > FORMAT_SIDES.get(kind, math.inf):
        limit = f"{FORMAT_SIDES[kind]:,} pixels a side"
        raise ImageError(f"{path}: {kind} holds at most {limit}, not {size[0]}x{size[1]}; save it as PNG.")


def check_size(path: str | os.PathLike, width: int, height: int) -> None:
    """Raise ImageError where a picture has more than MAX_SIDE pixels a side or MAX_PIXELS in all."""
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(
            f"{path}: {width}x{height} pixels is more than this course handles "
            f"({MAX_SIDE:,} a side, {MAX_PIXELS:,} in all); crop or shrink the picture first."
        )


def listing(folder: str | os.PathLike) -> list[Path]:
    """The pictures of a folder, in the order of their names. Raises ImageError where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder; name a folder of pictures.")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not files:
        raise ImageError(f"{folder}: no picture in this folder (looked for {', '.join(SUFFIXES)}).")
    return files


def _format(path: Path) -> str | None:
    return Image.registered_extensions().get(path.suffix.lower()) if path.suffix.lower() in SUFFIXES else None


@contextmanager
def _opened(path: str | os.PathLike | BinaryIO) -> Iterator[Image.Image]:
    """A picture whose header is read, by path or from an open file; within, every fault is an ImageError."""
    source, path = path, _name(path)
    with _one_sentence(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
        with Image.open(source) as picture:
            check_size(path, *picture.size)
            if picture.format in PROGRAMS:
                raise ImageError(f"{path}: {picture.format} is a program that draws; convert it to PNG or JPEG.")
            if picture.mode == "F":
                raise ImageError(f"{path}: floating-point pixels have no fixed range; convert it to 8 or 16 bits.")
            yield picture


def _name(path: str | os.PathLike | BinaryIO) -> Path | str:
    """What messages call a picture: its path, if it has one."""
    return "the picture" if hasattr(path, "read") else Path(path)


_FAULTS = {  # what reading raises: what to say
    FileNotFoundError: "no such file; check the name",
    IsADirectoryError: "this is a folder; name one picture in it",
    PermissionError: "may not be read; change its permissions",
    Image.DecompressionBombError: "declares more pixels than this course handles; crop or shrink it first",
    UnidentifiedImageError: "not a picture that Pillow can read; convert it to PNG or JPEG",
    MemoryError: "wants more memory than there is; it is damaged, or too large for here",
}


@contextmanager
def _one_sentence(path: Path | str) -> Iterator[None]:
    """Turn what Pillow and the system raise while reading into one ImageError that names the file."""
    try:
        yield
    except ImageError:
        raise
    except Exception as why:  # whatever a damaged file makes Pillow and the libraries below it raise
        fault = next((said for kind, said in _FAULTS.items() if isinstance(why, kind)), None)
        if isinstance(why, UnidentifiedImageError) and isinstance(path, Path) and path.stat().st_size == 0:
            fault = "the file is empty (0 bytes); copy or download it again"
        fault = fault or f"damaged or truncated ({reason(why)}); copy or download it again"
        raise ImageError(f"{path}: {fault}.") from None


def _pixels(picture: Image.Image, name: Path | str) -> np.ndarray:
    """uint8 (H, W), uint8 (H, W, 3), or uint16 (H, W) of any Pillow picture.

    Strip by strip: on the way Pillow makes several pictures of four bytes a pixel, which of a strip stay in the cache.
    """
    if picture.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):  # 16-bit gray; Pillow < 11 calls some of them "I"
        return _deep(np.asarray(picture), name)
    channels, rows = _channels(picture), max(1, STRIP // picture.width)
    result = np.empty((picture.height, picture.width, 3)[: 2 if channels == "L" else 3], np.uint8)
    for top in range(0, picture.height, rows):
        strip = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        if picture.has_transparency_data:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        result[top : top + rows] = np.asarray(strip.convert(channels))
    return result


def _deep(array: np.ndarray, name: Path | str) -> np.ndarray:
    if array.min() < 0 or array.max() > 65535:
        raise ImageError(f"{name}: its 32-bit values go below 0 or beyond 65535; convert it to 8 or 16 bits.")
    return array.astype(np.uint16)


def _channels(picture: Image.Image) -> str:
    """The mode, L or RGB, that holds what a picture shows."""
    if picture.has_transparency_data:
        return "L" if picture.mode == "LA" else "RGB"
    if picture.mode == "P" and picture.palette.mode == "RGB":
        return "L" if _gray_palette(picture) else "RGB"
    return "L" if picture.mode in ("1", "L") else "RGB"


def _gray_palette(picture: Image.Image) -> bool:
    palette = np.array(picture.getpalette()).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def to_pillow(image: torch.Tensor) -> Image.Image:
    """The Pillow picture of a float image in [0, 1] (rounded to 8 bits) or a uint8 one, (1, H, W) or (3, H, W).

    Raises ImageError for any other shape or type, and for NaN.
    """
    if not isinstance(image, torch.Tensor):
        raise ImageError(f"a picture is a tensor, (C, H, W), not {type(image).__name__}; see images.from_pillow().")
    if image.dim() != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise ImageError(f"a picture has the shape (1, H, W) or (3, H, W), not {tuple(image.shape)}; index or crop it.")
    if image.is_floating_point():
        if image.isnan().any():
            raise ImageError("the picture holds NaN, which is no brightness; look for a division by zero before.")
        image = to_uint8(image)
    if image.dtype != torch.uint8:
        raise ImageError(f"a picture is float in [0, 1] or uint8, not {image.dtype}; convert it with to_float().")
    pixels = image.cpu()
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.movedim(0, -1).numpy()
    return Image.fromarray(np.ascontiguousarray(array))


def from_pillow(picture: Image.Image) -> torch.Tensor:
    """uint8 (1, H, W) or (3, H, W) of a Pillow picture of mode L or RGB."""
    return _channels_first(np.array(picture))


def _channels_first(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).movedim(-1, 0) if array.ndim == 3 else torch.from_numpy(array)[None]


# -------------------------------------------------------------------------------------------- numbers


def to_float(image: torch.Tensor) -> torch.Tensor:
    """float32 in [0, 1] of a uint8 or uint16 image; a float image passes unchanged."""
    if image.is_floating_point():
        return image
    return image.to(torch.float32).div_(65535 if image.dtype == torch.uint16 else 255)


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """Clip to [0, 1] and round to 8 bits, halves to even: uint8, any shape."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def quantize(image: torch.Tensor) -> torch.Tensor:
    """What remains of a float image after it was stored in 8 bits: clipped, rounded, still float in [0, 1]."""
    return (image.clamp(0, 1) * 255).round() / 255


def crop_to_multiple(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """Cut (…, H, W) at the bottom and right so that both sides divide by `multiple` (MATLAB code: *modcrop*)."""
    height, width = (side - side % multiple for side in image.shape[-2:])
    if not height or not width:
        raise ImageError(f"the picture, {image.shape[-1]}x{image.shape[-2]}, is smaller than {multiple} pixels a side.")
    return image[..., :height, :width]


def as_rgb(image: torch.Tensor) -> torch.Tensor:
    """(…, 3, H, W) of a gray (R = G = B) or an RGB image; a view."""
    return image.expand(*image.shape[:-3], 3, *image.shape[-2:])


def shave(image: torch.Tensor, border: int) -> torch.Tensor:
    """Remove `border` pixels on each side of (…, H, W), as the super-resolution literature does before measuring."""
    return image[..., border:-border, border:-border] if border else image


# --------------------------------------------------------------------------------------------- colour

# ITU-R BT.601 in "studio range": Y in [16, 235], Cb and Cr in [16, 240], as MATLAB's rgb2ycbcr; and in full range, as
# JPEG files have it (JFIF 1.02). Rows are Y, Cb, Cr.
_STUDIO = torch.tensor([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
_FULL = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
_INVERSE = {True: torch.linalg.inv(_STUDIO.double()).float(), False: torch.linalg.inv(_FULL.double()).float()}
_OFFSET = {True: torch.tensor([16.0, 128.0, 128.0]) / 255, False: torch.tensor([0.0, 128.0, 128.0]) / 255}


def rgb_to_ycbcr(image: torch.Tensor, studio: bool = True) -> torch.Tensor:
    """(…, 3, H, W) RGB in [0, 1] to BT.601 YCbCr, divided by 255, in studio range or (JPEG's) full range."""
    matrix = _there(_STUDIO if studio else _FULL, image)
    return torch.einsum("ij,...jhw->...ihw", matrix, image) + _there(_OFFSET[studio], image).view(3, 1, 1)


def ycbcr_to_rgb(image: torch.Tensor, studio: bool = True, offset: bool = True) -> torch.Tensor:
    """The inverse of `rgb_to_ycbcr`; not clipped. Without `offset`, of a difference between two pictures."""
    centred = image - _there(_OFFSET[studio], image).view(3, 1, 1) if offset else image
    return torch.einsum("ij,...jhw->...ihw", _there(_INVERSE[studio], image), centred)


def _there(constant: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """A constant where the image is, in its type; a GPU takes it when its turn comes, and is not waited for."""
    return constant.to(image, non_blocking=True)


def luma(image: torch.Tensor) -> torch.Tensor:
    """Y of BT.601 in studio range, (…, 1, H, W), as in [16/255, 235/255]. A gray image is its own luma."""
    if image.shape[-3] == 1:
        return image
    weights = _there(_STUDIO[0], image)
    return torch.einsum("j,...jhw->...hw", weights, image)[..., None, :, :] + 16 / 255


def luma_uint8(image: torch.Tensor) -> torch.Tensor:
    """Y of BT.601 in 8 bits, uint8 (…, 1, H, W), of an image of any type; a gray uint8 image is its own."""
    if image.shape[-3] == 1 and image.dtype == torch.uint8:
        return image
    return to_uint8(luma(to_float(image)))


# ---------------------------------------------------------------------------------------------- tiles


def map_tiles(
    function: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    tile: int,
    halo: int,
    scale: int = 1,
    progress: bool = False,
) -> torch.Tensor:
    """Apply `function` to overlapping tiles of (…, H, W) and lay the results side by side without seams.

    Each tile is cut with up to `halo` pixels of its neighbourhood, and that margin is thrown away afterwards: where
    `function` looks no further than `halo`, the result equals `function(image)`. `tile`, the side of a tile, and `halo`
    are in pixels of `image`, the input (`Restorer.restore` counts in output pixels, `scale` times as many); `scale` is
    output pixels per input pixel. Memory is bounded by the tile, the picture and the result, which has the type that
    `function` returns. Raises ImageError for a picture without pixels.
    """
    height, width = image.shape[-2:]
    if not height or not width:
        raise ImageError(f"a picture of {width}x{height} has no pixels; give one of at least 1x1.")
    result = None
    corners = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
    for top, left in tqdm(corners, unit="tile", disable=None if progress else True):
        bottom, right = min(top + tile, height), min(left + tile, width)
        outer_top, outer_left = max(top - halo, 0), max(left - halo, 0)
        piece = function(image[..., outer_top : bottom + halo, outer_left : right + halo])
        if result is None:
            result = piece.new_empty(*piece.shape[:-2], height * scale, width * scale)
        y, x = (top - outer_top) * scale, (left - outer_left) * scale
        h, w = (bottom - top) * scale, (right - left) * scale
        result[..., top * scale : bottom * scale, left * scale : right * scale] = piece[..., y : y + h, x : x + w]
    return result


def split_tiles(image: torch.Tensor, tile: int) -> torch.Tensor:
    """(C, H, W) → (N, C, tile, tile): tiles without overlap, row by row. H and W must divide by `tile`."""
    channels, height, width = image.shape
    if height % tile or width % tile:
        raise ImageError(f"{width}x{height} pixels do not divide into tiles of {tile}; crop_to_multiple() first.")
    grid = image.unfold(1, tile, tile).unfold(2, tile, tile)  # (C, rows, columns, tile, tile)
    return grid.permute(1, 2, 0, 3, 4).reshape(-1, channels, tile, tile)


def join_tiles(tiles: torch.Tensor, columns: int) -> torch.Tensor:
    """(N, C, tile, tile) → (C, H, W): the inverse of `split_tiles`, `columns` tiles in a row."""
    count, channels, tile, _ = tiles.shape
    grid = tiles.reshape(count // columns, columns, channels, tile, tile)
    return grid.permute(2, 0, 3, 1, 4).reshape(channels, count // columns * tile, columns * tile)
