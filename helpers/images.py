"""Pictures as tensors: read, write, luma, 8-bit rounding, tiles.

An image is a float32 tensor of shape (C, H, W) with values in [0, 1]; C is 1 (gray, luma) or 3 (RGB).
"""

import errno
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_SIDE = 30_000  # pixels; wider pictures are refused before any memory is taken
MAX_PIXELS = 178_000_000  # just below where Pillow itself refuses


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
    opened = hasattr(path, "read")
    source, path = (path, "the picture") if opened else (Path(path), Path(path))
    with _one_sentence(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
        with Image.open(source) as picture:
            width, height = picture.size
            if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
                raise ImageError(
                    f"{path}: {width}x{height} pixels is more than this course handles "
                    f"({MAX_SIDE:,} a side, {MAX_PIXELS:,} in all); crop or shrink it first."
                )
            if picture.mode == "F":
                raise ImageError(f"{path}: floating-point pixels have no fixed range; convert it to 8 or 16 bits.")
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)  # in place: a copy of 64 megapixels is 256 MB
            array = _as_array(picture)
    if array.dtype == np.uint16 and not keep_16_bit:
        array = np.round(array / 257.0).astype(np.uint8)
    return torch.from_numpy(array).movedim(-1, 0) if array.ndim == 3 else torch.from_numpy(array)[None]


def save(path: str | os.PathLike, image: torch.Tensor, **options) -> Path:
    """Write a float image in [0, 1] (rounded to 8 bits) or a uint8 one; the suffix names the format.

    `options` go to Pillow (`quality=20`). The file appears whole or not at all. Raises ImageError.
    """
    path = Path(path)
    check_writable(path)
    pixels = to_uint8(image) if image.is_floating_point() else image
    array = pixels[0].numpy() if pixels.shape[0] == 1 else pixels.movedim(0, -1).numpy()
    try:
        with atomic(path) as temporary:
            Image.fromarray(np.ascontiguousarray(array)).save(temporary, format=_format(path), **options)
    except OSError as why:
        if why.errno == errno.ENOSPC:
            raise ImageError(f"{path}: the disk is full; free some space and try again.") from None
        raise ImageError(f"{path}: cannot be written ({why.strerror or why}); name another place.") from None
    except ValueError as why:  # a side longer than the format allows, say
        raise ImageError(f"{path}: this format cannot hold the picture ({why}); save it as PNG.") from None
    return path


def check_writable(path: str | os.PathLike) -> None:
    """Raise ImageError, before any work is done, where `save` could not write to `path`."""
    path = Path(path)
    if _format(path) is None:
        raise ImageError(f"{path}: unknown picture format; end the name in one of {', '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise ImageError(f"{path}: the folder {path.parent} does not exist; create it first.")


def listing(folder: str | os.PathLike) -> list[Path]:
    """The pictures of a folder, in the order of their names. Raises ImageError where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder; name a folder of pictures.")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not files:
        raise ImageError(f"{folder}: no picture in this folder (looked for {', '.join(SUFFIXES)}).")
    return files


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` on success, remove it on any failure."""
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    os.chmod(name, 0o666 & ~_umask())  # mkstemp makes private files; a saved picture is an ordinary one
    try:
        yield Path(name)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _format(path: Path) -> str | None:
    return Image.registered_extensions().get(path.suffix.lower()) if path.suffix.lower() in SUFFIXES else None


@contextmanager
def _one_sentence(path: Path | str) -> Iterator[None]:
    """Turn what Pillow and the system raise while reading into one ImageError that names the file."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file; check the name.") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: this is a folder; name one picture in it.") from None
    except PermissionError:
        raise ImageError(f"{path}: may not be read; change its permissions.") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: declares more pixels than this course handles; crop or shrink it first.") from None
    except UnidentifiedImageError:
        if isinstance(path, Path) and path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty (0 bytes); copy or download it again.") from None
        raise ImageError(f"{path}: not a picture that Pillow can read; convert it to PNG or JPEG.") from None
    except (OSError, SyntaxError, ValueError, EOFError) as why:
        raise ImageError(f"{path}: damaged or truncated ({why}); copy or download it again.") from None


def _as_array(picture: Image.Image) -> np.ndarray:
    """uint8 (H, W), uint8 (H, W, 3), or uint16 (H, W) of any Pillow picture."""
    if picture.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):  # 16-bit gray; Pillow < 11 calls some of them "I"
        return np.asarray(picture).clip(0, 65535).astype(np.uint16)
    if picture.has_transparency_data:
        kind = "L" if picture.mode == "LA" else "RGB"
        picture = picture.convert("RGBA")
        on_white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(on_white, picture).convert(kind)
    elif picture.mode == "L":
        pass
    elif picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode == "P" and picture.palette.mode == "RGB" and _gray_palette(picture):
        picture = picture.convert("L")
    elif picture.mode != "RGB":
        picture = picture.convert("RGB")
    return np.array(picture)  # a copy that may be written to, as torch wants


def _gray_palette(picture: Image.Image) -> bool:
    palette = np.array(picture.getpalette()).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


# -------------------------------------------------------------------------------------------- numbers


def to_float(image: torch.Tensor) -> torch.Tensor:
    """float32 in [0, 1] of a uint8 or uint16 image; a float image passes unchanged."""
    if image.is_floating_point():
        return image
    return image.to(torch.float32) / (65535 if image.dtype == torch.uint16 else 255)


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


def shave(image: torch.Tensor, border: int) -> torch.Tensor:
    """Remove `border` pixels on each side of (…, H, W), as the super-resolution literature does before measuring."""
    return image[..., border:-border, border:-border] if border else image


# --------------------------------------------------------------------------------------------- colour

# ITU-R BT.601 in "studio range": Y in [16, 235], Cb and Cr in [16, 240], as MATLAB's rgb2ycbcr.
_TO_YCBCR = torch.tensor([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
_FROM_YCBCR = torch.linalg.inv(_TO_YCBCR.double()).float()
_OFFSET = torch.tensor([16.0, 128.0, 128.0]).view(3, 1, 1) / 255


def rgb_to_ycbcr(image: torch.Tensor) -> torch.Tensor:
    """(…, 3, H, W) RGB in [0, 1] to BT.601 YCbCr in studio range, divided by 255."""
    return torch.einsum("ij,...jhw->...ihw", _TO_YCBCR.to(image), image) + _OFFSET.to(image)


def ycbcr_to_rgb(image: torch.Tensor) -> torch.Tensor:
    """The inverse of `rgb_to_ycbcr`; not clipped."""
    return torch.einsum("ij,...jhw->...ihw", _FROM_YCBCR.to(image), image - _OFFSET.to(image))


def luma(image: torch.Tensor) -> torch.Tensor:
    """Y of BT.601 in studio range, (…, 1, H, W), as in [16/255, 235/255]. A gray image is its own luma."""
    if image.shape[-3] == 1:
        return image
    weights = _TO_YCBCR[0].to(image)
    return torch.einsum("j,...jhw->...hw", weights, image)[..., None, :, :] + 16 / 255


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
    `function` looks no further than `halo`, the result equals `function(image)`. `scale` is output pixels per input
    pixel. Memory is bounded by the tile, the picture and the result, which has the type that `function` returns.
    """
    height, width = image.shape[-2:]
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
