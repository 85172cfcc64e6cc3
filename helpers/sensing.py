"""Compressed sensing as files: `sense` writes a picture's measurements, `recover` makes the picture of them.

A file is an .npz archive that NumPy reads, too, of three arrays: `about`, JSON in UTF-8 that says which model, weights,
size, ratio and bits; `scales`, int8, of each row of the sensing operator the largest measurement, 2^(scale / 8); and
`measurements`, the bits of all numbers side by side, block by block, each an integer of `bits` bits.
"""

import io
import json
import os
import re
import zlib
from typing import NamedTuple

import numpy as np
import torch

from . import images, models, zoo
from .service.errors import CourseError, require

DEFAULT = "rescsnet-any"
FORMAT, VERSION = "sensed picture", 1
BITS = range(2, 17)
MAX_BYTES = 1 << 30  # of a file; no picture of images.MAX_PIXELS takes as many


class About(NamedTuple):
    """What a file of measurements says of itself."""

    model: str
    weights: str  # SHA-256
    height: int
    width: int
    ratio: float  # measurements per pixel that were asked for
    bits: int  # of a measurement
    checksum: int  # CRC-32 of scales and measurements


def sense(image: torch.Tensor, ratio: float, bits: int = 8, model: str | os.PathLike = DEFAULT) -> bytes:
    """The file of measurements of a picture, (1 or 3, H, W), float in [0, 1] or uint8.

    Of a colour picture its luma is sensed, Y of BT.601 in full range: black is 0 and white 1, as a viewer shows them.
    `ratio` measurements per pixel, up to 0.25, of `bits` bits each. Raises CourseError.
    """
    network = load(model)
    require(bits in BITS, f"take {BITS[0]} to {BITS[-1]} bits for each measurement, not {bits}.")
    ratio, bits = float(ratio), int(bits)  # NumPy's numbers are none to JSON
    pixels = images.from_pillow(images.to_pillow(image))  # which complains of shapes and NaN
    pixels = images.to_uint8(images.gray(images.to_float(pixels)))
    height, width = pixels.shape[-2:]
    counts = network.geometry(height, width, ratio)[1][0]
    what = f"{width}x{height} pixels at a ratio of {ratio:g}"
    require(counts.any(), f"nothing is measured of {what}; take a larger ratio, or a larger picture.")
    y = network.measure(pixels, ratio).cpu()
    scales, levels = quantize(y, bits)
    packed = _pack(levels.movedim(0, -1)[_measured(counts, len(y))].numpy(), bits)  # block by block
    scales = scales[: int(counts.max())].to(torch.int8).numpy()
    card = zoo.card(model)
    checksum = zlib.crc32(scales.tobytes() + packed.tobytes())
    about = About(card["name"], card["sha256"], height, width, ratio, bits, checksum)
    text = json.dumps({"format": FORMAT, "version": VERSION, **about._asdict()}).encode()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.frombuffer(text, np.uint8), scales=scales, measurements=packed)
    return buffer.getvalue()


def recover(data: bytes, model: str | os.PathLike | None = None, progress: bool = False) -> torch.Tensor:
    """The picture of a file of measurements, float32 (1, H, W) in [0, 1].

    `model`: the path of the card of a network that is not in the zoo. Raises CourseError.
    """
    about, scales, measurements = read(data)
    network = load(model or about.model)
    card = zoo.card(model or about.model)
    zoo.check_writer((about.model, about.weights), (card["name"], card["sha256"]))
    counts, rows = network.geometry(about.height, about.width, about.ratio)[1][0], len(network.raw_rows)
    levels, exponents = torch.zeros(*counts.shape, rows, dtype=torch.int32), torch.zeros(rows)
    levels[_measured(counts, rows)] = torch.from_numpy(_unpack(measurements, about.bits, int(counts.sum())))
    exponents[: counts.max()] = torch.from_numpy(scales).float()
    y = dequantize(exponents, levels.movedim(-1, 0), about.bits).to(network.raw_rows.device)
    return network.picture(y, about.height, about.width, about.ratio, progress).cpu()


def read(data: bytes) -> tuple[About, np.ndarray, np.ndarray]:
    """What a file says of itself, its scales and its measurements. Raises CourseError."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            if sum(part.file_size for part in archive.zip.infolist()) > images.MAX_PIXELS:
                raise ValueError
            found = json.loads(archive["about"].tobytes())
            scales, measurements = archive["scales"], archive["measurements"]
        sound = found.pop("format") == FORMAT and found.pop("version") == VERSION
        about = About(**found)
        kinds = [type(value) for value in about]
        sound = sound and kinds == list(About.__annotations__.values()) and min(about.height, about.width) > 0
        sound = sound and re.fullmatch(r"[\w-]{1,64}", about.model)  # a name; no path that a file could send us to
        if not (sound and about.bits in BITS and 0 < about.ratio <= models.rescsnet.TOP_RATIO):
            raise ValueError
        images.check_size("the picture in the file", about.width, about.height)
        counts = models.ResCSNetAny.geometry(about.height, about.width, about.ratio)[1]
        sizes = int(counts.max()), -(-int(counts.sum()) * about.bits // 8)
        fit = (scales.dtype, measurements.dtype) == (np.int8, np.uint8) and counts.any()
        fit = fit and (scales.shape, measurements.shape) == (sizes[:1], sizes[1:])
        if not fit or zlib.crc32(scales.tobytes() + measurements.tobytes()) != about.checksum:
            raise ValueError
    except Exception:  # whatever a damaged archive makes zipfile and NumPy raise, which may advise unsafe ways
        raise CourseError("not a whole file of measurements; recover what sense wrote.") from None
    return about, scales, measurements


def load(name: str | os.PathLike) -> models.ResCSNetAny:
    """A network that senses and recovers, by name or by the path of its card. Raises CourseError."""
    network = zoo.load(name)
    if not isinstance(network, models.ResCSNetAny):
        raise CourseError(f"{str(name)!r} senses nothing; there are {', '.join(zoo.for_task('cs')) or 'none yet'}.")
    return network


def quantize(y: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Measurements (rows, h, w) as integers of `bits` bits, and each row's scale in eighths of a power of two."""
    largest = y.abs().amax((1, 2)).clamp(min=2**-15)
    scales = (8 * largest.log2()).ceil().clamp(-128, 127)
    top = 2 ** (bits - 1) - 1
    levels = (y / (scales / 8).exp2().view(-1, 1, 1) * top).round().clamp(-top, top)
    return scales, levels.int()


def dequantize(scales: torch.Tensor, levels: torch.Tensor, bits: int) -> torch.Tensor:
    """The inverse of `quantize`, up to half a step."""
    return levels * (scales / 8).exp2().view(-1, 1, 1) / (2 ** (bits - 1) - 1)


def _measured(counts: torch.Tensor, rows: int) -> torch.Tensor:
    """Which numbers a file holds: bool (h, w, rows)."""
    return torch.arange(rows) < counts[..., None]


def _pack(levels: np.ndarray, bits: int) -> np.ndarray:
    """Integers as uint8 bytes of their bits, the highest bit of each first."""
    shifted = (levels + 2 ** (bits - 1)).astype(np.uint32)
    return np.packbits((shifted[:, None] >> np.arange(bits - 1, -1, -1)) & 1)


def _unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    planes = np.unpackbits(packed, count=count * bits).reshape(count, bits).astype(np.int32)
    return planes @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int32)) - 2 ** (bits - 1)
