import io
import itertools
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import photograph, png, png_chunk, png_header, tiff
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import color

from helpers import CourseError, images
from helpers.service import files

GRAY = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10) * 2
RGB = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=-1)
RAMP = np.linspace(0, 65535, 12 * 10).astype(np.uint16).reshape(12, 10)
TOP, LEFT = np.arange(GRAY.size).reshape(GRAY.shape) < 60, np.indices(GRAY.shape)[1] < 5
ALPHA = np.where(TOP, 255 * LEFT, GRAY)
OF_GRAY, OF_RGB = (bytes(16) + space + bytes(100) for space in (b"GRAY", b"RGB "))  # as much of a profile as counts


def encoded(picture: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------ unusual pictures


def trns(*key: int) -> bytes:
    return png_chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))


def kinds():
    """(name, what is stored, its colours in [0, 1], its alpha from 0 to 255)."""
    yield "RGB", encoded(RGB), RGB / 255, None
    yield "gray", encoded(GRAY), GRAY / 255, None
    yield "one bit", encoded(GRAY > 100), (GRAY > 100) / 1, None
    yield "16 bits", encoded(RAMP), RAMP / 65535, None
    yield "32 bits that fit into 16", encoded(RAMP.astype(np.int32), "TIFF"), RAMP / 65535, None
    yield "a profile", encoded(RGB, icc_profile=OF_RGB), RGB / 255, None
    ink = encoded(Image.new("CMYK", (16, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    yield "ink", ink, np.tile([1.0, 0, 0], (8, 16, 1)), None
    for bits in (8, 16):
        samples = np.where(TOP, 0, 2**bits - 2)
        for key in np.unique(samples):
            data, alpha = png(samples[..., None], bits, 0, trns(key)), np.where(samples == key, 0, 255)
            yield f"gray {key} is clear, {bits} bits", data, samples / (2**bits - 1), alpha
        colours = np.where(LEFT[..., None], [0x12, 0, 0xFF], [0x34, 0, 0xFF])
        samples = colours * (257 if bits == 16 else 1)
        yield f"a colour is clear, {bits} bits", png(samples, bits, 2, trns(*samples[0, 0])), colours / 255, 255 * ~LEFT
    for channels in (1, 3):
        colours, kind = RGB[..., :channels], 4 if channels == 1 else 6
        samples = np.dstack([colours, ALPHA])
        yield f"alpha, {channels} channels, PNG", png(samples, 8, kind), colours / 255, ALPHA
        yield f"alpha, {channels} channels, TIFF", tiff(samples, t262=channels // 2 + 1, t338=2), colours / 255, ALPHA
    yield "alpha, 16 bits", png(samples * 257, 16, 6), colours / 255, ALPHA
    for second in ((9, 9, 9), (200, 10, 30)):
        colours = np.array([[50, 50, 50], second], np.uint8)
        shown = colours[TOP.astype(int)][..., : 1 if second == (9, 9, 9) else 3] / 255
        chunks = png_chunk(b"PLTE", colours.tobytes()), png_chunk(b"tRNS", bytes([255, 0]))
        yield f"a palette, {second}", png(TOP[..., None], 1, 3, chunks[0]), shown, None
        yield f"a palette, {second} is clear", png(TOP[..., None], 1, 3, *chunks), shown, 255 * ~TOP


@pytest.mark.parametrize(("data", "colours", "alpha"), [pytest.param(*kind, id=name) for name, *kind in kinds()])
def test_a_picture_is_read_as_what_it_shows_on_white(tmp_path, data, colours, alpha):
    (path := tmp_path / "x.png").write_bytes(data)
    opaque = np.ones(colours.shape[:2]) if alpha is None else alpha / 255
    shown = torch.from_numpy(1 - opaque[..., None] * (1 - np.atleast_3d(colours))).movedim(-1, 0)
    image, pixels, found = images.load(str(path)), images.load_uint8(path), images.load_alpha(path)
    assert image.dtype == torch.float32 and image.shape == shown.shape
    assert (image - shown).abs().max() < (1.01 / 255 if np.unique(opaque).size > 2 else 1e-6)
    assert torch.equal(pixels, (255 * image.double()).round().to(torch.uint8))
    assert images.stored_size(path) == tuple(shown.shape[:0:-1])
    assert (found is None) == (alpha is None)
    if found is not None:
        assert torch.equal(found, torch.from_numpy(alpha)[None].to(torch.uint8))
        again = 1 - found / 255 * (1 - images.off_white(image, found / 255))
        assert (again - image).abs().max() < 1e-6


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """What is shown of stored pixels with an EXIF orientation from 1 to 8."""
    array = array.swapaxes(0, 1) if orientation > 4 else array
    array = array[:, ::-1] if orientation in (2, 3, 6, 7) else array
    return array[::-1] if orientation in (3, 4, 7, 8) else array


TIFFS = itertools.product(("tif", "lzw.tif"), ("1", "L", "I;16", "P", "RGB", "LA", "RGBA", "CMYK"))


@pytest.mark.parametrize(("suffix", "mode"), [("png", "RGB"), ("png", "P"), ("webp", "RGBA"), ("jpg", "RGB"), *TIFFS])
def test_exif_orientation_is_applied(tmp_path, suffix, mode):
    options = {"webp": {"lossless": True}, "lzw.tif": {"compression": "tiff_lzw"}}.get(suffix, {})
    picture = Image.fromarray(GRAY.astype(np.uint16) * 257)
    if mode != "I;16":
        picture = Image.fromarray(np.dstack([RGB, GRAY])).convert("RGB" if mode == "P" else mode)
        picture = picture.quantize(9) if mode == "P" else picture
    picture.save(path := tmp_path / f"x.{suffix}", **options)
    plain = images.load(path).movedim(0, -1).numpy()
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(path, exif=exif, **options)
        assert np.array_equal(images.load(path).movedim(0, -1), upright(plain, orientation))
        assert sorted(images.stored_size(path)) == [10, 12]


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("white", [0, 1])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_depth_of_a_tiff_is_read_right_or_refused(bits, white, order):
    """`white` is TIFF's own word for which end of the scale is white: 0 the lowest number, 1 the highest."""
    samples = np.random.default_rng(0).integers(0, 2**bits, (7, 9, 1))
    samples[0, :2, 0] = 0, 2**bits - 1
    expected = np.abs(1 - white - samples[..., 0] / (2**bits - 1))
    try:
        image = images.load(io.BytesIO(tiff(samples, bits, order, t262=white)))
    except CourseError:
        assert bits not in (1, 2, 4, 8) and (bits, white) != (16, 1)
    else:
        assert image.shape == (1, 7, 9) and np.abs(image[0].numpy() - expected).max() < 1e-5
        assert ((image == 1).sum(), (image == 0).sum()) == ((expected == 1).sum(), (expected == 0).sum())


@pytest.mark.parametrize(
    ("mode", "profile", "suffix", "kept"),
    [
        *(("RGBA", OF_RGB, "jpg", True), ("L", OF_GRAY, "tif", True), ("RGB", OF_GRAY, "png", False)),
        *(("L", OF_RGB, "webp", True), ("L", OF_GRAY, "webp", False)),  # which knows no gray
    ],
)
def test_a_profile_goes_with_its_pixels_or_is_dropped(tmp_path, mode, profile, suffix, kept):
    Image.fromarray(RGB).convert(mode).save(tmp_path / "in.png", icc_profile=profile)
    found = images.attributes(tmp_path / "in.png").get("icc_profile")
    images.save(tmp_path / f"out.{suffix}", images.load_uint8(tmp_path / "in.png"), icc_profile=found)
    with Image.open(tmp_path / f"out.{suffix}") as written:
        assert written.info.get("icc_profile") == (profile if kept else None)


# --------------------------------------------------------------------------------------- bad pictures

LARGE = encoded(np.tile(RGB, (8, 8, 1)))
BAD = {
    "empty.png": (b"", "empty"),
    "text.png": (b"this is no picture\n" * 20, "not a picture"),
    "half.png": (LARGE[: len(LARGE) // 2], "truncated"),
    "wide.png": (png_header(40_000, 10), "40000x10"),
    "bomb.png": (png_header(100_000, 100_000), "more pixels or memory than"),
    "large.png": (png_header(13_000, 13_000, 0), "truncated"),  # within the limits, above the size that Pillow warns of
    "program.png": (encoded(RGB, "EPS"), "programs that draw.*not read"),  # Pillow would give it to Ghostscript
    "palette.png": (png_header(4, 4, 3), "not a picture"),
    "float.tif": (encoded(GRAY.astype(np.float32), "TIFF"), "floats.*not read"),
    "signed.tif": (tiff(GRAY[..., None], 16, t339=2), "signed pixels.*not read"),
    "planes.tif": (tiff(GRAY[..., None], 16, t262=2, t277=3, t258=[16] * 3, t284=2), "16 in planes.*not read"),
    "negative.tif": (encoded(np.array([[0, -1]], np.int32), "TIFF"), "beyond 16 bits"),
    "deep.tif": (encoded(np.array([[0, 65_536]], np.int32), "TIFF"), "beyond 16 bits"),
    "none.png": (None, "no such file"),
    ".": (None, "directory"),
}


def refused(path: Path, hint: str, function, *arguments) -> None:
    """One sentence that begins with the file's name."""
    with pytest.raises(CourseError, match=hint) as caught:
        function(path, *arguments)
    message = str(caught.value)
    assert message.startswith(str(path)) and message.endswith(".") and "\n" not in message


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_get_one_sentence(tmp_path, name):
    content, hint = BAD[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, hint, images.load)


# ----------------------------------------------------------------------------------------------- save


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".tiff"])
def test_save_and_load_is_exact_in_8_bits(tmp_path, channels, suffix):
    pixels = torch.stack([torch.arange(256, dtype=torch.uint8).roll(9 * c).view(16, 16) for c in range(channels)])
    for picture in (pixels, images.to_float(pixels), images.to_float(pixels).double().requires_grad_()):
        path = images.save(tmp_path / f"there{suffix}", picture)
        assert torch.equal(images.load_uint8(path), pixels)
    assert images.to_uint8(pixels) is pixels and torch.equal(images.quantize(pixels), images.to_float(pixels))
    assert [p.name for p in tmp_path.iterdir()] == [f"there{suffix}"]


def test_save_clips_and_rounds_as_quantize_does(tmp_path):
    x = torch.tensor([[[-1.0, 0.4 / 255, 0.6 / 255, 2.0]]])
    path = images.save(tmp_path / "x.png", x)
    assert images.load_uint8(path).flatten().tolist() == [0, 0, 1, 255]
    assert torch.equal(images.quantize(x), images.load(path))


@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_formats_are_saved_at_quality_95_unless_the_caller_says_otherwise(tmp_path, channels):
    x = images.to_uint8(photograph(64, 64, channels))
    array = np.ascontiguousarray(x.movedim(0, -1).numpy().squeeze())
    for name, options, kind, expected in (
        ("x.jpg", {"optimize": True}, "JPEG", {"quality": 95, "subsampling": 0, "optimize": 1}),
        ("x.jpeg", {"quality": 20, "subsampling": "4:2:0"}, "JPEG", {"quality": 20, "subsampling": 2}),
        ("x.webp", {}, "WEBP", {"quality": 95}),
    ):
        assert images.save(tmp_path / name, x, **options).read_bytes() == encoded(array, kind, **expected)


UNSAVED = [
    *(
        ("x.png", torch.zeros(shape), re.escape(f"{shape}"), {})
        for shape in [(1, 1, 4, 4), (4, 4), (2, 4, 4), (3, 0, 4)]
    ),
    *((name, photograph(), "unknown picture format", {}) for name in ("x.xyz", "x")),
    ("x.png", torch.zeros(1, 4, 4, dtype=torch.uint16), "uint16", {}),
    ("nowhere/x.png", photograph(), "nowhere does not exist", {}),
    ("x.png", photograph(), r"no quality 90; .* \.jpg", {"quality": 90}),
    ("x.jpg", photograph(), r"no quality 101; .* 1 to 100", {"quality": 101}),
    ("x.webp", torch.zeros(1, 16_384, 1), r"(16383 pixels|error 5).* a .png file", {}),
]


@pytest.mark.parametrize(("name", "picture", "hint", "options"), UNSAVED)
def test_what_cannot_be_saved_is_one_sentence_and_no_file(tmp_path, name, picture, hint, options):
    with pytest.raises(CourseError, match=hint) as caught:
        images.save(tmp_path / name, picture, **options)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_file_that_another_program_reads_for_a_moment_is_renamed_all_the_same(tmp_path, monkeypatch):
    """As on Windows, where a virus scanner holds what is new; who holds it for good is an error."""
    tries, rename = [], files.os.replace

    def held(source, target, until=3):
        tries.append(target)
        if len(tries) < until:
            raise PermissionError(13, "Permission denied", str(source), None, str(target))
        rename(source, target)

    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(files.os, "replace", held)
    with files.atomic(tmp_path / "x") as part:
        part.write_bytes(b"new")
    assert (tmp_path / "x").read_bytes() == b"new" and len(tries) == 3
    monkeypatch.setattr(files.os, "replace", lambda source, target: held(source, target, 99))
    with pytest.raises(OSError, match="Permission denied"), files.atomic(tmp_path / "y"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_two_writers_of_one_file_have_each_their_own(tmp_path):
    with files.atomic(tmp_path / "x") as one, files.atomic(tmp_path / "x") as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "one"


def test_what_cannot_be_written_is_named_not_what_was_read(tmp_path):
    """A full disk's error names no file in a write, two in a copy; what has no number keeps its words."""
    for names in ((), ("source", None, "copy"), ("copy",)):
        with pytest.raises(OSError) as caught, files.atomic(tmp_path / "x") as part:
            raise OSError(28, "full", *(str(part) if name == "copy" else name for name in names))
        assert str(caught.value) == f"[Errno 28] full: {str(tmp_path / 'x')!r}"
    for error in (OSError("encoder error -2"), OSError(5, "no such sector", "source", None, "copy")):
        with pytest.raises(OSError) as caught, files.atomic(tmp_path / "x"):
            raise error
        assert caught.value is error


def test_listing(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        refused(folder, "no folder with pictures in it", images.listing)
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    assert [p.name for p in images.listing(tmp_path)] == ["a.JPG", "b.png"]


# -------------------------------------------------------------------------------------- numbers, colour


def test_crop_to_multiple_and_shave():
    x = torch.arange(7 * 11.0).view(1, 7, 11)
    assert torch.equal(images.crop_to_multiple(x, 3), x[:, :6, :9])
    assert torch.equal(images.shave(x, 2), x[:, 2:5, 2:9])
    assert images.shave(x, 0) is x
    with pytest.raises(CourseError, match="11x7"):
        images.crop_to_multiple(x, 8)


def test_ycbcr_is_scikit_images_and_has_its_inverse():
    x = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    reference = torch.from_numpy(color.rgb2ycbcr(x.movedim(1, -1).double().numpy())).movedim(-1, 1) / 255
    assert torch.allclose(images.rgb_to_ycbcr(x).double(), reference, atol=1e-6)
    assert torch.allclose(images.luma(x).double(), reference[:, :1], atol=1e-6)
    for studio in (True, False):
        assert torch.allclose(images.ycbcr_to_rgb(images.rgb_to_ycbcr(x, studio), studio), x, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_luma_in_8_bits_of_any_type(channels):
    x = images.to_uint8(photograph(channels=channels))
    expected = images.to_uint8(images.luma(x / 255))
    for some in (x, x / 255, (x.int() * 257).to(torch.uint16)):
        assert torch.equal(images.luma_uint8(some), expected)
    assert torch.equal(images.luma_uint8(x[None]), expected[None])


# ---------------------------------------------------------------------------------------------- tiles


def box(x: torch.Tensor) -> torch.Tensor:
    """Sums over 5 × 5 pixels of whole numbers: exact, and it looks 2 pixels far; twice as large."""
    flat = torch.nn.functional.avg_pool2d(x.reshape(-1, 1, *x.shape[-2:]), 5, 1, 2, divisor_override=1)
    return flat.reshape(x.shape).repeat_interleave(2, -1).repeat_interleave(2, -2)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.integers(2, 5), st.integers(0, 2))
def test_tiles_with_a_halo_equal_the_whole(height, width, tile, halo, batch):
    x = torch.randint(256, (batch, 3, height, width)[batch == 0 :]).float()
    assert torch.equal(images.map_tiles(box, x, tile, halo, scale=2), box(x))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 6))
def test_split_and_join_are_inverse(channels, rows, columns, tile):
    x = torch.arange(channels * rows * columns * tile**2).view(channels, rows * tile, columns * tile)
    tiles = images.split_tiles(x, tile)
    assert torch.equal(tiles[columns - 1], x[:, :tile, -tile:])  # row by row
    assert torch.equal(images.join_tiles(tiles, columns), x)
    if tile > 1:
        with pytest.raises(CourseError, match="do not divide"):
            images.split_tiles(x[:, 1:], tile)
