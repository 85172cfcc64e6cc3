"""Pictures as files of few bits: `compress`, `decompress`, and what is in a .bic file.

A file is a header, and the levels of a LevelEncoder. The header, little-endian: "BIC" and a version; CRC-32
of all that follows; the first four bytes of the SHA-256 of the model's weights; the place on the model's dial, plus 128
for gray pictures; height; width; the length of the model's name, and the name. Above place 120 the levels of a second
layer follow those of each tile: such a file is of version 4, has its place less 120, and the bytes of both weights'
SHA-256, exclusive or. A codec that was fitted to its picture writes version 3: after the CRC-32 height, width and the
number of channels, and then what `fitted.pack` made.
"""

import bisect
import functools
import itertools
import math
import os
import re
import struct
import zlib
from typing import NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from . import images, metrics, zoo
from .entropy import TOP_RATE, ExactContext
from .models import TransformAutoencoder, fitted
from .models.binary_autoencoder import BLOCK
from .rangecoder import TOP, LevelDecoder, LevelEncoder
from .service.errors import CourseError, require

DEFAULT = "integer-ae"
FITTED = "fitted"  # the name of the model that comes with its file
VERSION, FITTED_VERSION, DETAILED_VERSION = 2, 3, 4  # 1 was coded by another package
TILE = 64  # blocks: a picture is coded in squares of so many a side, each on its own, so that memory is bounded
MAX_BYTES = 1 << 30  # of a file; no picture of images.MAX_PIXELS takes as many
BLOCKS_PER_BYTE = 256  # a file of fewer bytes is filled up with zeros: a short one cannot ask for much memory
DIAL = 120  # the last place on the dial of a codec in one layer; the first is 0
DETAILED = 180  # and in two
FINE = 90  # the quality up to which both have the same places
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

    `rate`: bits per pixel that the file may take, header included; about the highest quality within it is looked for.
    `psnr`: the decibels that the decoded picture must have, without a rate; a small file that has them is looked for.
    With neither, `quality` from 0 to 100 tells the place on the dial. The model "fitted" is trained on the picture for
    so many `minutes`, by default as many as `fitted.default_minutes` says. Raises CourseError.
    """
    codec = None if str(model) == FITTED else load(str(model))
    pixels = images.from_pillow(images.to_pillow(image))  # which complains of shapes, types and values
    height, width = pixels.shape[-2:]
    images.check_size("the picture", width, height)
    require(0 <= quality <= 100, f"quality goes from 0 to 100, not {quality:g}.")
    require(
        codec is not None or rate is psnr is None, "a fitted codec is asked for a quality; leave out rate and PSNR."
    )
    require(codec is None or minutes is None, "minutes are for the model 'fitted' alone; leave them out.")
    if rate is not None:
        return _compress_to(codec, pixels, rate, progress)
    if psnr is not None:
        return _compress_for(codec, pixels, psnr, progress)
    if codec is not None:
        return codec.encode(pixels, codec.place(quality), progress)
    more = f"{width}x{height} is more than the {fitted.MOST_PIXELS:,} pixels that a codec is fitted to"
    require(height * width <= fitted.MOST_PIXELS, f"{more}; make the picture smaller, or take another model.")
    minutes = fitted.default_minutes(height, width) if minutes is None else minutes
    most = fitted.MOST_MINUTES
    require(0 < minutes <= most, f"minutes are more than 0 and at most {most:,}, not {minutes:g}.")
    return fitted_bytes(*fitted.fit(pixels, quality, minutes, progress=progress), pixels, quality)


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
    if codec is not None:
        zoo.check_writer((header.model, header.weights), (codec.name, codec.signature(header.dial)))
    payload = data[header.length :]
    try:
        if codec is None:
            return fitted.unpack(payload, 1 if header.gray else 3, header.height, header.width)
        return codec.decode(payload, header, progress)
    except ValueError as why:  # a checksum can be made to fit
        raise CourseError(f"the file's codes cannot be read: {why}.") from None


def read_header(data: bytes) -> Header:
    """What a .bic file says of itself, after its checksum is found right. Raises CourseError; takes no memory."""
    whole = data[:3] == b"BIC" and len(data) >= _START.size + _HEADER.size
    require(whole, "not a .bic file, or only its beginning; decompress what compress wrote.")
    _, version, checksum = _START.unpack_from(data)
    known, unharmed = range(VERSION, DETAILED_VERSION + 1), zlib.crc32(data[_START.size :]) == checksum
    reads = f"this course reads versions {VERSION} to {DETAILED_VERSION}; compress the picture again"
    require(version in known, f"a .bic file of version {version}, where {reads}.")
    require(unharmed, "the file is damaged or truncated (its checksum is wrong); copy it again.")
    if version == FITTED_VERSION:
        height, width, channels = _FITTED_HEADER.unpack_from(data, _START.size)
        header = Header(FITTED, b"", 0, channels == 1, height, width, _START.size + _FITTED_HEADER.size)
        sound = channels in (1, 3) and height * width <= fitted.MOST_PIXELS
    else:
        weights, dial, height, width, length = _HEADER.unpack_from(data, _START.size)
        begin, fine = _START.size + _HEADER.size, version == DETAILED_VERSION
        name, place = data[begin : begin + length], dial % 128 + DIAL * fine
        header = Header(name.decode("latin1"), weights, place, dial >= 128, height, width, begin + length)
        images.check_size("the picture in the file", width, height)
        sound = re.fullmatch(rb"[\w-]{1,64}", name) and header.model != FITTED  # no path; that one has a version
        sound = sound and BLOCKS_PER_BYTE * (len(data) - header.length) >= math.prod(_blocks(height, width))
        sound = sound and (DIAL < place <= DETAILED if fine else place <= DIAL)
    require(sound and height * width, "the file's header makes no sense, whatever its checksum says.")
    return header


# ------------------------------------------------------------------------------------------- models


class Codec:
    """A model of the zoo as a codec of whole pictures, with a second layer where the zoo has one for it."""

    settings = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90)  # qualities: the points of its curve

    def __init__(self, name: str):
        """By the name of its model, or by the path of its card. Raises CourseError."""
        self.model = zoo.load(name) if name.endswith(zoo.FILES) or name in names() else None
        if not isinstance(self.model, TransformAutoencoder):
            raise CourseError(f"{name!r} is no codec that writes files; there are {', '.join([FITTED, *names()])}.")
        about = zoo.card(name)
        self.name, self.weights = about["name"], bytes.fromhex(about["sha256"])[:4]
        self.context = ExactContext(self.model.context)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.last = DIAL
        if _has_second(about):
            self.second = SecondLayer(f"{self.name}-detail")
            self.parameters += sum(p.numel() for p in self.second.model.parameters())
            self.last, self.settings = DETAILED, (*self.settings, 93, 96, 98, 100)

    def place(self, quality: float) -> int:
        """The place on the dial of a quality from 0 to 100."""
        return round(float(np.interp(quality, [0, FINE, 100], [0, DIAL * FINE / 100, self.last])))

    def signature(self, place: int) -> bytes:
        """The bytes in a header by which a decoder knows its weights; none where it has no such place."""
        if place <= DIAL:
            return self.weights
        if place > self.last:
            return b""
        return bytes(a ^ b for a, b in zip(self.weights, self.second.weights, strict=True))

    def encode(
        self,
        pixels: torch.Tensor,
        place: int,
        progress: bool = False,
        corners: list[Corner] | None = None,
        first: torch.Tensor | None = None,
    ) -> bytes:
        """The file of uint8 (1 or 3, H, W) at a place on the dial; with `corners`, of those tiles alone.

        `first`: what `first_layer` makes of the picture, where that is known.
        """
        encoder, rate, fine = LevelEncoder(), dial_rate(place), place > DIAL
        if fine and first is None:
            first = self.first_layer(pixels, progress)
        height, width = pixels.shape[-2:]
        corners = corners or _corners(height, width)
        for corner in tqdm(corners[::-1], unit="tile", disable=None if progress else True):
            levels = self.levels(pixels, place, corner)
            self.context.walk(levels, self.model.exact_steps(rate), rate, encoder.put)
            if fine:
                lacking = _whole_blocks(_tile(pixels, corner)) - _tile(first, corner)
                self.second.put(levels, lacking, place, encoder)
            encoder.end_tile()
        name, dial = self.name.encode(), place - DIAL * fine + 128 * (len(pixels) == 1)
        rest = _HEADER.pack(self.signature(place), dial, height, width, len(name)) + name
        rest += encoder.finish().ljust(-(-math.prod(_blocks(height, width)) // BLOCKS_PER_BYTE), b"\0")
        return _START.pack(b"BIC", DETAILED_VERSION if fine else VERSION, zlib.crc32(rest)) + rest

    def decode(
        self, payload: bytes, header: Header, progress: bool = False, first: torch.Tensor | None = None
    ) -> torch.Tensor:
        """uint8 (1 or 3, H, W) of what follows the header; `first` as in `encode`. Raises ValueError."""
        height, width, rate = header.height, header.width, dial_rate(header.dial)
        levels = torch.zeros(self.context.codes, *_blocks(height, width), dtype=torch.int16)
        decoder, steps, details = LevelDecoder(payload), self.model.exact_steps(rate), []
        corners = _corners(height, width)
        for corner in tqdm(corners, unit="tile", disable=None if progress else True):
            part = _tile(levels, corner, 1)
            self.context.walk(part, steps, rate, lambda _, means, scales: decoder.get(means, scales))
            if header.dial > DIAL:
                details.append(self.second.get(part, header.dial, decoder))
        decoder.finish()
        picture = self.picture(levels, header.dial, header.gray, progress) if first is None else first.clone()
        for corner, detail in zip(corners, details, strict=False):
            self.second.add(_tile(picture, corner), detail, header.dial)
        return picture[:, :height, :width]

    @torch.no_grad()
    def levels(self, pixels: torch.Tensor, place: int, corner: Corner) -> torch.Tensor:
        """The rounded codes of one tile: int16 (codes, h, w)."""
        x = _whole_blocks(images.to_float(_tile(pixels, corner))).expand(1, 3, -1, -1)
        steps = self.model.steps(torch.tensor([dial_rate(place)]))
        x, steps = (t.to(self.model.log_steps.device) for t in (x, steps))
        return self.model.encode(x, steps)[0].round().clamp(-TOP, TOP).to("cpu", torch.int16)

    def picture(self, levels: torch.Tensor, place: int, gray: bool, progress: bool = False) -> torch.Tensor:
        """uint8 (1 or 3, 16·h, 16·w) of the codes of all tiles, (codes, h, w), by the first layer."""
        picture = self.model.picture(levels, dial_rate(place), progress)
        return mean_of_channels(picture) if gray else picture

    def first_layer(self, pixels: torch.Tensor, progress: bool = False) -> torch.Tensor:
        """The picture, in whole blocks, to which a second layer of uint8 (1 or 3, H, W) is added; of the same type."""
        height, width = pixels.shape[-2:]
        levels = torch.empty(self.context.codes, *_blocks(height, width), dtype=torch.int16)
        for corner in _corners(height, width):
            _tile(levels, corner, 1).copy_(self.levels(pixels, DIAL, corner))
        return self.picture(levels, DIAL, len(pixels) == 1, progress)


class SecondLayer:
    """A DetailLayer of the zoo, as a file has it: after the levels of a tile those of what its picture lacks."""

    def __init__(self, name: str):
        self.model, self.weights = zoo.load(name), bytes.fromhex(zoo.card(name)["sha256"])[:4]
        self.context = ExactContext(self.model.context)

    @torch.no_grad()
    def put(self, levels: torch.Tensor, lacking: torch.Tensor, place: int, encoder: LevelEncoder) -> None:
        """Code what a tile lacks, (1 or 3, 16·h, 16·w), where its `levels`, (codes, h, w), are known."""
        steps, given = self.model.exact_steps(detail_rate(place)), self.model.spending(levels)
        found = self.model.levels(lacking.expand(1, 3, -1, -1), float(steps[-1]))[0]
        self.context.walk(torch.cat([given, found.to(given)]), steps, detail_rate(place), encoder.put)

    def get(self, levels: torch.Tensor, place: int, decoder: LevelDecoder) -> torch.Tensor:
        """The second layer's levels of a tile whose first ones are known: int16 (192, 2h, 2w). Raises ValueError."""
        steps, given = self.model.exact_steps(detail_rate(place)), self.model.spending(levels)
        every = torch.cat([given, given.new_zeros(len(steps) - len(given), *given.shape[1:])])
        self.context.walk(every, steps, detail_rate(place), lambda _, means, scales: decoder.get(means, scales))
        return every[len(given) :].clone()

    @torch.no_grad()
    def add(self, picture: torch.Tensor, found: torch.Tensor, place: int) -> None:
        """Add the second layer to a tile of a picture, uint8 (1 or 3, 16·h, 16·w), in place."""
        step = float(self.model.exact_steps(detail_rate(place))[-1])
        more = self.model.pixels(step * found[None].float())[0]
        more = more if len(picture) == 3 else more.mean(0, keepdim=True)
        picture.copy_((picture + more).round().clamp(0, 255))


def _has_second(about: dict) -> bool:
    """Whether the zoo has a second layer that was trained on the weights of this card, not on others of its name."""
    if not zoo.has(f"{about['name']}-detail"):
        return False
    start = zoo.card(f"{about['name']}-detail").get("started_from", about)
    return start["sha256"] == about["sha256"]


def mean_of_channels(picture: torch.Tensor) -> torch.Tensor:
    """uint8 (1, H, W): the mean of the channels."""
    return picture.float().mean(0, keepdim=True).round().to(torch.uint8)


def names() -> list[str]:
    """The zoo's codecs, those that .bic files can be written with. Raises CourseError."""
    return [name for name in zoo.for_task("codec") if zoo.card(name)["network"].get("kind") == "transform"]


def load(name: str) -> Codec:
    """A codec by the name of its model, or the path of its card; kept until its weights change. Raises CourseError."""
    return _load(name, zoo.card(name)["sha256"] if name.endswith(zoo.FILES) else "")


@functools.lru_cache(maxsize=4)
def _load(name: str, _: str) -> Codec:
    return Codec(name)


def dial_rate(place: int) -> float:
    """The rate of the first layer, 0 to TOP_RATE, at a place on a file's dial."""
    return TOP_RATE * min(place, DIAL) / DIAL


def detail_rate(place: int) -> float:
    """The rate of the second layer, 0 to TOP_RATE, at a place above DIAL."""
    return TOP_RATE * (place - DIAL) / (DETAILED - DIAL)


def _whole_blocks(picture: torch.Tensor) -> torch.Tensor:
    """A picture, float32 (C, H, W), whose last row and column are repeated until its blocks are whole."""
    return images.pad_to_multiple(picture.float()[None], BLOCK)[0]


def _tile(x: torch.Tensor, corner: Corner, block: int = BLOCK) -> torch.Tensor:
    """One tile of a picture, (…, H, W); of levels, whose `block` is 1."""
    rows, columns = (slice(block * begin, block * (begin + TILE)) for begin in corner)
    return x[..., rows, columns]


def _blocks(height: int, width: int) -> tuple[int, int]:
    """How many rows and columns of blocks hold a picture."""
    return -(-height // BLOCK), -(-width // BLOCK)


def _corners(height: int, width: int) -> list[Corner]:
    """Where the tiles of a picture begin."""
    return list(itertools.product(*(range(0, side, TILE) for side in _blocks(height, width))))


def _compress_to(codec: Codec, pixels: torch.Tensor, rate: float, progress: bool) -> bytes:
    """The file of about the highest quality that takes at most `rate` bits per pixel. Raises CourseError."""
    limit = rate * pixels[0].numel() / 8  # bytes
    corners, first = _corners(*pixels.shape[-2:]), None
    sample = corners[:: -(-len(corners) // 4)]  # of a large picture, four tiles tell nearly where to look

    def size(place: int) -> float:
        return len(codec.encode(pixels, place, corners=sample, first=first)) * len(corners) / len(sample)

    low, high = 0, DIAL
    if codec.last > DIAL and size(DIAL) <= limit:
        low, high, first = DIAL, codec.last, codec.first_layer(pixels, progress)
    # from the last place whose sample fits, down to one that fits whole
    for place in range(max(0, bisect.bisect_right(range(high + 1), limit, low, key=size) - 1), -1, -1):
        data = codec.encode(pixels, place, progress, first=first)
        if len(data) <= limit:
            return data
    least = 8 * len(data) / pixels[0].numel()
    raise CourseError(f"{rate:g} bits per pixel are too few for this picture; {least:.3f} is the least.")


def _compress_for(codec: Codec, pixels: torch.Tensor, psnr: float, progress: bool) -> bytes:
    """A file that decodes to at least `psnr` dB, by bisection: PSNR may fall a little on the way up."""
    files, first = {}, None

    def reached(place: int) -> float:
        data = files[place] = codec.encode(pixels, place, progress, first=first)
        header = read_header(data)
        decoded = codec.decode(data[header.length :], header, first=first)
        return metrics.psnr(images.to_float(decoded), images.to_float(pixels))

    low, high = 0, DIAL
    if not psnr <= (most := reached(high)) and codec.last > DIAL:
        low, high, first = DIAL + 1, codec.last, codec.first_layer(pixels, progress)
        most = reached(high)
    told = f"{psnr:g} dB are too many for this picture and {codec.name}; quality 100 has {most:.2f} dB."
    require(psnr <= most, told)
    return files[bisect.bisect_left(range(high), psnr, low, key=reached)]
