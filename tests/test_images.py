import errno
import io
import os
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from builders import photograph, png, png_chunk, png_header, tiff
from PIL import Image, ImageCms
from skimage import color

from helpers import CourseError, degradations, images
from helpers.service import files

GRAY = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10) * 2
RGB = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=-1)


def chw(array: np.ndarray) -> torch.Tensor:
    """(H, W) or (H, W, 3) 8-bit array → float (C, H, W), computed apart from the package."""
    array = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))).float() / 255


# ------------------------------------------------------------------------------------ unusual pictures


def test_rgb_and_gray_are_float_chw(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "rgb.png")
    Image.fromarray(GRAY).save(tmp_path / "gray.png")
    rgb, gray = images.load(tmp_path / "rgb.png"), images.load(str(tmp_path / "gray.png"))
    assert rgb.dtype == gray.dtype == torch.float32
    assert torch.equal(rgb, chw(RGB))
    assert torch.equal(gray, chw(GRAY))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_gray_keeps_its_precision(tmp_path, suffix):
    values = np.linspace(0, 65535, 12 * 10).astype(np.uint16).reshape(12, 10)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    image = images.load(tmp_path / f"deep.{suffix}")
    assert image.shape == (1, 12, 10)
    assert torch.allclose(image[0].double(), torch.from_numpy(values / 65535), atol=1e-7)
    assert len(image.unique()) == 120  # 8 bits could hold them only if they were spread so by chance: check one
    assert image[0, 0, 1].item() * 255 % 1 > 0.1


def test_big_endian_16_bit_tiff(tmp_path):
    values = np.linspace(0, 65535, 120).astype(">u2").reshape(12, 10)
    Image.frombytes("I;16B", (10, 12), values.tobytes()).save(tmp_path / "big.tif")
    assert torch.allclose(images.load(tmp_path / "big.tif")[0].double(), torch.from_numpy(values / 65535.0), atol=1e-7)


def test_16_bit_gray_as_uint8_is_rounded(tmp_path):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    loaded = images.load_uint8(tmp_path / "deep.png")
    assert loaded.dtype == torch.uint8
    assert loaded[0, 0].tolist() == [0, 0, 1, 1, 128, 255]  # v / 257, to the nearest


def test_palette(tmp_path):
    colours = [200, 10, 30, 0, 255, 0, 12, 34, 56]
    picture = Image.fromarray((GRAY % 3).astype(np.uint8), "P")
    picture.putpalette(colours)
    picture.save(tmp_path / "palette.png")
    assert torch.equal(images.load(tmp_path / "palette.png"), chw(np.array(colours, np.uint8).reshape(3, 3)[GRAY % 3]))


def test_palette_with_transparency_lies_on_white(tmp_path):
    picture = Image.fromarray((GRAY % 2).astype(np.uint8), "P")
    picture.putpalette([200, 10, 30, 0, 0, 0])
    picture.save(tmp_path / "clear.png", transparency=1)
    expected = np.array([[200, 10, 30], [255, 255, 255]], np.uint8)[GRAY % 2]
    assert torch.equal(images.load(tmp_path / "clear.png"), chw(expected))


def test_gray_palette_is_one_exact_channel(tmp_path):
    ramp = np.arange(255, -1, -1)  # reversed, so that an index is not its value
    picture = Image.fromarray(GRAY, "P")
    picture.putpalette(np.repeat(ramp, 3).astype(np.uint8).tobytes())
    picture.save(tmp_path / "ramp.png")
    assert torch.equal(images.load(tmp_path / "ramp.png"), chw(255 - GRAY))


def test_alpha_lies_on_white(tmp_path):
    alpha = np.array([0, 255, 128], np.uint8)
    Image.fromarray(np.array([[[100, 50, 200, a] for a in alpha]], np.uint8), "RGBA").save(tmp_path / "rgba.png")
    image = images.load(tmp_path / "rgba.png") * 255
    expected = torch.tensor([[255 - (255 - c) * a / 255 for a in alpha.tolist()] for c in (100, 50, 200)])
    assert image.shape == (3, 1, 3)
    assert (image[:, 0] - expected).abs().max() <= 1


def test_gray_with_alpha_lies_on_white_and_stays_gray(tmp_path):
    Image.fromarray(np.array([[[100, 0], [100, 255], [100, 128]]], np.uint8), "LA").save(tmp_path / "la.png")
    image = images.load(tmp_path / "la.png") * 255
    assert image.shape == (1, 1, 3)
    assert (image[0, 0] - torch.tensor([255, 100, 255 - 155 * 128 / 255])).abs().max() <= 1


@pytest.mark.parametrize(
    ("ink", "rgb"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ],
)
def test_cmyk_jpeg_becomes_rgb(tmp_path, ink, rgb):
    Image.new("CMYK", (16, 8), ink).save(tmp_path / "ink.jpg", quality=100)
    image = images.load(tmp_path / "ink.jpg") * 255
    assert image.shape == (3, 8, 16)
    assert (image - torch.tensor(rgb)[:, None, None]).abs().max() <= 3


def test_one_bit(tmp_path):
    Image.fromarray(GRAY > 100).save(tmp_path / "bit.png")
    assert torch.equal(images.load(tmp_path / "bit.png"), torch.from_numpy(GRAY > 100)[None].float())


@pytest.mark.parametrize("array", [GRAY, RGB], ids=["gray", "rgb"])
def test_a_colour_profile_changes_no_number(tmp_path, array):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(array).save(tmp_path / "profile.png", icc_profile=profile)
    assert torch.equal(images.load(tmp_path / "profile.png"), chw(array))


ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("tag", ORIENTATIONS)
@pytest.mark.parametrize("array", [GRAY, RGB, GRAY.astype(np.uint16) * 257], ids=["gray", "rgb", "deep"])
def test_exif_orientation_is_applied(tmp_path, tag, array):
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    expected = ORIENTATIONS[tag](array if array.dtype == np.uint8 else GRAY)
    assert torch.allclose(images.load(tmp_path / "turned.png"), chw(expected), atol=1e-6)


STORED = {  # name: what is stored, how
    "png": ("PNG", ["1", "L", "I;16", "P", "RGB", "LA", "RGBA"], {}),
    "webp": ("WEBP", ["RGB", "RGBA"], {"lossless": True}),
    "jpg": ("JPEG", ["L", "RGB", "CMYK"], {}),
    "tif": ("TIFF", ["1", "L", "I;16", "P", "RGB", "LA", "RGBA", "CMYK"], {}),
    "lzw.tif": ("TIFF", ["1", "L", "I;16", "P", "RGB", "LA", "RGBA", "CMYK"], {"compression": "tiff_lzw"}),
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, kind in STORED.items() for mode in kind[1]])
def test_exif_orientation_in_every_mode_and_format(tmp_path, suffix, mode):
    kind, _, options = STORED[suffix]
    picture = Image.fromarray(GRAY.astype(np.uint16) * 257)
    if mode != "I;16":
        picture = Image.fromarray(np.dstack([RGB, GRAY])).convert("RGB" if mode == "P" else mode)
        picture = picture.quantize(9) if mode == "P" else picture
    picture.save(tmp_path / f"plain.{suffix}", kind, **options)
    plain = images.load(tmp_path / f"plain.{suffix}").movedim(0, -1).numpy()
    for tag, turn in ORIENTATIONS.items():
        exif = Image.Exif()
        exif[0x0112] = tag
        picture.save(path := tmp_path / f"{tag}.{suffix}", kind, exif=exif, **options)
        assert np.array_equal(images.load(path).movedim(0, -1), turn(plain))
        assert sorted(images.stored_size(path)) == [10, 12]


READ = [(bits, white, order) for bits in (1, 2, 4, 8) for white in (0, 1) for order in "<>"]
READ += [(12, 1, "<"), (16, 0, "<"), (16, 1, "<"), (16, 1, ">")]


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("white", [0, 1])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_depth_of_a_tiff_is_read_right_or_refused(tmp_path, bits, white, order):
    """`white` is TIFF's own word for which end of the scale is white: 0 the lowest number, 1 the highest."""
    samples = np.random.default_rng(0).integers(0, 2**bits, (7, 9, 1))
    samples[0, :2, 0] = 0, 2**bits - 1
    (tmp_path / "deep.tif").write_bytes(tiff(samples, bits, order, t262=white))
    expected = np.abs(1 - white - samples[..., 0] / (2**bits - 1))
    try:
        image = images.load(tmp_path / "deep.tif")
    except CourseError as why:
        one_sentence(str(why), tmp_path / "deep.tif")
        assert (bits, white, order) not in READ
    else:
        assert image.shape == (1, 7, 9)
        assert np.abs(image[0].numpy() - expected).max() < 1e-5
        assert ((image == 1).sum(), (image == 0).sum()) == ((expected == 1).sum(), (expected == 0).sum())


@pytest.mark.parametrize(
    ("bits", "tags"),
    [(8, {"t339": 2}), (16, {"t339": 2}), (16, {"t262": 2, "t277": 3, "t258": [16] * 3, "t284": 2})],
    ids=["signed 8 bits", "signed 16 bits", "16 bits in planes"],
)
def test_what_pillow_would_guess_of_a_tiff_is_refused(tmp_path, bits, tags):
    (tmp_path / "odd.tif").write_bytes(tiff(GRAY[..., None], bits, **tags))
    with pytest.raises(CourseError, match="signed pixels, or 16 bits in separate planes") as caught:
        images.load(tmp_path / "odd.tif")
    one_sentence(str(caught.value), tmp_path / "odd.tif")


def over_white(pixels: np.ndarray, opaque: np.ndarray) -> torch.Tensor:
    return chw(np.where(opaque[..., None], pixels, 255).astype(np.uint8).squeeze())


TOP, LEFT = np.arange(GRAY.size).reshape(GRAY.shape) < 60, np.indices(GRAY.shape)[1] < 5


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_gray_lies_on_white_and_stays_gray(tmp_path, bits):
    top = 2**bits - 1
    samples = np.where(TOP, 0, top - 1 if bits > 1 else 1)[..., None]
    for key in np.unique(samples):
        (tmp_path / "x.png").write_bytes(png(samples, bits, 0, png_chunk(b"tRNS", struct.pack(">H", key))))
        expected = np.where(samples[..., 0] == key, 1, samples[..., 0] / top)
        assert np.abs(images.load(tmp_path / "x.png").numpy() - expected[None]).max() < 1e-6


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("colour", "channels"), [(4, 1), (6, 3)], ids=["gray", "rgb"])
def test_an_alpha_channel_lies_on_white_and_channels_are_kept(tmp_path, bits, colour, channels):
    pixels = RGB[..., :channels]
    samples = np.dstack([pixels, np.where(LEFT, 255, 0)]).astype(int) * (257 if bits == 16 else 1)
    (tmp_path / "x.png").write_bytes(png(samples, bits, colour))
    assert torch.equal(images.load(tmp_path / "x.png"), over_white(pixels, LEFT))


def test_a_transparent_colour_of_16_bits_agrees_in_all_of_them(tmp_path):
    """Pillow keeps the upper byte alone: neighbours of the transparent colour must stay what they are."""
    samples = np.where(LEFT[..., None], [0x1234, 0, 0xFF00], [0x1235, 0, 0xFF00])
    for key, clear in (((0x1234, 0, 0xFF00), LEFT), ((0x1235, 0, 0xFF00), ~LEFT), ((0x12, 0, 0xFF), LEFT & ~LEFT)):
        (tmp_path / "x.png").write_bytes(png(samples, 16, 2, png_chunk(b"tRNS", struct.pack(">3H", *key))))
        assert torch.equal(images.load(tmp_path / "x.png"), over_white(samples >> 8, ~clear))


@pytest.mark.parametrize("gray", [False, True])
def test_a_transparent_palette_keeps_its_channels(tmp_path, gray):
    colours = np.array([[50, 50, 50], [9, 9, 9] if gray else [200, 10, 30]], np.uint8)
    chunks = png_chunk(b"PLTE", colours.tobytes()), png_chunk(b"tRNS", bytes([255, 0]))
    (tmp_path / "x.png").write_bytes(png(TOP[..., None], 1, 3, *chunks))
    expected = over_white(colours[TOP.astype(int)], ~TOP)
    assert torch.equal(images.load(tmp_path / "x.png"), expected[:1] if gray else expected)


@pytest.mark.parametrize("extra", [1, 2], ids=["premultiplied", "straight"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_alpha_of_a_tiff_lies_on_white(tmp_path, channels, extra):
    pixels = RGB[..., :channels] * (LEFT[..., None] if extra == 1 else 1)
    samples = np.dstack([pixels, np.where(LEFT, 255, 0)])
    (tmp_path / "x.tif").write_bytes(tiff(samples, t262=1 if channels == 1 else 2, t338=extra))
    try:
        image = images.load(tmp_path / "x.tif")
    except CourseError:
        assert (channels, extra) == (1, 1)  # which an old Pillow does not know
    else:
        assert torch.equal(image, over_white(pixels, LEFT))


@pytest.mark.parametrize("rows", [1, 5, 12])
@pytest.mark.parametrize("mode", ["1", "L", "L, clear", "LA", "P", "P, clear", "RGB", "RGB, clear", "RGBA", "CMYK"])
def test_strips_make_up_the_picture(tmp_path, monkeypatch, mode, rows):
    """It is converted some rows at a time, the last strip being lower: no row is lost or doubled."""
    colour, path = Image.fromarray(np.dstack([RGB, GRAY])), tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    mode, *clear = mode.split(", ")
    picture = colour.convert("RGB").quantize(9) if mode == "P" else colour.convert(mode)
    picture.save(path, **({"transparency": picture.getpixel((0, 0))} if clear else {}))
    whole = images.load(path)
    assert whole.shape[-2:] == (12, 10) and (not clear or (whole[:, 0, 0] == 1).all())
    monkeypatch.setattr(images, "STRIP", rows * 10)
    assert torch.equal(images.load(path), whole)


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (255, 0, 51)).save(tmp_path / "dot.png")
    assert torch.equal(images.load(tmp_path / "dot.png"), torch.tensor([1.0, 0.0, 0.2]).view(3, 1, 1))


# ------------------------------------------------------------------------------------------- metadata

BOMB = zlib.compress(bytes(3_000_000))  # Pillow's limit is one
BAD_CHUNKS = {
    "text of a wrong checksum": png_chunk(b"tEXt", b"a\0b", checksum=1),
    "long text": png_chunk(b"zTXt", b"a\0\0" + BOMB),
    "long international text": png_chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB),
    "much text": png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 70,
    "an unknown compression": png_chunk(b"zTXt", b"a\0\1abc"),
    "a profile of unknown compression": png_chunk(b"iCCP", b"a\0\1abc"),
    "a long profile": png_chunk(b"iCCP", b"a\0\0" + BOMB),
    "a short gamma": png_chunk(b"gAMA", b"\0"),
    "a short resolution": png_chunk(b"pHYs", b"\0"),
    "EXIF that is none": png_chunk(b"eXIf", b"garbage"),
    "EXIF as bad text": png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  8\nzz"),
    "text in the place of XMP": png_chunk(b"tEXt", b"xmp\0abc"),
    "text called interlace": png_chunk(b"tEXt", b"interlace\0abc"),
    "a short animation": png_chunk(b"acTL", b"\0"),
    "a name that is none": png_chunk(b"a\xffbc", b"abc"),
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
    assert isinstance(images.colour_profile(tmp_path / "x.png"), bytes | None)
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
    assert images.colour_profile(tmp_path / "x.png") == b"p" * 200


BAD_SEGMENTS = {
    "a short JFIF": (0xE0, b"JFIF\0"),
    "EXIF that is none": (0xE1, b"Exif\0\0garbage"),
    "EXIF that ends": (0xE1, b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"),
    "a short profile": (0xE2, b"ICC_PROFILE\0"),
    "more pictures that are none": (
        0xE2,
        b"MPF\0II*\0\x08\0\0\0\2\0\1\xb0\4\0\5\0\0\0\0\0\0\0\2\xb0\7\0\3\0\0\0abc\0",
    ),
    "a short Photoshop": (0xED, b"Photoshop 3.0\x008BIM"),
    "a short Adobe": (0xEE, b"Adobe"),
}


@pytest.mark.parametrize("segment", BAD_SEGMENTS.values(), ids=BAD_SEGMENTS)
def test_bad_segments_of_a_jpeg_cost_no_pixels(tmp_path, recwarn, segment):
    marker, body = segment
    data = encoded("JPEG")
    (tmp_path / "x.jpg").write_bytes(data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:])
    assert torch.equal(images.load(tmp_path / "x.jpg"), images.load(io.BytesIO(data)))
    assert not recwarn


def test_a_turned_jpeg_with_rationals_that_divide_by_zero(tmp_path):
    """Pillow 11 turns it, writes its EXIF again, and divides −1 by 0."""
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x011A, 10, 1, 38)
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4) + struct.pack("<ii", -1, 0)
    Image.fromarray(RGB).save(tmp_path / "turned.jpg", exif=block)
    Image.fromarray(RGB).save(tmp_path / "plain.jpg")
    plain = images.load(tmp_path / "plain.jpg").movedim(0, -1).numpy()
    assert np.array_equal(images.load(tmp_path / "turned.jpg").movedim(0, -1), ORIENTATIONS[6](plain))


BAD_TAGS = {
    "resolution as text": {"t282": b"abc\0", "t283": b"abc\0", "t296": 3},
    "XMP of numbers": {"t700": [1, 2]},
    "XMP as text": {"t700": b"abcde\0"},
    "EXIF elsewhere": {"t34665": 2**31 - 1},
    "EXIF as text": {"t34665": b"abc\0"},
    "an orientation as text": {"t274": b"abcdef\0"},
    "a profile of numbers": {"t34675": 5},
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tags", BAD_TAGS.values(), ids=BAD_TAGS)
def test_bad_tags_of_a_tiff_cost_no_pixels(tmp_path, recwarn, tags, order):
    (tmp_path / "x.tif").write_bytes(tiff(RGB, order=order, t262=2, **tags))
    assert torch.equal(images.load(tmp_path / "x.tif"), chw(RGB))
    assert images.colour_profile(tmp_path / "x.tif") is None
    assert not recwarn


def test_bad_exif_of_an_avif_costs_no_pixels(tmp_path):
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow writes no AVIF")
    exif = Image.Exif()
    exif[0x010E] = "a cat"
    Image.fromarray(RGB).save(tmp_path / "x.avif", exif=exif)
    sound, data = images.load(tmp_path / "x.avif"), (tmp_path / "x.avif").read_bytes()
    start = exif.tobytes()[6:14]
    assert start in data
    (tmp_path / "x.avif").write_bytes(data.replace(start, b"none" * 2))
    assert torch.equal(images.load(tmp_path / "x.avif"), sound)


def test_bad_metadata_do_not_hide_missing_pixels(tmp_path):
    data = png(np.tile(RGB, (9, 9, 1)), 8, 2, BAD_CHUNKS["long text"])
    (tmp_path / "x.png").write_bytes(data[:-200])
    with pytest.raises(CourseError, match="damaged or truncated"):
        images.load(tmp_path / "x.png")


GRAY_PROFILE, RGB_PROFILE = (bytes(16) + space + bytes(100) for space in (b"GRAY", b"RGB "))


@pytest.mark.parametrize(
    ("mode", "profile", "suffix", "kept"),
    [
        ("RGBA", RGB_PROFILE, "png", True),
        ("P", RGB_PROFILE, "png", True),
        ("P", RGB_PROFILE, "jpg", True),
        ("RGB", RGB_PROFILE, "webp", True),
        ("RGB", GRAY_PROFILE, "png", False),
        ("L", GRAY_PROFILE, "png", True),
        ("LA", GRAY_PROFILE, "jpg", True),
        ("I;16", GRAY_PROFILE, "tif", True),
        ("L", GRAY_PROFILE, "webp", False),  # which knows no gray
        ("L", RGB_PROFILE, "webp", True),
        ("L", RGB_PROFILE, "png", False),
        ("RGB", b"short", "png", False),
    ],
)
def test_a_profile_goes_with_its_pixels_or_is_dropped(tmp_path, mode, profile, suffix, kept):
    picture = Image.fromarray(GRAY.astype(np.uint16)) if mode == "I;16" else Image.fromarray(RGB)
    picture = picture if mode == "I;16" else picture.quantize(9) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "in.png", icc_profile=profile)
    found = images.colour_profile(tmp_path / "in.png")
    images.save(tmp_path / f"out.{suffix}", images.load_uint8(tmp_path / "in.png"), icc_profile=found)
    with Image.open(tmp_path / f"out.{suffix}") as written:
        assert written.info.get("icc_profile") == (profile if kept else None)


# --------------------------------------------------------------------------------------- bad pictures


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    Image.fromarray(np.tile(RGB, (8, 8, 1))).save(buffer, kind, **options)
    return buffer.getvalue()


BAD = {
    "empty.png": (b"", "empty"),
    "text.png": (b"this is no picture\n" * 20, "not a picture"),
    "half.png": (encoded("PNG")[: len(encoded("PNG")) // 2], "truncated"),
    "half.jpg": (encoded("JPEG")[: len(encoded("JPEG")) // 2], "truncated"),
    "wide.png": (png_header(40_000, 10), "40000x10"),
    "tall.png": (png_header(10, 40_000), "10x40000"),
    "bomb.png": (png_header(100_000, 100_000), "pixels"),
    "program.png": (encoded("EPS"), "EPS is a program"),  # Pillow would give it to Ghostscript
    "palette.png": (png_header(4, 4, 3), "damaged"),  # it has none
}


def one_sentence(message: str, path) -> None:
    assert message.startswith(str(path))
    assert "\n" not in message
    assert message.endswith(".")


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("read", [images.load, images.load_uint8])
def test_bad_pictures_get_one_sentence(tmp_path, name, read):
    content, hint = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CourseError, match=hint) as caught:
        read(tmp_path / name)
    one_sentence(str(caught.value), tmp_path / name)


@pytest.mark.parametrize(
    ("why", "hint"),
    [(RuntimeError("no plane\nno frame"), "damaged or truncated .no plane no frame."), (MemoryError(), "more memory")],
)
def test_whatever_pillow_raises_is_one_sentence(tmp_path, monkeypatch, why, hint):
    """The AVIF library raises RuntimeErrors; a box of JPEG 2000 or a chunk of PNG may ask for gigabytes."""

    def fail(*_):
        raise why

    images.save(tmp_path / "x.png", photograph(4, 4))
    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(CourseError, match=hint) as caught:
        images.load(tmp_path / "x.png")
    one_sentence(str(caught.value), tmp_path / "x.png")


def test_missing_file_and_folder_get_one_sentence(tmp_path):
    for path, hint in ((tmp_path / "none.png", "no such file"), (tmp_path, "folder")):
        with pytest.raises(CourseError, match=hint) as caught:
            images.load(path)
        one_sentence(str(caught.value), path)


def test_floating_point_tiff_is_refused_by_name(tmp_path):
    Image.fromarray(GRAY.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(CourseError, match="floating-point") as caught:
        images.load(tmp_path / "float.tif")
    one_sentence(str(caught.value), tmp_path / "float.tif")


@pytest.mark.parametrize("value", [-1, 65_536, 2_000_000_000])
def test_32_bit_gray_is_refused_where_16_bits_do_not_hold_it(tmp_path, value):
    path = tmp_path / "deep.tif"
    Image.fromarray(np.array([[0, value]], np.int32)).save(path)
    for read in (images.load, images.load_uint8):
        with pytest.raises(CourseError, match="65535") as caught:
            read(path)
        one_sentence(str(caught.value), path)
    with open(path, "rb") as file, pytest.raises(CourseError, match="^the picture: "):
        images.load(file)


def test_32_bit_gray_within_16_bits_is_read_as_such(tmp_path):
    Image.fromarray(np.array([[0, 257, 65_535]], np.int32)).save(tmp_path / "deep.tif")
    assert torch.allclose(images.load(tmp_path / "deep.tif"), torch.tensor([[[0, 1 / 255, 1]]]))


def test_the_stored_size_is_that_of_the_header(tmp_path):
    (tmp_path / "header.png").write_bytes(png_header(1_000, 20))  # its pixels are missing
    assert images.stored_size(tmp_path / "header.png") == (1_000, 20)
    (tmp_path / "wide.png").write_bytes(png_header(40_000, 20))
    with pytest.raises(CourseError, match="40000x20"):
        images.stored_size(tmp_path / "wide.png")


def test_what_lies_within_the_limits_is_not_called_too_large(tmp_path):
    """13,000 squared is below MAX_PIXELS and above the size at which Pillow warns."""
    side = 13_000
    assert side**2 < images.MAX_PIXELS
    (tmp_path / "large.png").write_bytes(png_header(side, side, mode_byte=0))
    with pytest.raises(CourseError, match="truncated"):
        images.load_uint8(tmp_path / "large.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_damage_anywhere_is_an_image_error_or_a_picture(tmp_path, kind):
    data, rng, refused = encoded(kind), random.Random(1), 0
    path = tmp_path / f"damaged.{kind.lower()}"
    for trial in range(60):
        if trial % 2:
            damaged = data[: rng.randrange(1, len(data))]
        else:
            damaged = bytearray(data)
            for _ in range(3):
                damaged[rng.randrange(min(len(data), 400))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            images.load(path)
        except CourseError as why:
            one_sentence(str(why), path)
            refused += 1
    assert refused > 20


def test_a_permission_error_names_the_file(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "mine.png").touch()
    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(CourseError, match="permission") as caught:
        images.load(tmp_path / "mine.png")
    one_sentence(str(caught.value), tmp_path / "mine.png")


# ----------------------------------------------------------------------------------------------- save


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".tiff"])
def test_save_and_load_is_exact_in_8_bits(tmp_path, channels, suffix):
    pixels = images.to_uint8(photograph(13, 17, channels))
    path = images.save(tmp_path / f"there{suffix}", pixels)
    assert torch.equal(images.load_uint8(path), pixels)
    images.save(path, images.to_float(pixels))
    assert torch.equal(images.load_uint8(path), pixels)
    assert [p.name for p in tmp_path.iterdir()] == [f"there{suffix}"]


def test_save_clips_and_rounds(tmp_path):
    path = images.save(tmp_path / "x.png", torch.tensor([[[-1.0, 0.4 / 255, 0.6 / 255, 2.0]]]))
    assert images.load_uint8(path).flatten().tolist() == [0, 0, 1, 255]


def coded(x: torch.Tensor, kind: str, **options) -> bytes:
    """The file that Pillow itself makes of a uint8 picture."""
    buffer = io.BytesIO()
    array = x[0] if len(x) == 1 else x.movedim(0, -1)
    Image.fromarray(np.ascontiguousarray(array.numpy())).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_formats_are_saved_at_quality_95_unless_the_caller_says_otherwise(tmp_path, channels):
    x = images.to_uint8(photograph(64, 64, channels))

    def saved(name: str, **options) -> bytes:
        return images.save(tmp_path / name, x, **options).read_bytes()

    assert saved("x.jpg") == coded(x, "JPEG", quality=95, subsampling=0)
    assert saved("x.jpeg", quality=20) == coded(x, "JPEG", quality=20, subsampling=0)
    assert saved("x.jpg", subsampling="4:2:0", optimize=True) == coded(
        x, "JPEG", quality=95, subsampling=2, optimize=True
    )
    assert saved("x.webp") == coded(x, "WEBP", quality=95)
    assert saved("x.webp", quality=20) == coded(x, "WEBP", quality=20)


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif"])
def test_a_quality_for_a_format_that_has_none(tmp_path, name):
    with pytest.raises(CourseError, match=r"no quality.*\.jpg") as caught:
        images.save(tmp_path / name, photograph(), quality=90)
    one_sentence(str(caught.value), tmp_path / name)
    assert not list(tmp_path.iterdir())


NAN = torch.full((1, 4, 4), 0.5).index_fill(2, torch.tensor([1]), float("nan"))


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        (torch.zeros(1, 1, 4, 4), r"\(1, 1, 4, 4\)"),
        (torch.zeros(4, 4), r"not \(4, 4\)"),
        (torch.zeros(2, 4, 4), r"\(2, 4, 4\)"),
        (torch.zeros(4, 4, 4, dtype=torch.uint8), r"\(4, 4, 4\)"),
        (torch.zeros(0, 4, 4), r"\(0, 4, 4\)"),
        (torch.zeros(3, 0, 4), r"\(3, 0, 4\)"),
        (torch.zeros(1, 4, 4, dtype=torch.uint16), "uint16"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "int64"),
        (torch.zeros(3, 4, 4, dtype=torch.bool), "bool"),
        (NAN, "NaN"),
        (NAN.double(), "NaN"),
    ],
)
def test_save_refuses_what_is_no_picture(tmp_path, image, hint):
    with pytest.raises(CourseError, match=hint) as caught:
        images.save(tmp_path / "x.png", image)
    one_sentence(str(caught.value), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_any_float_is_saved(tmp_path, dtype):
    x = photograph(8, 9)
    path = images.save(tmp_path / "x.png", x.to(dtype).requires_grad_())
    assert (images.load(path) - x).abs().max() <= 2 / 255


@pytest.mark.parametrize("channels", [1, 3])
def test_to_pillow_and_back(channels):
    x = images.to_uint8(photograph(7, 9, channels))
    assert images.to_pillow(x).size == (9, 7)
    assert torch.equal(images.from_pillow(images.to_pillow(x)), x)


@pytest.mark.parametrize("name", ["x.xyz", "x", "x.txt", "nowhere/x.png"])
def test_save_refuses_suffix_and_folder(tmp_path, name):
    with pytest.raises(CourseError) as caught:
        images.save(tmp_path / name, photograph())
    one_sentence(str(caught.value), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_an_image_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / ".x.part"))

    monkeypatch.setattr(images.os, "open", refuse)  # permissions do not bind root, who may run this
    with pytest.raises(CourseError) as caught:
        images.save(tmp_path / "x.png", photograph())
    one_sentence(str(caught.value), tmp_path / "x.png")


@pytest.mark.parametrize(("name", "side", "limit"), [("x.webp", 16_383, "16,383"), ("x.jpg", 65_500, "65,500")])
@pytest.mark.parametrize("upright", [False, True])
def test_a_picture_too_wide_for_its_format_is_refused_up_front(tmp_path, name, side, limit, upright):
    line = torch.zeros(1, 1, side + 1, dtype=torch.uint8)
    line = line.mT if upright else line
    fits = line[:, :side, :side]
    assert Image.open(images.save(tmp_path / name, fits)).size == (fits.shape[-1], fits.shape[-2])
    (tmp_path / name).unlink()
    for refuse in (lambda path: images.save(path, line), lambda path: images.check_writable(path, line.shape[:0:-1])):
        with pytest.raises(CourseError, match=f"{limit} pixels a side.*PNG") as caught:
            refuse(tmp_path / name)
        one_sentence(str(caught.value), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["save", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, where):
    path = images.save(tmp_path / "x.png", torch.zeros(1, 4, 4))

    def full(*arguments, **_):
        if where == "save":
            arguments[1].write_bytes(b"half a pict")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((Image.Image, "save") if where == "save" else (images.os, "replace")), full)
    with pytest.raises((OSError, CourseError)):
        images.save(path, torch.ones(1, 4, 4))
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
    assert images.load(path).max() == 0


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_saved_files_have_ordinary_permissions(tmp_path, monkeypatch, mask):
    before = os.umask(mask)
    try:
        (tmp_path / "plain").touch()
        monkeypatch.setattr(os, "umask", None)  # of the whole process: a thread that writes meanwhile would feel it
        path = images.save(tmp_path / "x.png", photograph())
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_two_writers_of_one_file_have_each_their_own(tmp_path):
    with files.atomic(tmp_path / "x") as one, files.atomic(tmp_path / "x") as two:
        assert one != two
        assert one.is_file()
        one.write_text("one")
        two.write_text("two")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "one"


def test_listing(tmp_path):
    with pytest.raises(CourseError, match="no picture"):
        images.listing(tmp_path)
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    assert [p.name for p in images.listing(tmp_path)] == ["a.JPG", "b.png"]
    with pytest.raises(CourseError, match="no such folder"):
        images.listing(tmp_path / "none")


# -------------------------------------------------------------------------------------------- numbers


def test_quantize_is_what_a_file_keeps(tmp_path):
    x = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    assert torch.equal(images.quantize(x), images.load(images.save(tmp_path / "x.png", x)))


def test_8_bits_survive_float():
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert torch.equal(images.to_uint8(images.to_float(every)), every)


def test_crop_to_multiple_and_shave():
    x = torch.arange(7 * 11.0).view(1, 7, 11)
    assert torch.equal(images.crop_to_multiple(x, 3), x[:, :6, :9])
    assert torch.equal(images.shave(x, 2), x[:, 2:5, 2:9])
    assert images.shave(x, 0) is x
    with pytest.raises(CourseError, match="11x7"):
        images.crop_to_multiple(x, 8)


# --------------------------------------------------------------------------------------------- colour


def test_ycbcr_is_scikit_images():
    x = torch.rand(3, 9, 8, generator=torch.Generator().manual_seed(0))
    reference = torch.from_numpy(color.rgb2ycbcr(x.movedim(0, -1).double().numpy())).movedim(-1, 0) / 255
    assert torch.allclose(images.rgb_to_ycbcr(x).double(), reference, atol=1e-6)
    assert torch.allclose(images.luma(x).double(), reference[:1], atol=1e-6)


def test_ycbcr_has_its_inverse_also_in_batches():
    x = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(images.ycbcr_to_rgb(images.rgb_to_ycbcr(x)), x, atol=1e-5)
    assert torch.allclose(images.luma(x)[1], images.luma(x[1]), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_luma_in_8_bits_of_any_type(channels):
    x = images.to_uint8(photograph(channels=channels))
    expected = images.to_uint8(images.luma(x / 255))
    for given in (x, x / 255, x[None], (x.int() * 257).to(torch.uint16)):
        y = images.luma_uint8(given)
        assert y.dtype == torch.uint8
        assert torch.equal(y.squeeze(0) if given.dim() == 4 else y, expected)


def test_luma_of_black_white_and_gray():
    assert images.luma(torch.zeros(3, 1, 1)).item() == pytest.approx(16 / 255)
    assert images.luma(torch.ones(3, 1, 1)).item() == pytest.approx(235 / 255)
    gray = photograph(channels=1)
    assert images.luma(gray) is gray


# ---------------------------------------------------------------------------------------------- tiles


def blur(x: torch.Tensor) -> torch.Tensor:
    return degradations.gaussian_blur(x, 1.0)  # looks 3 pixels far


@pytest.mark.parametrize("shape", [(3, 33, 47), (2, 1, 33, 47), (1, 5, 5), (1, 1, 1)])
def test_tiles_with_a_halo_equal_the_whole(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(images.map_tiles(blur, x, tile=10, halo=3), blur(x), atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 0, 5), (3, 5, 0), (2, 1, 0, 0)])
def test_a_picture_without_pixels_has_no_tiles(shape):
    with pytest.raises(CourseError, match=f"{shape[-1]}x{shape[-2]}"):
        images.map_tiles(blur, torch.zeros(shape), tile=10, halo=3)


def test_tiles_without_enough_halo_show_seams():
    x = torch.rand(1, 33, 47, generator=torch.Generator().manual_seed(0))
    for halo in (0, 2):
        difference = (images.map_tiles(blur, x, tile=10, halo=halo) - blur(x)).abs()
        assert difference.max() > 1e-4
        assert difference[:, 4, 4] < 1e-6  # the middle of a tile is right all the same


def test_tiles_may_enlarge_and_change_type():
    x = torch.randint(0, 256, (3, 13, 22), dtype=torch.uint8)

    def double(piece: torch.Tensor) -> torch.Tensor:
        return piece.repeat_interleave(2, -1).repeat_interleave(2, -2).float()

    result = images.map_tiles(double, x, tile=5, halo=1, scale=2)
    assert result.dtype == torch.float32
    assert torch.equal(result, double(x))


def test_split_and_join_are_inverse():
    x = torch.arange(2 * 12 * 20.0).view(2, 12, 20)
    tiles = images.split_tiles(x, 4)
    assert tiles.shape == (15, 2, 4, 4)
    assert torch.equal(tiles[6], x[:, 4:8, 4:8])  # row by row: the second of the second row
    assert torch.equal(images.join_tiles(tiles, columns=5), x)
    with pytest.raises(CourseError, match="20x12"):
        images.split_tiles(x, 8)


def test_an_array_is_no_picture(tmp_path):
    with pytest.raises(CourseError, match="not ndarray; of .H, W, C., torch.from_numpy"):
        images.save(tmp_path / "x.png", np.zeros((4, 4, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []
