"""Compressed sensing as files: `sense` writes a picture's measurements, `recover` makes the picture of them.

A file is an .npz archive that NumPy reads, too, of three arrays: `about`, JSON in UTF-8 that says which model, weights,
size, ratio and bits; `scales`, int8, of each row of the sensing operator the largest measurement, 2^(scale / 8); and
`measurements`, the bits of all numbers side by side, block by block, each an integer of `bits` bits.
"""

import io
import json
import math
import os
import re
import zipfile
import zlib
from typing import NamedTuple

import numpy as np
import torch

from . import images, models, zoo
from .service.errors import CourseError
from .service.files import reason

DEFAULT = "rescsnet-any"
FORMAT, VERSION = "sensed picture", 1
BITS = range(2, 17)
MAX_ABOUT = 4096  # bytes
MAX_BYTES = 1 << 30  # of a file; no picture of images.MAX_PIXELS takes as many
ARRAYS = ("about.npy", "scales.npy", "measurements.npy")


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
    if not 0 < ratio <= models.rescsnet.TOP_RATIO:
        raise CourseError(f"a ratio is above 0 and at most {models.rescsnet.TOP_RATIO:g}, not {ratio:g}.")
    if bits not in BITS:
        raise CourseError(f"a measurement has {BITS[0]} to {BITS[-1]} bits, not {bits}.")
    ratio, bits = float(ratio), int(bits)  # NumPy's numbers are none to JSON
    pixels = images.from_pillow(images.to_pillow(image))  # which complains of shapes and NaN
    pixels = images.to_uint8(images.gray(images.to_float(pixels)))
    size = pixels.shape[-2:]
    counts = network.geometry(*size, ratio)[1][0]
    if not counts.any():
        enough = network.geometry(*size, models.rescsnet.TOP_RATIO)[1].any()
        how = "take a larger ratio" if enough else "take a larger picture"
        said = f"at a ratio of {ratio:g} nothing is measured of {size[1]}x{size[0]} pixels"
        raise CourseError(f"{said}; {how}.")
    y = network.measure(pixels, ratio).cpu()
    scales, levels = quantize(y, bits)
    packed = _pack(levels.movedim(0, -1)[_measured(counts, len(y))].numpy(), bits)  # block by block
    scales = scales[: int(counts.max())].to(torch.int8).numpy()
    card = zoo.card(model)
    about = About(card["name"], card["sha256"], *pixels.shape[-2:], ratio, bits, _checksum(scales, packed))
    text = json.dumps({"format": FORMAT, "version": VERSION, **about._asdict()}).encode()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.frombuffer(text, np.uint8), scales=scales, measurements=packed)
    return buffer.getvalue()


def recover(data: bytes, model: str | os.PathLike | None = None, progress: bool = False) -> torch.Tensor:
    """The picture of a file of measurements, float32 (1, H, W) in [0, 1].

    `model`: the path of the card of a network that is not in the zoo. Raises CourseError.
    """
    about, arrays = read(data)
    try:
        network, card = load(model or about.model), zoo.card(model or about.model)
    except CourseError as why:
        raise CourseError(f"the file was written for {about.model!r}, which does not load: {why}") from None
    if card["sha256"] != about.weights:
        raise CourseError(f"the file was written by other weights of {about.model!r}; get those to read it.")
    counts = network.geometry(about.height, about.width, about.ratio)[1][0]
    total, rows = int(counts.sum()), len(network.raw_rows)
    if not total:
        raise CourseError(f"the file says that at a ratio of {about.ratio:g} nothing was measured; it is no picture.")
    sizes = {"scales": (int(counts.max()), np.int8), "measurements": (-(-total * about.bits // 8), np.uint8)}
    for name, (length, kind) in sizes.items():
        if arrays[name].shape != (length,) or arrays[name].dtype != kind:
            raise CourseError(f"the file's {name} are not what its size and ratio make them; copy it again.")
    levels = torch.zeros(*counts.shape, rows, dtype=torch.int32)
    levels[_measured(counts, rows)] = torch.from_numpy(_unpack(arrays["measurements"], about.bits, total))
    scales = torch.zeros(rows)
    scales[: counts.max()] = torch.from_numpy(arrays["scales"]).float()
    y = dequantize(scales, levels.movedim(-1, 0), about.bits)
    y = y.to(network.raw_rows.device)
    return network.picture(y, about.height, about.width, about.ratio, progress).cpu()


def read(data: bytes) -> tuple[About, dict[str, np.ndarray]]:
    """What a file says, and its arrays, after its checksum is found right and its sizes sane. Raises CourseError."""
    if len(data) > MAX_BYTES:
        raise CourseError("a file of more than a gigabyte is no file of measurements that this course handles.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            declared = {part.filename: part.file_size for part in archive.infolist()}
            if set(declared) != set(ARRAYS) or len(archive.infolist()) != len(ARRAYS):
                raise CourseError("not a file of measurements (it holds other arrays); recover what sense wrote.")
            about = _about(_array(archive, "about.npy", declared, MAX_ABOUT))
            most = math.ceil(about.height * about.width * models.rescsnet.TOP_RATIO * about.bits / 8) + MAX_ABOUT
            arrays = {name.removesuffix(".npy"): _array(archive, name, declared, most) for name in ARRAYS[1:]}
    except CourseError:
        raise
    except Exception as why:  # whatever a damaged archive makes zipfile, zlib and NumPy raise
        raise CourseError(f"not a whole file of measurements ({reason(why)}); recover what sense wrote.") from None
    if _checksum(*arrays.values()) != about.checksum:
        raise CourseError("the file is damaged (its checksum is wrong); copy it again.")
    return about, arrays


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


def _checksum(scales: np.ndarray, measurements: np.ndarray) -> int:
    return zlib.crc32(measurements.tobytes(), zlib.crc32(scales.tobytes()))


def _array(archive: zipfile.ZipFile, name: str, declared: dict[str, int], most: int) -> np.ndarray:
    """One array of numbers, of at most `most` bytes however it is packed. Raises CourseError and what NumPy raises."""
    if declared[name] > most + 256:  # NumPy's own header
        raise CourseError(f"the file's {name.removesuffix('.npy')} take more room than they can need.")
    with archive.open(name) as file:  # read_array, not load: no archive in the archive
        return np.lib.format.read_array(io.BytesIO(file.read(most + 257)), allow_pickle=False)


def _about(text: np.ndarray) -> About:
    """Raises CourseError, and what JSON raises."""
    found = json.loads(text.astype(np.uint8).tobytes())
    if found.pop("format", None) != FORMAT:
        raise CourseError("not a file of measurements; recover what sense wrote.")
    if (version := found.pop("version", None)) != VERSION:
        raise CourseError(f"a file of version {version!r:.20}, where this course reads version {VERSION}.")
    about = About(**found)
    sane = all(type(value) is kind for value, kind in zip(about, About.__annotations__.values(), strict=True))
    sane = sane and re.fullmatch(r"[\w-]{1,64}", about.model)  # a name; no path that a file could send us to
    sane = sane and min(about.height, about.width) > 0 and about.bits in BITS
    if not sane or not 0 < about.ratio <= models.rescsnet.TOP_RATIO:
        raise CourseError("what the file says of itself makes no sense.")
    images.check_size("the picture in the file", about.width, about.height)
    return about
