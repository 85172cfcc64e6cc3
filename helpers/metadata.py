"""What picture files say besides their pixels: what is kept of it, and files without it, where it hides the pixels."""

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

_TIFF_TAGS = (270, 271, 272, 282, 283, 296, 305, 306, 315, 700)  # texts, resolution, XMP; from 33,000 on: private
_TIFF_PROFILE = 34_675
_EXIF_TAGS = (270, 271, 272, 305, 306, 315, 33_432)  # description, camera, program, time, artist, copyright
_EXIF_PARTS = {0x8769: (37_500, 0xA002, 0xA003, 0xA005), 0x8825: ()}  # how (but maker's notes, size), and where


def exif_without_pixels(picture: Image.Image) -> bytes:
    """The EXIF data of a picture on who took it, when, where and how; empty where there are none, or damaged ones.

    Orientation, size and thumbnail are left out: they are those of the stored pixels.
    """
    kept = Image.Exif()
    try:
        found = picture.getexif()
        kept.update({tag: found[tag] for tag in _EXIF_TAGS if tag in found})
        for part, left_out in _EXIF_PARTS.items():
            inside = {tag: value for tag, value in found.get_ifd(part).items() if tag not in left_out}
            kept.update({part: inside} if inside else {})
        return kept.tobytes() if len(kept) else b""
    except Exception:  # whatever damaged EXIF data make Pillow raise: they never cost the pixels
        return b""


def without_metadata(data: bytes) -> Iterator[bytes]:
    """Copies of a PNG or TIFF file with ever less that is not needed for its pixels.

    What is kept longest changes what a picture shows: transparency, orientation; then its profile. A damaged file may
    raise struct.error; of another kind of file there are no copies.
    """
    if data.startswith(b"\x89PNG"):
        yield from (_bare_png(data, keep) for keep in ((b"tRNS", b"eXIf", b"iCCP"), (b"tRNS", b"eXIf"), ()))
    elif data[:4] in (b"II*\0", b"MM\0*"):
        yield _bare_tiff(bytearray(data))


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


def _bare_tiff(data: bytearray) -> bytes:
    """With texts, resolution, XMP, EXIF and private tags of the first picture made an empty tag; not the profile."""
    order = "<" if data[:1] == b"I" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from(order + "H", data, at)
        if tag in _TIFF_TAGS or (tag > 32_999 and tag != _TIFF_PROFILE):  # those are private
            struct.pack_into(order + "HHII", data, at, 65_000, 1, 1, 0)
    return bytes(data)
