"""Pictures as tensors: read, write, luma, 8-bit rounding, tiles.

An image is a float32 tensor of shape (C, H, W) with values in [0, 1]; C is 1 (gray, luma) or 3 (RGB).
"""

import errno
import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from .service.errors import CourseError
from .service.files import atomic, reason, refusal

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_SIDE = 30_000  # pixels; wider pictures are refused before any memory is taken
MAX_PIXELS = 178_000_000  # just below where Pillow itself refuses
STRIP = 1 << 16  # pixels that are converted at a time: what is made of them on the way stays in the cache
FORMAT_SIDES = {"JPEG": 65_500, "WEBP": 16_383}  # pixels; libjpeg stops a little before the format's own 65,535
PROGRAMS = ("EPS", "WMF")  # Pillow has other programs run them: Ghostscript, Windows
LOSSY = {"JPEG": {"quality": 95, "subsampling": "4:4:4"}, "WEBP": {"quality": 95}}  # Pillow's own 75 undoes restoring
ORIENTATION = 0x0112  # the tag of EXIF and TIFF
TURNS = {2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (3, 1), 6: (1, 0), 7: (1, 1), 8: (3, 0)}  # its values: see `_turn`
DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # 16-bit gray; Pillow < 11 calls some of them "I"


# ---------------------------------------------------------------------------------------------- files


def load(path: str | os.PathLike | BinaryIO) -> torch.Tensor:
    """Read a picture, by path or from an open file, as float32 (3, H, W) or (1, H, W) in [0, 1].

    16-bit gray keeps its precision, a palette is resolved, CMYK becomes RGB, transparency is laid on white, and the
    EXIF orientation is applied. Colour profiles are not: measuring needs the stored numbers. Damaged metadata are
    left out.

    Raises CourseError for what is missing, empty, truncated, not an image, or larger than MAX_SIDE or MAX_PIXELS.
    """
    return to_float(load_uint8(path, keep_16_bit=True))


def load_uint8(path: str | os.PathLike | BinaryIO, keep_16_bit: bool = False) -> torch.Tensor:
    """As `load`, in 8 bits: uint8 (C, H, W), a quarter of the memory. Optionally uint16 for 16-bit gray files."""
    array = _read(path, _pixels)
    if array.dtype == np.uint16 and not keep_16_bit:
        array = np.round(array / 257.0).astype(np.uint8)
    return _channels_first(array)


def stored_size(path: str | os.PathLike | BinaryIO) -> tuple[int, int]:
    """The two sides that a file declares, before or after any EXIF turn; no pixel is decoded. Raises as `load`."""
    return _read(path, lambda picture, name: picture.size)


def colour_profile(path: str | os.PathLike) -> bytes | None:
    """The ICC profile of a gray or RGB picture file, for `save` to store with what is made of it; None without one."""

    def profile(picture: Image.Image, name: Path | str) -> bytes | None:
        found = picture.info.get("icc_profile")
        return found if isinstance(found, bytes) and picture.mode != "CMYK" else None

    return _read(path, profile)


def save(path: str | os.PathLike, image: torch.Tensor, quality: int | None = None, **options) -> Path:
    """Write a float image in [0, 1] (rounded to 8 bits) or a uint8 one, (1, H, W) or (3, H, W), as the suffix says.

    `quality` is that of JPEG and WebP (95, and JPEG's colours at full resolution); `options` go to Pillow
    (`subsampling="4:2:0"`; an `icc_profile` of another colour space is left out). The file appears whole or not at
    all. Raises CourseError, also for values of another scale.
    """
    path = Path(path)
    is_tensor = isinstance(image, torch.Tensor) and image.dim() == 3  # what else there is, to_pillow() refuses
    check_writable(path, image.shape[:0:-1] if is_tensor else None, quality)
    options = LOSSY.get(_format(path), {}) | options
    if quality is not None:
        options["quality"] = int(quality)
    try:
        picture = to_pillow(image)
        space = b"GRAY" if picture.mode == "L" and _format(path) != "WEBP" else b"RGB "  # WebP knows no gray
        if (options.get("icc_profile") or b"")[16:20] != space:
            options.pop("icc_profile", None)
        with atomic(path) as temporary:
            picture.save(temporary, format=_format(path), **options)
    except CourseError as why:
        raise CourseError(f"{path}: {why}") from None
    except OSError as why:
        if why.errno == errno.ENOSPC:
            raise CourseError(f"{path}: the disk is full; free some space and try again.") from None
        raise CourseError(f"{path}: cannot be written ({why.strerror or why}); name another place.") from None
    except ValueError as why:  # a side longer than the format allows, say
        raise CourseError(f"{path}: this format cannot hold the picture ({why}); save it as PNG.") from None
    return path


def check_writable(path: str | os.PathLike, size: tuple[int, int] | None = None, quality: int | None = None) -> None:
    """Raise CourseError, before any work is done, where `save` could not write (width, height) pixels to `path`."""
    path = Path(path)
    kind = _format(path)
    if kind is None:
        raise CourseError(f"{path}: unknown picture format; end the name in one of {', '.join(SUFFIXES)}.")
    if why := refusal(path):
        raise CourseError(f"{path}: {why}.")
    if quality is not None and kind not in LOSSY:
        raise CourseError(f"{path}: {kind} has no quality; leave it out, or name a .jpg or .webp file.")
    if quality is not None and quality not in range(1, 101):
        raise CourseError(f"{path}: quality is a whole number from 1 to 100, not {quality}.")
    if size and max(size) > FORMAT_SIDES.get(kind, math.inf):
        limit = f"{FORMAT_SIDES[kind]:,} pixels a side"
        raise CourseError(f"{path}: {kind} holds at most {limit}, not {size[0]}x{size[1]}; save it as PNG.")


def check_size(path: str | os.PathLike, width: int, height: int) -> None:
    """Raise CourseError where a picture has more than MAX_SIDE pixels a side or MAX_PIXELS in all."""
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise CourseError(
            f"{path}: {width}x{height} pixels is more than this course handles "
            f"({MAX_SIDE:,} a side, {MAX_PIXELS:,} in all); crop or shrink the picture first."
        )


def listing(folder: str | os.PathLike) -> list[Path]:
    """The pictures of a folder, in the order of their names. Raises CourseError where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CourseError(f"{folder}: no such folder; name a folder of pictures.")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not files:
        raise CourseError(f"{folder}: no picture in this folder (looked for {', '.join(SUFFIXES)}).")
    return files


def _format(path: Path) -> str | None:
    return Image.registered_extensions().get(path.suffix.lower()) if path.suffix.lower() in SUFFIXES else None


def _read(path: str | os.PathLike | BinaryIO, function: Callable[[Image.Image, Path | str], Any]) -> Any:
    """What `function` makes of an open picture and its name; every fault is a CourseError.

    If that fails, metadata may be why: they are left out then, and it is tried again.
    """
    name = _name(path)
    with _one_sentence(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of metadata and of sizes below our own limit
        # Open files, since Pillow maps what it opens by path into memory, and so scrambles turned TIFFs (11.3 to 13.0)
        with nullcontext(path) if hasattr(path, "read") else open(path, "rb") as file:
            try:
                return _opened(file, name, function)
            except (CourseError, MemoryError):
                raise
            except Exception as why:
                for bare in _without_metadata(file):
                    with suppress(Exception):
                        return _opened(io.BytesIO(bare), name, function)
                raise why


def _opened(file: BinaryIO, name: Path | str, function: Callable[[Image.Image, Path | str], Any]) -> Any:
    with Image.open(file) as picture:
        check_size(name, *picture.size)
        if picture.format in PROGRAMS:
            raise CourseError(f"{name}: {picture.format} is a program that draws; convert it to PNG or JPEG.")
        if picture.mode == "F":
            raise CourseError(f"{name}: floating-point pixels have no fixed range; convert it to 8 or 16 bits.")
        tags = getattr(picture, "tag_v2", {})  # of a TIFF
        bits, planes, signed = tags.get(258, (1,)), tags.get(284) == 2, 2 in tags.get(339, (1,))
        if (planes and max(bits) > 8) or (signed and max(bits) < 32):  # Pillow would mix up their bytes
            raise CourseError(f"{name}: signed pixels, or 16 bits in separate planes; convert it to 8 bits, or to PNG.")
        return function(picture, name)


def _without_metadata(file: BinaryIO) -> Iterator[bytes]:
    """Copies of a PNG, JPEG, TIFF or AVIF file with ever less that is not needed for its pixels. Raises what it may."""
    file.seek(0)
    data = file.read()
    if data.startswith(b"\x89PNG"):
        yield from (_bare_png(data, keep) for keep in ((b"tRNS", b"eXIf", b"iCCP"), (b"tRNS", b"eXIf"), ()))
    elif data.startswith(b"\xff\xd8"):  # APP1 is EXIF, 2 the colour profile, 14 Adobe's colour transform
        yield from (_bare_jpeg(data, keep) for keep in ((0xE1, 0xE2, 0xEE), (0xE1, 0xEE), (0xE1,)))
    elif data[:4] in (b"II*\0", b"MM\0*"):
        yield _bare_tiff(bytearray(data))
    elif data[4:8] == b"ftyp":
        yield data.replace(b"Exif", b"none", 1)


def _bare_png(data: bytes, keep: tuple[bytes, ...]) -> bytes:
    """With critical chunks (their names begin with a capital) and sound ones of those to keep."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind, checksum = data[at + 4 : at + 8], data[end - 4 : end]
        if kind[:1].isupper() or (kind in keep and zlib.crc32(data[at + 4 : end - 4]).to_bytes(4, "big") == checksum):
            parts.append(data[at:end])
        at = end
    return b"".join(parts)


def _bare_jpeg(data: bytes, keep: tuple[int, ...]) -> bytes:
    """Without the comments and application segments before the first scan, but those to keep."""
    parts, at = [data[:2]], 2
    while data[at] == 0xFF and data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] in keep or not (0xE0 <= data[at + 1] <= 0xEF or data[at + 1] == 0xFE):
            parts.append(data[at:end])
        at = end
    return b"".join([*parts, data[at:]])


def _bare_tiff(data: bytearray) -> bytes:
    """With texts, resolution, XMP, EXIF and private tags of the first picture made an empty tag; not the profile."""
    order = "<" if data[:1] == b"I" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from(order + "H", data, at)
        if tag in (270, 271, 272, 282, 283, 296, 305, 306, 315, 700) or (tag > 32_999 and tag != 34_675):
            struct.pack_into(order + "HHII", data, at, 65_000, 1, 1, 0)
    return bytes(data)


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
    """Turn what Pillow and the system raise while reading into one CourseError that names the file."""
    try:
        yield
    except CourseError:
        raise
    except Exception as why:  # whatever a damaged file makes Pillow and the libraries below it raise
        fault = next((said for kind, said in _FAULTS.items() if isinstance(why, kind)), None)
        if isinstance(why, UnidentifiedImageError) and isinstance(path, Path) and path.stat().st_size == 0:
            fault = "the file is empty (0 bytes); copy or download it again"
        if not fault and isinstance(why, OSError) and why.errno:  # the system's; a decoder's has no number
            fault = f"cannot be read ({why.strerror}); check the name"
        fault = fault or f"damaged or truncated ({reason(why)}); copy or download it again"
        raise CourseError(f"{path}: {fault}.") from None


def _pixels(picture: Image.Image, name: Path | str) -> np.ndarray:
    """uint8 (H, W), uint8 (H, W, 3), or uint16 (H, W) of any Pillow picture, upright.

    Strip by strip: on the way Pillow makes several pictures of four bytes a pixel, which of a strip stay in the cache.
    """
    stored = (picture.tile[0][3] if picture.tile else "") or ""  # Pillow's word for the samples, which load() forgets
    stored = stored if isinstance(stored, str) else str(*stored[:1])
    lower = _lower_bytes(picture) if stored == "RGB;16B" and "transparency" in picture.info else None
    picture.load()
    channels, rows = _channels(picture, stored), max(1, STRIP // picture.width)
    turns, mirrored = _turn(picture)
    shape = (picture.width, picture.height) if turns % 2 else (picture.height, picture.width)
    kind = np.uint16 if picture.mode in DEEP else np.uint8
    result = np.empty(shape if channels == "L" else (*shape, 3), kind)
    as_stored = np.rot90(result, turns)[:, :: -1 if mirrored else 1]  # a view: what is written is turned on the way
    if picture.mode in DEEP:
        as_stored[:] = _deep(picture, stored, name)
        return result
    if stored in ("L;2", "L;4") and "transparency" in picture.info:  # Pillow scales the pixels, but not this
        picture.info["transparency"] *= 255 // (2 ** int(stored[-1]) - 1)
    for top in range(0, picture.height, rows):
        box = (0, top, picture.width, min(top + rows, picture.height))
        as_stored[top : top + rows] = _shown(picture.crop(box), channels, lower and lower.crop(box))
    return result


def _shown(strip: Image.Image, channels: str, lower: Image.Image | None) -> np.ndarray:
    """uint8 (h, w) or (h, w, 3) of a part of a picture, on white where it is transparent."""
    if lower:  # 16 bits: the transparent colour has to agree in both bytes
        pixels, key = np.array(strip), np.array(strip.info["transparency"])
        clear = (pixels == key >> 8) & (np.asarray(lower) == key & 255)
        pixels[clear.all(-1)] = 255
        return pixels
    if strip.has_transparency_data:
        strip = (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")
        strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
    return np.asarray(strip.convert(channels))


def _lower_bytes(picture: Image.Image) -> Image.Image:
    """The lower bytes of a PNG of 16-bit RGB, of which Pillow keeps the upper ones."""
    lower = Image.open(picture.fp)
    lower.tile = [(*lower.tile[0][:3], "RGB;16L")]
    lower.load()
    return lower


def _turn(picture: Image.Image) -> tuple[int, int]:
    """Quarter turns to the left and then a mirror (0 or 1), from the upright picture to the stored one."""
    try:
        return TURNS.get(picture.getexif().get(ORIENTATION), (0, 0))
    except Exception:  # whatever damaged EXIF or XMP makes Pillow raise
        return 0, 0


def _deep(picture: Image.Image, stored: str, name: Path | str) -> np.ndarray:
    """uint16 (H, W) of 16-bit gray, black at 0 and white at 65535."""
    array = np.array(picture)
    if array.min() < 0 or array.max() > 65535:
        raise CourseError(f"{name}: its 32-bit values go below 0 or beyond 65535; convert it to 8 or 16 bits.")
    array = array.astype(np.uint16)
    if "transparency" in picture.info:
        array[array == picture.info["transparency"]] = 65535
    if stored == "I;12":  # as they are in a TIFF
        array = np.round(np.arange(4096) * (65535 / 4095)).astype(np.uint16)[array]
    return 65535 - array if getattr(picture, "tag_v2", {}).get(262) == 0 else array  # there, 0 is white


def _channels(picture: Image.Image, stored: str) -> str:
    """The mode, L or RGB, that holds what a picture shows."""
    if picture.mode in ("P", "PA"):
        if picture.palette is None:
            raise ValueError("no palette")
        palette = np.array(picture.getpalette()).reshape(-1, 3)
        return "L" if (palette == palette[:, :1]).all() else "RGB"
    gray = picture.mode in ("1", "L", "LA", "La", *DEEP) or stored == "LA;16B"  # Pillow makes RGBA of that
    return "L" if gray else "RGB"


def to_pillow(image: torch.Tensor) -> Image.Image:
    """The Pillow picture of a float image in [0, 1] (rounded to 8 bits) or a uint8 one, (1, H, W) or (3, H, W).

    Raises CourseError for any other shape or type, and for values of another scale.
    """
    check_values(image)
    if image.dim() != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise CourseError(
            f"a picture has the shape (1, H, W) or (3, H, W), not {tuple(image.shape)}; index or crop it."
        )
    if image.is_floating_point():
        image = to_uint8(image)
    if image.dtype != torch.uint8:
        raise CourseError(f"a picture is float in [0, 1] or uint8, not {image.dtype}; convert it with to_float().")
    pixels = image.cpu()
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.movedim(0, -1).numpy()
    return Image.fromarray(np.ascontiguousarray(array))


def from_pillow(picture: Image.Image) -> torch.Tensor:
    """uint8 (1, H, W) or (3, H, W) of a Pillow picture of mode L or RGB."""
    return _channels_first(np.array(picture))


def _channels_first(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).movedim(-1, 0) if array.ndim == 3 else torch.from_numpy(array)[None]


# -------------------------------------------------------------------------------------------- numbers


def check_values(image: torch.Tensor, peak: float = 1.0) -> None:
    """Raise CourseError for what is no picture, float in [0, peak] or uint8: an array, bool, NaN, floats up to 255.

    Noise and interpolation go a little beyond the range; `peak` below 0 and above `peak` is let pass.
    """
    if not isinstance(image, torch.Tensor):
        remedy = "of (H, W, C), torch.from_numpy(array).movedim(-1, 0) makes one"
        raise CourseError(f"a picture is a tensor, (C, H, W), not {type(image).__name__}; {remedy}.")
    if not image.is_floating_point():
        if image.dtype not in (torch.uint8, torch.uint16):
            raise CourseError(f"a picture is float in [0, 1] or uint8, not {image.dtype}; convert it first.")
    elif image.numel():
        low, high = (value.item() for value in image.detach().aminmax())
        if not (low >= -peak and high <= 2 * peak):
            found = f"{low:.4g} to {high:.4g}; divide by its white, or mend its NaN"
            raise CourseError(f"a float picture has values in [0, {peak:g}], and this one has {found}.")


def to_float(image: torch.Tensor) -> torch.Tensor:
    """float32 in [0, 1] of a uint8, uint16 or float image."""
    if image.is_floating_point():
        return image.to(torch.float32)
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
        raise CourseError(
            f"the picture, {image.shape[-1]}x{image.shape[-2]}, is smaller than {multiple} pixels a side."
        )
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


def full_range(luma: torch.Tensor) -> torch.Tensor:
    """Y in studio range, [16/255, 235/255], stretched to [0, 1], as a viewer shows black and white; not clipped."""
    return (luma - 16 / 255) * (255 / 219)


def gray(image: torch.Tensor) -> torch.Tensor:
    """What a viewer shows of a picture without its colours: Y of BT.601 in full range, (…, 1, H, W), black 0, white 1.

    A gray image is its own. Tables measure `luma`, in studio range; this is for files and for the eye.
    """
    return image if image.shape[-3] == 1 else full_range(luma(image))


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
    `function` returns. Raises CourseError for a picture without pixels.
    """
    height, width = image.shape[-2:]
    if not height or not width:
        raise CourseError(f"a picture of {width}x{height} has no pixels; give one of at least 1x1.")
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
        raise CourseError(f"{width}x{height} pixels do not divide into tiles of {tile}; crop_to_multiple() first.")
    grid = image.unfold(1, tile, tile).unfold(2, tile, tile)  # (C, rows, columns, tile, tile)
    return grid.permute(1, 2, 0, 3, 4).reshape(-1, channels, tile, tile)


def join_tiles(tiles: torch.Tensor, columns: int) -> torch.Tensor:
    """(N, C, tile, tile) → (C, H, W): the inverse of `split_tiles`, `columns` tiles in a row."""
    count, channels, tile, _ = tiles.shape
    grid = tiles.reshape(count // columns, columns, channels, tile, tile)
    return grid.permute(2, 0, 3, 1, 4).reshape(channels, count // columns * tile, columns * tile)
