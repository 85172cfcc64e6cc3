"""Pictures as tensors: read, write, luma, 8-bit rounding, tiles.

An image is a float32 tensor of shape (C, H, W) with values in [0, 1]; C is 1 (gray, luma) or 3 (RGB).
"""

import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from .service.errors import CourseError, require
from .service.files import atomic, reason, refusal, unwritten

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_SIDE = 30_000  # pixels; wider pictures are refused before any memory is taken
MAX_PIXELS = 178_000_000  # just below where Pillow itself refuses
PROGRAMS = ("EPS", "WMF")  # Pillow has other programs run them: Ghostscript, Windows
WITH_ALPHA = (".png", ".tif", ".tiff", ".webp")
LOSSY = {"JPEG": {"quality": 95, "subsampling": "4:4:4"}, "WEBP": {"quality": 95}}  # Pillow's own 75 undoes restoring
# What EXIF data say of a picture: description, camera, program, time, artist, copyright; how it was taken (but not its
# size, and no maker's notes), and where.
EXIF_TAGS, EXIF_PARTS = (270, 271, 272, 305, 306, 315, 33_432), {0x8769: (37_500, 0xA002, 0xA003, 0xA005), 0x8825: ()}
warnings.filterwarnings("ignore", module=r"PIL\.")  # of metadata, and of sizes below our own limit
WHOLE = (torch.uint8, torch.uint16)  # pixels that are no floats
DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # 16-bit gray; Pillow < 11 calls some of them "I"
Place = str | os.PathLike
Source = Place | BinaryIO  # a path, or an open file


# ---------------------------------------------------------------------------------------------- files


def load(path: Source) -> torch.Tensor:
    """Read a picture as float32 (3, H, W) or (1, H, W) in [0, 1].

    16-bit gray keeps its precision, transparency is laid on white, and the EXIF orientation is applied. Colour profiles
    are not: measuring needs the stored numbers. Raises CourseError for what is missing, damaged, not a picture, or
    larger than MAX_SIDE or MAX_PIXELS.
    """
    return to_float(load_uint8(path, keep_16_bit=True))


def load_uint8(path: Source, keep_16_bit: bool = False) -> torch.Tensor:
    """As `load`, in 8 bits: uint8 (C, H, W), a quarter of the memory. Optionally uint16 for 16-bit gray files."""
    array, _ = _read(path, _pixels)
    if array.dtype == np.uint16 and not keep_16_bit:
        array = np.round(array / 257.0).astype(np.uint8)
    return torch.from_numpy(array).movedim(-1, 0)


def load_alpha(path: Source) -> torch.Tensor | None:
    """How opaque a picture is, uint8 (1, H, W), 0 where it is clear; None where all is opaque. Raises as `load`."""
    alpha = _read(path, lambda picture: _pixels(picture)[1] if picture.has_transparency_data else None)
    return None if alpha is None or (alpha == 255).all() else torch.from_numpy(alpha)[None]


def off_white(image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The colours, float in [0, 1], that give `image` where they are laid on white with this alpha, float (1, H, W)."""
    return (1 - (1 - image) / alpha.clamp(min=1 / 255)).clamp(0, 1)


def stored_size(path: Source) -> tuple[int, int]:
    """The two sides that a file declares, before or after any EXIF turn; no pixel is decoded. Raises as `load`."""
    return _read(path, lambda picture: picture.size)


def attributes(path: Place, strip: bool = False) -> dict[str, Any]:
    """What a file says besides its pixels, as options of `save`: colour profile, resolution, EXIF data.

    Of the EXIF data, orientation, size and thumbnail are left out: they are those of the stored pixels. `strip`: the
    profile of a gray or RGB picture alone.
    """

    def find(picture: Image.Image) -> dict[str, Any]:
        profile, dpi = picture.info.get("icc_profile"), picture.info.get("dpi", ())  # Pillow says 1 of a TIFF without
        found = {"icc_profile": isinstance(profile, bytes) and picture.mode != "CMYK" and profile}
        if not strip:
            found |= {"dpi": all(1 < number < 1 << 16 for number in dpi) and dpi, "exif": _exif(picture)}
        return {name: value for name, value in found.items() if value}

    return _read(path, find)


def _exif(picture: Image.Image) -> bytes:
    """The EXIF data of a picture but those of the stored pixels; empty where there are none, or damaged ones."""
    kept = Image.Exif()
    with suppress(Exception):  # whatever damaged EXIF data make Pillow raise: they never cost the pixels
        found = picture.getexif()
        kept.update({tag: found[tag] for tag in EXIF_TAGS if tag in found})
        for part, left_out in EXIF_PARTS.items():
            if inside := {tag: value for tag, value in found.get_ifd(part).items() if tag not in left_out}:
                kept[part] = inside
        return kept.tobytes() if len(kept) else b""
    return b""


def left_out(path: Place) -> list[str]:
    """What a picture file has that neither `load` nor `load_alpha` keeps, in words."""

    def find(picture: Image.Image) -> list[str]:
        frames = getattr(picture, "n_frames", 1)
        deep = picture.mode not in DEEP and any(";16" in str(tile[3]) for tile in picture.tile)
        found = [f"{frames - 1} more picture{'s' * (frames > 2)}"] * (frames > 1) + ["colours beyond 8 bits"] * deep
        texts = {"comment", *getattr(picture, "text", ())} - {"XML:com.adobe.xmp", "raw profile type exif"}
        xmp = "xmp" in picture.info or "XML:com.adobe.xmp" in picture.info
        found += ["text or comments"] * bool(texts & picture.info.keys()) + ["XMP data"] * xmp
        return found + ["CMYK colours, now RGB"] * (picture.mode == "CMYK")

    return _read(path, find)


def save(
    path: Place,
    image: torch.Tensor,
    quality: int | None = None,
    alpha: torch.Tensor | None = None,
    bits: int = 8,
    **options,
) -> Path:
    """Write a float image in [0, 1] (rounded to 8 bits) or a uint8 one, (1, H, W) or (3, H, W), as the suffix says.

    `quality` is that of JPEG and WebP (95, and JPEG's colours at full resolution); `alpha`, (1, H, W), is for the
    formats WITH_ALPHA; `bits` 16 is for a .tif or a gray .png, without alpha. `options` go to Pillow; an `icc_profile`
    of another colour space is left out. The file appears whole or not at all. Raises CourseError.
    """
    path = Path(path)
    check_writable(path, quality=quality, bits=bits, channels=len(image))
    kind = Image.registered_extensions()[path.suffix.lower()]
    options = LOSSY.get(kind, {}) | options | ({} if quality is None else {"quality": int(quality)})
    picture = to_pillow(image)
    space = b"GRAY" if picture.mode == "L" and kind != "WEBP" else b"RGB "  # WebP knows no gray
    if (options.get("icc_profile") or b"")[16:20] != space:
        options.pop("icc_profile", None)
    if alpha is not None:
        picture.putalpha(to_pillow(alpha))
    try:
        with atomic(path) as temporary:
            if bits == 16:
                _save_deep(temporary, image, kind, options)
            else:
                picture.save(temporary, format=kind, **options)
    except (OSError, ValueError) as why:  # ValueError: a side longer than the format allows, say
        raise CourseError(f"{path}: {unwritten(why)}, or name another place, or a .png file.") from None
    return path


def _save_deep(path: Path, image: torch.Tensor, kind: str, options: dict[str, Any]) -> None:
    """Write a picture in 16 bits. Pillow has no 16-bit colours, so those go into a TIFF without Pillow, and no EXIF."""
    array = (to_float(image).clamp(0, 1) * 65535).round().movedim(0, -1).cpu().numpy().astype(np.uint16)
    if len(image) == 1:
        Image.fromarray(array[..., 0]).save(path, format=kind, **options)
        return
    import tifffile  # scikit-image brings it along

    dpi = options.get("dpi")
    told = {"iccprofile": options.get("icc_profile"), "resolution": dpi, "resolutionunit": "INCH" if dpi else "NONE"}
    tifffile.imwrite(path, array, photometric="rgb", planarconfig="contig", metadata=None, software=False, **told)


def check_writable(
    path: Place, size: tuple[int, int] = (1, 1), quality: int | None = None, bits: int = 8, channels: int = 1
) -> None:
    """Raise CourseError, before any work is done, where `save` could not write to `path`, nor `load` read it again."""
    path = Path(path)
    kind, why = Image.registered_extensions().get(path.suffix.lower()), refusal(path)
    if path.suffix.lower() not in SUFFIXES:
        why = f"unknown picture format; end the name in one of {', '.join(SUFFIXES)}"
    elif quality is not None and (kind not in LOSSY or quality not in range(1, 101)):
        why = f"{kind} has no quality {quality}; it is a whole number from 1 to 100, of .jpg and .webp files alone"
    elif bits == 16 and kind != "TIFF" and (kind != "PNG" or channels > 1):
        why = "16 bits go into a .tif, or a gray .png; name such a file"
    elif kind == "WEBP" and MAX_SIDE >= max(size) > 16_383:
        why = f"WEBP holds at most 16,383 pixels a side, not {size[0]}x{size[1]}; save it as PNG"
    require(not why, f"{path}: {why}.")
    check_size(path, *size)


def check_size(path: Place, width: int, height: int) -> None:
    """Raise CourseError where a picture has more than MAX_SIDE pixels a side or MAX_PIXELS in all."""
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        limits = f"more than this course handles ({MAX_SIDE:,} a side, {MAX_PIXELS:,} in all)"
        raise CourseError(f"{path}: {width}x{height} pixels is {limits}; crop or shrink the picture first.")


def listing(folder: Place, deep: bool = False) -> list[Path]:
    """The pictures of a folder, and of those in it if `deep`, by name. Raises CourseError where there is none."""
    found = [p for p in Path(folder).glob("**/*" if deep else "*") if p.suffix.lower() in SUFFIXES and p.is_file()]
    files = [p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    require(files, f"{folder}: no folder with pictures in it (looked for {', '.join(SUFFIXES)}).")
    return sorted(files)


def _read(path: Source, function: Callable[[Image.Image], Any]) -> Any:
    """What `function` makes of an open picture; every fault is a CourseError of one sentence that names the file."""
    name = "the picture" if hasattr(path, "read") else Path(path)
    try:
        # Open files, since Pillow maps what it opens by path into memory, and so scrambles turned TIFFs (11.3 to 13.0)
        opened = nullcontext(path) if hasattr(path, "read") else open(path, "rb")
        with opened as file, Image.open(file) as picture:
            check_size(name, *picture.size)
            if picture.format in PROGRAMS or picture.mode == "F" or _misread(getattr(picture, "tag_v2", {})):
                kinds = "programs that draw, floats, signed pixels, 12 bits, and 16 in planes or with 0 as white"
                raise CourseError(f"{name}: {kinds} are not read; convert it to PNG.")
            return function(picture)
    except CourseError:
        raise
    except (MemoryError, Image.DecompressionBombError):
        fault = "more pixels or memory than this course handles; it is damaged, or must be shrunk first"
    except Exception as why:  # whatever a damaged file makes Pillow and the libraries below it raise
        said = reason(why).partition(" <")[0]  # without the address of an object
        fault = f"not a picture, or empty, damaged or truncated ({said}); get it again, or convert it to PNG"
        if isinstance(why, OSError) and why.errno:  # the system's; a decoder's has no number
            fault = f"{why.strerror.lower()}; check the name"
    raise CourseError(f"{name}: {fault}.")


def _misread(tags: dict) -> bool:
    """Whether Pillow takes a TIFF for what it is not: signed pixels, 12 bits, 16 in separate planes or with 0 white."""
    bits = max(tags.get(258, (1,)))
    odd = bits == 12 or tags.get(284) == 2 or tags.get(262) == 0
    return (bits > 8 and odd) or (2 in tags.get(339, (1,)) and bits < 32)


def _pixels(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Upright, on white where clear: uint8 (H, W, 1 or 3) or uint16 (H, W, 1); and any alpha, uint8 (H, W)."""
    picture.load()
    with suppress(Exception):  # whatever damaged EXIF or XMP makes Pillow raise
        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode in DEEP:
        array = np.array(picture)
        if array.min() < 0 or array.max() > 65535:
            raise ValueError("32-bit values beyond 16 bits")
        clear = array == picture.info.get("transparency", -1)
        return np.where(clear, 65535, array).astype(np.uint16)[..., None], np.where(clear, np.uint8(0), np.uint8(255))
    is_gray, alpha = picture.mode in ("1", "L", "LA"), None
    if picture.mode in ("P", "PA"):
        palette = np.array(picture.getpalette()).reshape(-1, 3)
        is_gray = (palette == palette[:, :1]).all()
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        alpha = np.array(picture.getchannel("A"))
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    mode = "L" if is_gray else "RGB"
    picture = picture if picture.mode == mode else picture.convert(mode)  # which copies in any case
    return np.atleast_3d(np.array(picture)), alpha


def to_pillow(image: torch.Tensor) -> Image.Image:
    """The Pillow picture of a float image in [0, 1] (rounded to 8 bits) or a uint8 one, (1, H, W) or (3, H, W).

    Raises CourseError for any other shape or type, and for values of another scale.
    """
    check_values(image)
    pixels = (to_uint8(image) if image.is_floating_point() else image).cpu()
    if pixels.dtype != torch.uint8 or pixels.dim() != 3 or pixels.shape[0] not in (1, 3) or 0 in pixels.shape:
        found = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
        raise CourseError(f"a picture is float in [0, 1] or uint8, (1, H, W) or (3, H, W), not {found}; convert it.")
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.movedim(0, -1).numpy()
    return Image.fromarray(np.ascontiguousarray(array))


def from_pillow(picture: Image.Image) -> torch.Tensor:
    """uint8 (1, H, W) or (3, H, W) of a Pillow picture of mode L or RGB."""
    return torch.from_numpy(np.atleast_3d(np.array(picture))).movedim(-1, 0)


# -------------------------------------------------------------------------------------------- numbers


def check_values(image: torch.Tensor, peak: float = 1.0) -> None:
    """Raise CourseError for what is no picture, float in [0, peak], uint8 or uint16: an array, NaN, floats up to 255.

    Noise and interpolation go a little beyond the range; `peak` below 0 and above `peak` is let pass.
    """
    numbers = isinstance(image, torch.Tensor) and (image.is_floating_point() or image.dtype in WHOLE)
    if not numbers:
        found = image.dtype if isinstance(image, torch.Tensor) else type(image).__name__
        remedy = "of (H, W, C), torch.from_numpy(array).movedim(-1, 0) makes one"
        raise CourseError(f"a picture is a tensor, (C, H, W), float in [0, 1] or uint8, not {found}; {remedy}.")
    if image.is_floating_point() and image.numel():
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
    """Clip to [0, 1] and round to 8 bits, halves to even: uint8, any shape; uint8 stays as it is."""
    if image.dtype == torch.uint8:
        return image
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def quantize(image: torch.Tensor) -> torch.Tensor:
    """What remains of a float image after it was stored in 8 bits: clipped, rounded, still float in [0, 1]."""
    return (to_float(image).clamp(0, 1) * 255).round() / 255


def crop_to_multiple(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """Cut (…, H, W) at the bottom and right so that both sides divide by `multiple` (MATLAB code: *modcrop*)."""
    height, width = (side - side % multiple for side in image.shape[-2:])
    if not height or not width:
        raise CourseError(f"the picture, {image.shape[-1]}x{image.shape[-2]}, is smaller than {multiple} a side.")
    return image[..., :height, :width]


def pad_to_multiple(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """Repeat the last row and column of (N, C, H, W), float, until both sides divide by `multiple`."""
    missing = (0, -image.shape[-1] % multiple, 0, -image.shape[-2] % multiple)
    return torch.nn.functional.pad(image, missing, mode="replicate")


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
FULL = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
INVERSE = {True: torch.linalg.inv(_STUDIO.double()).float(), False: torch.linalg.inv(FULL.double()).float()}
_OFFSET = {True: torch.tensor([16.0, 128.0, 128.0]) / 255, False: torch.tensor([0.0, 128.0, 128.0]) / 255}


def rgb_to_ycbcr(image: torch.Tensor, studio: bool = True) -> torch.Tensor:
    """(…, 3, H, W) RGB in [0, 1] to BT.601 YCbCr, divided by 255, in studio range or (JPEG's) full range."""
    matrix = (_STUDIO if studio else FULL).to(image, non_blocking=True)  # a GPU is not waited for
    return torch.einsum("ij,...jhw->...ihw", matrix, image) + _OFFSET[studio].to(image, non_blocking=True).view(3, 1, 1)


def ycbcr_to_rgb(image: torch.Tensor, studio: bool = True, offset: bool = True) -> torch.Tensor:
    """The inverse of `rgb_to_ycbcr`; not clipped. Without `offset`, of a difference between two pictures."""
    centred = image - _OFFSET[studio].to(image, non_blocking=True).view(3, 1, 1) if offset else image
    return torch.einsum("ij,...jhw->...ihw", INVERSE[studio].to(image, non_blocking=True), centred)


def luma(image: torch.Tensor) -> torch.Tensor:
    """Y of BT.601 in studio range, (…, 1, H, W), as in [16/255, 235/255]. A gray image is its own luma."""
    if image.shape[-3] == 1:
        return image
    weights = _STUDIO[0].to(image, non_blocking=True)
    return torch.einsum("j,...jhw->...hw", weights, image)[..., None, :, :] + 16 / 255


def full_range(luma: torch.Tensor) -> torch.Tensor:
    """Y in studio range, [16/255, 235/255], stretched to [0, 1], as a viewer shows black and white; not clipped."""
    return (luma - 16 / 255) * (255 / 219)


def gray(image: torch.Tensor) -> torch.Tensor:
    """Y of BT.601 in full range, (…, 1, H, W): for the eye, as `luma` is for measuring. A gray image is its own."""
    return image if image.shape[-3] == 1 else full_range(luma(image))


def luma_uint8(image: torch.Tensor) -> torch.Tensor:
    """Y of BT.601 in 8 bits, uint8 (…, 1, H, W), of an image of any type; a gray uint8 image is its own."""
    if image.shape[-3] == 1 and image.dtype == torch.uint8:
        return image
    return to_uint8(luma(to_float(image)))


# ---------------------------------------------------------------------------------------------- tiles


def map_tiles(
    function: Callable, image: torch.Tensor, tile: int, halo: int, scale: int = 1, progress: bool = False
) -> torch.Tensor:
    """Apply `function` to overlapping tiles of (…, H, W) and lay the results side by side without seams.

    Each tile is cut with up to `halo` pixels of its neighbourhood, and that margin is thrown away afterwards: where
    `function` looks no further than `halo`, the result equals `function(image)`. `tile`, the side of a tile, and `halo`
    are in pixels of `image`; `scale` is output pixels per input pixel. Raises CourseError for a picture without pixels.
    """
    height, width = image.shape[-2:]
    require(height and width, f"a picture of {width}x{height} has no pixels; give one of at least 1x1.")
    result = None
    corners = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
    for top, left in tqdm(corners, unit="tile", leave=None, disable=None if progress else True):
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
