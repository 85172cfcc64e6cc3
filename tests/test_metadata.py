"""Metadata that are damaged, long or none of their kind never cost a picture its pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from builders import png, png_chunk, tiff
from PIL import Image
from test_images import ORIENTATIONS, RGB, chw, encoded

from helpers import CourseError, images

BOMB = zlib.compress(bytes(3_000_000))  # Pillow's limit is one
BAD_CHUNKS = {
    "text of a wrong checksum": png_chunk(b"tEXt", b"a\0b", checksum=1),
    "long text": png_chunk(b"zTXt", b"a\0\0" + BOMB),
    "a profile of unknown compression": png_chunk(b"iCCP", b"a\0\1abc"),
    "a long profile": png_chunk(b"iCCP", b"a\0\0" + BOMB),
    "a short resolution": png_chunk(b"pHYs", b"\0"),
    "EXIF that is none": png_chunk(b"eXIf", b"garbage"),
    "text in the place of XMP": png_chunk(b"tEXt", b"xmp\0abc"),
    "a short animation": png_chunk(b"acTL", b"\0"),
    "a transparency of a wrong checksum": png_chunk(b"tRNS", bytes(6), checksum=1),
}


@pytest.mark.parametrize("chunk", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
@pytest.mark.parametrize("after", [False, True])
def test_bad_chunks_of_a_png_cost_no_pixels(tmp_path, recwarn, chunk, after):
    data = png(RGB, 8, 2, after=chunk) if after else png(RGB, 8, 2, chunk)
    (tmp_path / "x.png").write_bytes(data)
    for source in (tmp_path / "x.png", io.BytesIO(data)):
        assert torch.equal(images.load(source), chw(RGB))
    assert images.stored_size(tmp_path / "x.png") == (10, 12)
    assert isinstance(images.attributes(tmp_path / "x.png").get("icc_profile"), bytes | None)
    assert not recwarn


def exif_block(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def test_sound_metadata_beside_bad_ones_are_kept(tmp_path):
    profile = png_chunk(b"iCCP", b"a\0\0" + zlib.compress(b"p" * 200))
    chunks = profile, png_chunk(b"eXIf", exif_block(6)[6:]), png_chunk(b"tRNS", bytes([0, 0, 0, 220, 0, 255]))
    (tmp_path / "x.png").write_bytes(png(RGB, 8, 2, BAD_CHUNKS["long text"], *chunks))
    turned = chw(ORIENTATIONS[6](RGB))
    turned[:, (turned * 255 == torch.tensor([0, 220, 255])[:, None, None]).all(0)] = 1
    image = images.load(tmp_path / "x.png")
    assert torch.equal(image, turned) and not torch.equal(image, chw(ORIENTATIONS[6](RGB)))
    assert images.attributes(tmp_path / "x.png").get("icc_profile") == b"p" * 200


BAD_SEGMENTS = {
    "EXIF that is none": (0xE1, b"Exif\0\0garbage"),
    "EXIF that ends": (0xE1, b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"),
    "a short Photoshop": (0xED, b"Photoshop 3.0\x008BIM"),
}


@pytest.mark.parametrize("segment", BAD_SEGMENTS.values(), ids=BAD_SEGMENTS)
def test_bad_segments_of_a_jpeg_cost_no_pixels(tmp_path, recwarn, segment):
    marker, body = segment
    data = encoded(RGB, "JPEG")
    (tmp_path / "x.jpg").write_bytes(data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:])
    assert torch.equal(images.load(tmp_path / "x.jpg"), images.load(io.BytesIO(data)))
    assert not recwarn


BAD_TAGS = {
    "resolution as text": {"t282": b"abc\0", "t283": b"abc\0", "t296": 3},
    "XMP of numbers": {"t700": [1, 2]},
    "EXIF elsewhere": {"t34665": 2**31 - 1},
    "an orientation as text": {"t274": b"abcdef\0"},
    "a profile of numbers": {"t34675": 5},
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tags", BAD_TAGS.values(), ids=BAD_TAGS)
def test_bad_tags_of_a_tiff_cost_no_pixels(tmp_path, recwarn, tags, order):
    (tmp_path / "x.tif").write_bytes(tiff(RGB, order=order, t262=2, **tags))
    assert torch.equal(images.load(tmp_path / "x.tif"), chw(RGB))
    assert images.attributes(tmp_path / "x.tif").get("icc_profile") is None
    assert not recwarn


def test_bad_metadata_do_not_hide_missing_pixels(tmp_path):
    data = png(np.tile(RGB, (9, 9, 1)), 8, 2, BAD_CHUNKS["long text"])
    (tmp_path / "x.png").write_bytes(data[:-200])
    with pytest.raises(CourseError, match="damaged or truncated"):
        images.load(tmp_path / "x.png")
