"""Pictures as files of few bits: `compress`, `decompress`, and what is in a .bic file.

A file is a header, and the levels of a LevelEncoder. The header, little-endian: "BIC" and a version; CRC-32
of all that follows; the first four bytes of the SHA-256 of the model's weights; the place on the model's dial, plus 128
for gray pictures; height; width; the length of the model's name, and the name. A codec that was fitted to its picture
writes version 3: after the CRC-32 height, width and the number of channels, and then what `fitted.pack` made.
"""

import bisect
import functools
import math
import os
import re
import struct
import zlib
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from . import images, metrics, zoo
from .entropy import TOP_RATE, ExactContext
from .models import TransformAutoencoder, fitted
from .models.binary_autoencoder import BLOCK
from .rangecoder import TOP, LevelDecoder, LevelEncoder
from .service.errors import CourseError

DEFAULT = "integer-ae"
FITTED = "fitted"  # the name of the model that comes with its file
VERSION, FITTED_VERSION = 2, 3  # 1 was coded by another package
TILE = 64  # blocks: a picture is coded in squares of so many a side, each on its own, so that memory is bounded
MAX_BYTES = 1 << 30  # of a file; no picture of images.MAX_PIXELS takes as many
BLOCKS_PER_BYTE = 256  # a file of fewer bytes is filled up with zeros: a short one cannot ask for much memory
DIAL = 120  # the last place on a file's dial; the first is 0
Corner = tuple[int, int]  # top and left of a tile, in blocks
_START, _HEADER, _FITTED_HEADER = map(struct.Struct, ("<3sBI", "<4sBHHB", "<HHB"))


class Header(NamedTuple):
    """What a .bic file says of itself."""

    model: str
    weights: bytes  # the first four bytes of their SHA-256
    dial: int
    gray: bool
    height: int
    width: int
    length: int  # of the header in bytes


def compress(
    image: torch.Tensor,
    model: str | os.PathLike = DEFAULT,
    rate: float | None = None,
    quality: float = 50,
    progress: bool = False,
    psnr: float | None = None,
    minutes: float | None = None,
) -> bytes:
    """The .bic file of a picture, (3, H, W) or (1, H, W), float in [0, 1] or uint8.

    `rate`: the bits per pixel that the file may take, header included; the highest quality within it is looked for.
    `psnr`: the decibels that the decoded picture must have; a small file that has them is looked for. With neither,
    `quality` from 0 to 100 is the place on the model's dial. The model "fitted" is trained on the picture for so many
    `minutes`, by default as many as `fitted.default_minutes` says. Raises CourseError.
    """
    codec = None if str(model) == FITTED else load(str(model))
    pixels = images.from_pillow(images.to_pillow(image))  # which complains of shapes, types and values
    images.check_size("the picture", *pixels.shape[:0:-1])
    if not 0 <= quality <= 100:
        raise CourseError(f"quality goes from 0 to 100, not {quality:g}.")
    if sum((rate is not None, psnr is not None, codec is None)) > 1:
        raise CourseError("ask for a rate or for a PSNR, not for both, and of a fitted codec for a quality alone.")
    if minutes is not None and not (codec is None and 0 < minutes <= fitted.MOST_MINUTES):
        limits = f"more than 0 and at most {fitted.MOST_MINUTES:,}"
        raise CourseError(f"minutes, {limits}, are for the model 'fitted' alone; not {minutes:g} for {str(model)!r}.")
    if rate is not None:
        return _compress_to(codec, pixels, rate, progress)
    if psnr is not None:
        return _compress_for(codec, pixels, psnr, progress)
    if codec is not None:
        return codec.encode(pixels, round(DIAL * quality / 100), progress)
    height, width = pixels.shape[-2:]
    if height * width > fitted.MOST_PIXELS:
        more = f"{width}x{height} is more than the {fitted.MOST_PIXELS:,} pixels that a codec is fitted to"
        raise CourseError(f"{more}; make the picture smaller, or take another model.")
    return fitted_file(pixels, quality, minutes=minutes or fitted.default_minutes(height, width), progress=progress)


def fitted_file(pixels: torch.Tensor, quality: float, **how) -> bytes:
    """The .bic file of uint8 (1 or 3, H, W) by a codec that is trained on it; `how` is given to `fitted.fit`."""
    return fitted_bytes(*fitted.fit(pixels, quality, **how), pixels, quality)


def fitted_bytes(model: fitted.FittedCodec, latents: torch.Tensor, pixels: torch.Tensor, quality: float) -> bytes:
    """The .bic file of what `fitted.fit` found for uint8 (1 or 3, H, W) at a quality."""
    rest = _FITTED_HEADER.pack(*pixels.shape[-2:], len(pixels)) + fitted.pack(model, latents, pixels, quality)
    return _START.pack(b"BIC", FITTED_VERSION, zlib.crc32(rest)) + rest


def decompress(data: bytes, model: str | os.PathLike | None = None, progress: bool = False) -> torch.Tensor:
    """The picture of a .bic file, float32 in [0, 1], as a PNG would hold it.

    `model`: the path of the card of a model that is not in the zoo. Raises CourseError.
    """
    return images.to_float(decompress_uint8(data, model, progress))


def decompress_uint8(data: bytes, model: str | os.PathLike | None = None, progress: bool = False) -> torch.Tensor:
    """As `decompress`, in 8 bits: a quarter of the memory."""
    header = read_header(data)
    codec = None if header.model == FITTED else load(str(model or header.model))
    if codec is not None and codec.weights != header.weights:
        raise CourseError(f"the file was written by other weights of {header.model!r}; get those to read it.")
    payload = data[header.length :]
    try:
        if codec is None:
            return fitted.unpack(payload, 1 if header.gray else 3, header.height, header.width)
        return codec.decode(payload, header, progress)
    except ValueError as why:  # a checksum can be made to fit
        raise CourseError(f"the file's codes cannot be read: {why}.") from None


def read_header(data: bytes) -> Header:
    """What a .bic file says of itself, after its checksum is found right. Raises CourseError; takes no memory."""
    if data[:3] != b"BIC" or len(data) < _START.size + _HEADER.size:
        raise CourseError("not a .bic file, or only its beginning; decompress what compress wrote.")
    _, version, checksum = _START.unpack_from(data)
    if version not in (VERSION, FITTED_VERSION):
        known = f"this course reads versions {VERSION} and {FITTED_VERSION}"
        raise CourseError(f"a .bic file of version {version}, where {known}; compress the picture again.")
    if zlib.crc32(data[_START.size :]) != checksum:
        raise CourseError("the file is damaged or truncated (its checksum is wrong); copy it again.")
    if version == FITTED_VERSION:
        height, width, channels = _FITTED_HEADER.unpack_from(data, _START.size)
        header = Header(FITTED, b"", 0, channels == 1, height, width, _START.size + _FITTED_HEADER.size)
        sound = channels in (1, 3) and height * width <= fitted.MOST_PIXELS
    else:
        weights, dial, height, width, length = _HEADER.unpack_from(data, _START.size)
        begin = _START.size + _HEADER.size
        name = data[begin : begin + length]
        header = Header(name.decode("latin1"), weights, dial % 128, dial >= 128, height, width, begin + length)
        images.check_size("the picture in the file", width, height)
        plain = re.fullmatch(rb"[\w-]{1,64}", name)  # no path that a file could send us to
        enough = BLOCKS_PER_BYTE * (len(data) - header.length) >= _blocks(height, width)
        sound = plain and enough and dial % 128 <= DIAL
    if not sound or not height * width:
        raise CourseError("the file's header makes no sense, whatever its checksum says.")
    return header


# ------------------------------------------------------------------------------------------- models


class Codec:
    """A model of the zoo as a codec of whole pictures."""

    settings = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90)  # qualities: the points of its curve

    def __init__(self, name: str):
        """By the name of its model, or by the path of its card. Raises CourseError."""
        self.model = zoo.load(name) if name.endswith(".json") or name in names() else None
        if not isinstance(self.model, TransformAutoencoder):
            raise CourseError(f"{name!r} is no codec; there are {', '.join([FITTED, *names()])}.")
        about = zoo.card(name)
        self.name, self.weights = about["name"], bytes.fromhex(about["sha256"])[:4]
        self.context = ExactContext(self.model.context)
        self.parameters = sum(p.numel() for p in self.model.parameters())

    def encode(
        self, pixels: torch.Tensor, dial: int, progress: bool = False, corners: list[Corner] | None = None
    ) -> bytes:
        """The file of uint8 (1 or 3, H, W) at a place on the dial; with `corners`, of those tiles alone."""
        encoder, rate = LevelEncoder(), dial_rate(dial)
        corners = corners or _corners(*pixels.shape[-2:])
        for corner in tqdm(corners[::-1], unit="tile", disable=None if progress else True):
            self.context.walk(self.levels(pixels, dial, corner), self.model.exact_steps(rate), rate, encoder.put)
            encoder.end_tile()
        name, gray = self.name.encode(), len(pixels) == 1
        rest = _HEADER.pack(self.weights, dial + 128 * gray, *pixels.shape[-2:], len(name)) + name
        rest += encoder.finish().ljust(-(-_blocks(*pixels.shape[-2:]) // BLOCKS_PER_BYTE), b"\0")
        return _START.pack(b"BIC", VERSION, zlib.crc32(rest)) + rest

    def decode(self, payload: bytes, header: Header, progress: bool = False) -> torch.Tensor:
        """uint8 (1 or 3, H, W) of what follows the header. Raises ValueError."""
        height, width, rate = header.height, header.width, dial_rate(header.dial)
        levels = torch.zeros(self.context.codes, -(-height // BLOCK), -(-width // BLOCK), dtype=torch.int16)
        decoder, steps = LevelDecoder(payload), self.model.exact_steps(rate)
        for top, left in tqdm(_corners(height, width), unit="tile", disable=None if progress else True):
            part = levels[:, top : top + TILE, left : left + TILE]
            self.context.walk(part, steps, rate, lambda _, means, scales: decoder.get(means, scales))
        decoder.finish()
        picture = self.model.picture(levels, rate, progress)[:, :height, :width]
        return mean_of_channels(picture) if header.gray else picture

    @torch.no_grad()
    def levels(self, pixels: torch.Tensor, dial: int, corner: Corner) -> torch.Tensor:
        """The rounded codes of one tile: int16 (codes, h, w)."""
        top, left = (BLOCK * side for side in corner)
        piece = pixels[:, top : top + BLOCK * TILE, left : left + BLOCK * TILE]
        x = images.to_float(piece).expand(1, 3, -1, -1)
        x = F.pad(x, (0, -x.shape[-1] % BLOCK, 0, -x.shape[-2] % BLOCK), mode="replicate")
        steps = self.model.steps(torch.tensor([dial_rate(dial)]))
        x, steps = (t.to(self.model.log_steps.device) for t in (x, steps))
        return self.model.encode(x, steps)[0].round().clamp(-TOP, TOP).to("cpu", torch.int16)


def mean_of_channels(picture: torch.Tensor) -> torch.Tensor:
    """uint8 (1, H, W): the mean of the channels."""
    return picture.float().mean(0, keepdim=True).round().to(torch.uint8)


def names() -> list[str]:
    """The zoo's codecs, those that .bic files can be written with. Raises CourseError."""
    return [name for name in zoo.for_task("codec") if zoo.card(name)["network"].get("kind") == "transform"]


load = functools.lru_cache(maxsize=4)(Codec)


def dial_rate(dial: int) -> float:
    """What a place on a file's dial is on the model's."""
    return TOP_RATE * dial / DIAL


def _blocks(height: int, width: int) -> int:
    return -(-height // BLOCK) * -(-width // BLOCK)


def _corners(height: int, width: int) -> list[Corner]:
    """Where the tiles of a picture begin."""
    rows, columns = (range(0, -(-side // BLOCK), TILE) for side in (height, width))
    return [(top, left) for top in rows for left in columns]


def _compress_to(codec: Codec, pixels: torch.Tensor, rate: float, progress: bool) -> bytes:
    """The file of the highest quality that takes at most `rate` bits per pixel. Raises CourseError."""
    if not 0 < rate < math.inf:
        raise CourseError(f"a file takes more than 0 bits per pixel, not {rate:g}.")
    limit = rate * pixels[0].numel() / 8  # bytes
    corners = _corners(*pixels.shape[-2:])
    sample = corners[:: -(-len(corners) // 4)]  # of a large picture, four tiles tell nearly where to look

    def size(dial: int) -> float:
        return len(codec.encode(pixels, dial, corners=sample)) * len(corners) / len(sample)

    for dial in range(max(0, bisect.bisect_right(range(DIAL + 1), limit, key=size) - 1), -1, -1):
        data = codec.encode(pixels, dial, progress)
        if len(data) <= limit:
            return data
    least = 8 * len(data) / pixels[0].numel()
    raise CourseError(f"{rate:g} bits per pixel are too few for this picture; {least:.3f} is the least.")


def _compress_for(codec: Codec, pixels: torch.Tensor, psnr: float, progress: bool) -> bytes:
    """A file that decodes to at least `psnr` dB, by bisection: PSNR may fall a little on the way up."""
    files = {}

    def reached(dial: int) -> float:
        data = files[dial] = codec.encode(pixels, dial, progress)
        header = read_header(data)
        return metrics.psnr(images.to_float(codec.decode(data[header.length :], header)), images.to_float(pixels))

    if not psnr <= (most := reached(DIAL)):
        raise CourseError(f"{psnr:g} dB are too many for this picture and {codec.name}; quality 100 has {most:.2f}.")
    return files[bisect.bisect_left(range(DIAL), psnr, key=reached)]
