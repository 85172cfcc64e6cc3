"""The .bic files: what goes in comes out, any size, and nothing damaged is taken for a picture."""

import io
import json
import math
import struct
import zlib

import pytest
import torch
from builders import fresh, photograph
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import CourseError, baselines, codec, datasets, degradations, evaluation, images, metrics, zoo
from helpers.entropy import TOP_RATE, ExactContext, laplace_bits
from helpers.models.binary_autoencoder import TransformAutoencoder

NAMES = ("tiny", "other", "bits", "layered")


@pytest.fixture(scope="module")
def tiny_zoo(tmp_path_factory):
    """A zoo with fresh codecs, whose context models are random: any of them must do for the bitstream."""

    def random(model):
        for network in model.context.networks:
            torch.nn.init.normal_(network[-1].weight, std=0.05)

    made = {name: ("codec", {"kind": "transform", "hidden": 4, "binary": name == "bits"}) for name in NAMES}
    made["layered-detail"] = ("codec", {"kind": "detail", "hidden": 4})
    return fresh(tmp_path_factory.mktemp("zoo"), made, random)


@pytest.fixture(autouse=True)
def weights(tiny_zoo, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tiny_zoo)
    codec._load.cache_clear()
    yield
    codec._load.cache_clear()


@pytest.fixture(scope="module")
def model(tiny_zoo) -> TransformAutoencoder:
    return zoo.load(tiny_zoo / "tiny.json")


@pytest.fixture(scope="module")
def data(tiny_zoo) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "WEIGHTS", tiny_zoo)
        codec._load.cache_clear()
        return codec.compress(photograph(40, 50), "tiny")


# --------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (16, 16), (17, 33), (48, 100)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_comes_back(size, channels):
    picture = photograph(*size, channels)
    decoded = codec.decompress(codec.compress(picture, "tiny", quality=90))
    assert decoded.shape == picture.shape and decoded.dtype == torch.float32
    assert metrics.psnr(decoded, picture) > 22  # half of the colour's detail is left out, whatever the rate


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 33), (48, 100)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_second_layer_takes_any_picture_on(size, channels):
    picture = photograph(*size, channels)
    files = [codec.compress(picture, "layered", quality=q) for q in (90, 93, 97, 100)]
    for rising in (list(map(len, files)), [min(45, metrics.psnr(codec.decompress(data), picture)) for data in files]):
        assert rising == sorted(rising)
    assert rising[-1] == 45
    assert [codec.read_header(data).dial for data in files] == [108, 130, 158, 180]


@pytest.mark.parametrize(("name", "quality"), [("tiny", 50), ("layered", 96)])
def test_files_are_the_same_by_one_thread_or_two_of_float_or_uint8_and_in_tiles(name, quality, monkeypatch):
    picture, threads = photograph(64, 90), torch.get_num_threads()
    data = codec.compress(images.to_uint8(picture), name, quality=quality)
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert codec.compress(picture, name, quality=quality) == data
    finally:
        torch.set_num_threads(threads)
    whole = codec.decompress_uint8(data)
    monkeypatch.setattr(codec, "TILE", 3)
    tiled = codec.compress(picture, name, quality=quality)
    assert tiled != data and torch.equal(codec.decompress_uint8(tiled), whole)  # the same codes, if not their bits


def test_higher_quality_takes_more_bytes_and_is_nearer():
    picture = photograph(96, 96)
    files = [codec.compress(picture, "tiny", quality=q) for q in (0, 50, 100)]
    for rising in (list(map(len, files)), [metrics.psnr(codec.decompress(data), picture) for data in files]):
        assert rising == sorted(rising)
    assert codec.dial_rate(0) == 0 and codec.dial_rate(codec.DIAL) == TOP_RATE


def test_a_rate_is_kept_and_used(monkeypatch):
    for rate in (0.6, 1.5):
        picture = photograph(96, 128)
        data = codec.compress(picture, "tiny", rate=rate)
        dial = codec.read_header(data).dial
        assert metrics.bits_per_pixel(data, picture) <= rate
        more = codec.compress(picture, "tiny", quality=100 * (dial + 1) / codec.DIAL)
        assert dial == codec.DIAL or metrics.bits_per_pixel(more, picture) > rate
    monkeypatch.setattr(codec, "TILE", 2)  # only some tiles are tried first
    picture = photograph(96, 160)
    picture[..., :32] = torch.rand(3, 96, 32)
    for name, rate in (("tiny", 2.0), ("layered", 1.0), ("layered", 12.0)):
        assert metrics.bits_per_pixel(codec.compress(picture, name, rate=rate), picture) <= rate


def test_a_second_layer_belongs_to_the_weights_that_it_was_trained_on(tiny_zoo):
    card = tiny_zoo / "layered-detail.json"
    about = json.loads(card.read_text())
    try:
        for name, last in (("layered", codec.DETAILED), ("other", codec.DIAL)):
            start = {"name": name, "sha256": zoo.card(name)["sha256"]}
            card.write_text(json.dumps(about | {"started_from": start}))
            assert codec.Codec("layered").last == last
    finally:
        card.write_text(json.dumps(about))


def test_the_second_layer_takes_as_many_bits_as_its_training_counted(tiny_zoo):
    picture, coder = photograph(128, 128), codec.load("layered")
    layer = zoo.load(tiny_zoo / "layered-detail.json")
    layer.codec = (coder.model,)
    with torch.no_grad():
        coded = layer(picture[None])  # at the middle of its dial
    files = [coder.encode(images.to_uint8(picture), place) for place in (codec.DIAL, 150)]
    bits = coded.bits_per_pixel.item() * 128**2
    assert 0.98 * bits < 8 * (len(files[1]) - len(files[0])) < 1.06 * bits + 256
    decoded = codec.decompress(files[1])
    assert metrics.psnr(images.quantize(coded.picture[0]), decoded) > 60


def test_rates_and_decibels_are_reached_by_either_layer():
    picture = photograph(96, 128)
    sizes, places, coder = [], [], codec.load("layered")
    for quality in (60, 92, 95, 100):
        data = codec.compress(picture, "layered", quality=quality)
        rate, wanted = metrics.bits_per_pixel(data, picture), metrics.psnr(codec.decompress(data), picture)
        place = codec.read_header(data).dial
        assert codec.read_header(codec.compress(picture, "layered", rate=rate)).dial == place
        places.append(codec.read_header(codec.compress(picture, "layered", psnr=wanted - 1e-6)).dial)
        sizes.append(coder.place(quality))
    assert places == sizes


def test_a_quality_in_decibels_is_reached_and_not_more():
    picture = photograph(96, 96)

    def reached(data: bytes) -> float:
        return metrics.psnr(codec.decompress(data), picture)

    low, high = (reached(codec.compress(picture, "tiny", quality=q)) for q in (0, 100))
    for wanted in (low - 1, low + 0.4 * (high - low), high):
        data = codec.compress(picture, "tiny", psnr=wanted)
        dial = codec.read_header(data).dial
        assert reached(data) >= wanted
        assert dial == 0 or reached(codec.compress(picture, "tiny", quality=100 * (dial - 1) / codec.DIAL)) < wanted


def test_the_file_is_as_long_as_the_context_model_says(model):
    picture = photograph(128, 128)
    dial = 60
    coder = codec.Codec("tiny")
    levels = coder.levels(images.to_uint8(picture), dial, (0, 0))
    rate = torch.tensor([codec.dial_rate(dial)])
    steps = model.steps(rate)
    with torch.no_grad():
        means, scales = model.context(levels[None] * steps, rate)
        bits = laplace_bits(levels[None].float(), means / steps, scales / steps).sum().item()
    data = coder.encode(images.to_uint8(picture), dial)
    assert len(data) <= 1.06 * bits / 8 + 32  # a level out of reach takes 26 bits; the formula ends at 23
    assert len(data) > 0.98 * bits / 8


# ------------------------------------------------------------------------------------ exact contexts


def test_sums_of_exact_contexts_do_not_depend_on_their_order(model):
    """The claim behind files that all machines read: weights and activations have so few bits that sums are exact."""
    exact = ExactContext(model.context)
    weight = exact.layers[8][0][0]
    x = torch.round(torch.randn(weight.shape[1], 50, dtype=torch.float64) * 2**11 * 4) / 2**11
    order = torch.randperm(weight.shape[1])
    assert torch.equal(weight @ x, weight[:, order] @ x[order])
    assert not torch.equal((weight / 3) @ x, (weight[:, order] / 3) @ x[order])  # as sums of other numbers do


# ------------------------------------------------------------------------------------------ refusals


def sealed(offset: int, new: bytes):
    """Another header with a checksum that fits."""

    def act(data: bytes) -> bytes:
        data = data[:offset] + new + data[offset + len(new) :]
        return data[:4] + struct.pack("<I", zlib.crc32(data[8:])) + data[8:]

    return act


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda d: b"", "not a .bic file"),
        (lambda d: b"\x89PNG" + d[4:], "not a .bic file"),
        (lambda d: d[:10], "not a .bic file, or only its beginning"),
        (lambda d: d[:-1], "damaged or truncated"),
        (lambda d: d[:40] + bytes([d[40] ^ 1]) + d[41:], "damaged or truncated"),
        (lambda d: d[:3] + b"\x01" + d[4:], "version 1, .* reads versions 2 to 4; compress the picture again"),
        (sealed(8, b"\0\0\0\0"), "other weights"),
        (sealed(12, b"\x7f"), "makes no sense"),
        (lambda d: sealed(12, b"\0")(d[:3] + b"\4" + d[4:]), "makes no sense"),
        (lambda d: sealed(12, b"\1")(d[:3] + b"\4" + d[4:]), "other weights"),  # of a codec without a second layer
        (sealed(13, struct.pack("<H", 0)), "makes no sense"),
        (sealed(13, struct.pack("<HH", 65535, 65535)), "65535x65535"),
        (sealed(13, struct.pack("<HH", 13_000, 13_600)), "makes no sense"),
        (sealed(17, b"\xff" + b"x" * 255), "makes no sense"),
        (sealed(18, b"none"), "'none' is no codec"),
        (sealed(18, b"../x"), "makes no sense"),
    ],
)
def test_damaged_files_and_headers_that_lie_are_refused_before_memory_is_taken(data, damage, says, monkeypatch):
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: pytest.fail("memory was taken"))
    with pytest.raises(CourseError, match=says):
        codec.decompress(damage(data))


@settings(max_examples=200)
@given(at=st.integers(0, 10**6), bits=st.integers(1, 255), kind=st.sampled_from(("flip", "cut", "insert", "lose")))
def test_no_damaged_file_is_decoded(data, at, bits, kind):
    at %= len(data)
    broken = {
        "flip": data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :],
        "cut": data[:at],
        "insert": data[:at] + bytes([bits]) + data[at:],
        "lose": data[:at] + data[at + 1 :],
    }[kind]
    with pytest.raises(CourseError):
        codec.decompress(broken)


def test_no_picture_is_too_short_for_its_size(monkeypatch):
    """Codes that are as good as known cost nothing; the file is filled up to what its reader asks for."""
    monkeypatch.setattr(codec, "BLOCKS_PER_BYTE", 1)
    data = codec.compress(torch.full((1, 512, 512), 0.5), "tiny", quality=0)
    assert len(data) == 22 + 32**2
    assert codec.decompress(data).shape == (1, 512, 512)


@given(
    payload=st.binary(max_size=300),
    place=st.integers(0, codec.DETAILED),
    gray=st.booleans(),
    size=st.tuples(*[st.integers(0, 40)] * 2),
)
def test_any_payload_with_a_fitting_checksum_gives_a_picture_or_a_sentence(payload, place, gray, size):
    fine = place > codec.DIAL
    dial = place - codec.DIAL * fine + 128 * gray
    rest = struct.pack("<4sBHHB", codec.load("layered").signature(place), dial, *size, 7) + b"layered" + payload
    version = codec.DETAILED_VERSION if fine else codec.VERSION
    data = struct.pack("<3sBI", b"BIC", version, zlib.crc32(rest)) + rest
    try:
        picture = codec.decompress(data)
    except CourseError:
        return
    assert picture.shape[-2:] == size and math.isfinite(picture.sum().item())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rate": 0.001}, "0.001 bits per pixel are too few"),
        ({"rate": math.nan}, "more than 0 bits"),
        ({"psnr": 99.0}, "99 dB are too many for this picture and tiny; quality 100 has"),
        ({"psnr": 30.0, "rate": 1.0}, "not for both"),
        ({"psnr": math.nan}, "nan dB are too many"),
        ({"quality": 101}, "quality goes from 0 to 100, not 101"),
        ({"model": "huge"}, "'huge' is no codec"),
        ({"image": torch.zeros(2, 20, 20)}, r"\(2, 20, 20\)"),
        ({"image": torch.zeros(1, 1, 40_000)}, "40000x1"),
    ],
)
def test_what_cannot_be_compressed_is_said(data, changes, says):
    with pytest.raises(CourseError, match=says):
        codec.compress(**{"image": photograph(20, 20), "model": "tiny"} | changes)
    with pytest.raises(CourseError, match="other weights of 'tiny'"):
        codec.decompress(data, "other")


# -------------------------------------------------------------------------------------- other codecs


def test_full_colour_pays_in_a_jpeg_from_the_quality_that_we_take_it(course_data, monkeypatch):
    pictures = [images.load_uint8(path) for path in datasets.folder("DIV2K_valid_256")]

    def curve(full_colour_from: int, *qualities: int) -> list[tuple[float, float]]:
        monkeypatch.setattr(baselines, "FULL_COLOUR", full_colour_from)
        points = []
        for quality in qualities:
            pairs = [(baselines.file_bytes(picture, "jpeg", quality), picture) for picture in pictures]
            bits = [metrics.bits_per_pixel(data, picture) for data, picture in pairs]
            scores = [metrics.psnr(degradations.decode(data).float(), x.float(), 255) for data, x in pairs]
            points.append((sum(bits) / len(bits), sum(scores) / len(scores)))
        return points

    limits = ((75, -0.2, -0.05), (85, -0.05, 0.05), (baselines.FULL_COLOUR, 0.1, 0.3))
    half = curve(101, 60, 70, 80, 85, 90, 95, 98)
    for (quality, low, high), (rate, psnr) in zip(limits, curve(0, *(row[0] for row in limits)), strict=True):
        gain = psnr - metrics.at_rate(half, rate)
        assert low < gain < high, (quality, gain)


@pytest.mark.parametrize("name", list(baselines.FILE_FORMATS))
@pytest.mark.parametrize("channels", [1, 3])
def test_files_of_other_codecs_grow_with_their_setting(name, channels):
    if not baselines.can_write(name):
        pytest.skip("this Pillow does not write it")
    picture = photograph(120, 160, channels)
    settings = baselines.FILE_FORMATS[name][-1]
    sizes = [len(baselines.file_bytes(picture, name, setting)) for setting in (settings[0], settings[-1])]
    assert sizes[0] < sizes[1]


def test_a_format_that_pillow_lacks_is_left_out_or_named_with_its_remedy(monkeypatch):
    monkeypatch.delitem(Image.SAVE, "JXL", raising=False)
    baselines.can_write.cache_clear()
    try:
        assert "jpegxl" in evaluation.methods_for("codec") and "jpegxl" not in evaluation.methods_here("codec")
        with pytest.raises(CourseError, match="install pillow-jxl-plugin, or leave jpegxl out"):
            baselines.file_bytes(photograph(16, 16), "jpegxl", 50)
    finally:
        baselines.can_write.cache_clear()


def test_headers_of_files_are_told_from_their_pixels(data):
    jpeg = baselines.file_bytes(photograph(64, 64), "jpeg", 10)
    scan = jpeg.index(b"\xff\xda")
    assert baselines.header_bytes(jpeg) == scan + 2 + int.from_bytes(jpeg[scan + 2 :][:2], "big") > 200
    assert baselines.header_bytes(data) == 18 + len("tiny")
    assert baselines.header_bytes(baselines.file_bytes(photograph(64, 64), "webp", 10)) == 0


@pytest.mark.skipif(not baselines.can_write("avif"), reason="this Pillow does not write it")
def test_the_container_of_an_avif_file_is_a_large_part_of_a_small_one():
    """As notebook 4 says of its squares of 128 × 128 pixels."""
    square = images.load_uint8(datasets.bundled("coffee"))[:, :128, :128]
    files = [baselines.file_bytes(square, "avif", quality) for quality in (0, 20, 60)]
    assert all(240 < data.index(b"mdat") + 4 < 320 for data in files) and len(files[0]) < 600


def test_the_header_of_a_progressive_jpeg_is_that_of_all_its_scans():
    """Without tables and scan headers, what is left is the stuffed bits of the scans, as a parser counts them."""
    buffer = io.BytesIO()
    images.to_pillow(photograph(160, 240)).save(buffer, "JPEG", quality=60, progressive=True)
    data, at, payload = buffer.getvalue(), 2, 0
    while data[at : at + 2] != b"\xff\xd9":
        kind, at = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        while kind == 0xDA and (data[at] != 0xFF or data[at + 1] == 0):  # until the next marker
            at, payload = at + 1, payload + 1
    assert len(data) - baselines.header_bytes(data) == payload + len(b"\xff\xd9")


def test_the_rivals_run_at_their_best_settings():
    """What handicaps a rival flatters our codecs: each option that counts is read in the file itself."""
    picture = photograph(128, 128)
    for channels in (3, 1):
        data = baselines.file_bytes(picture[:channels], "jpeg2000", 0.5)
        at = data.index(b"\xff\x52")  # COD: marker, length 2, Scod 1, progression 1, layers 2, colour transform 1 ...
        assert data[at + 8] == (channels == 3) and data[at + 13] == 0  # ... wavelet 5 bytes on: 0 is 9/7, lossy
    assert baselines.FILE_FORMATS["webp"][1]["method"] == 6  # the slowest
    assert baselines.FILE_FORMATS["avif"][-1][0] == 0  # its curve goes as far down as AVIF does
    assert [baselines.file_options("avif-slow", 50, n)["subsampling"] for n in (1, 3)] == ["4:0:0", "4:4:4"]
    kinds, photo = set(), images.load_uint8(datasets.bundled("coffee"))[:, :256, :256]
    for picture, quality in ((photo[:, :64, :64], 10), (photo, 90)):  # a JPEG is the smaller of its two kinds
        data, sizes = baselines.file_bytes(picture, "jpeg", quality), []
        for progressive in (False, True):
            buffer = io.BytesIO()
            colour = "4:2:0" if quality < 85 else "4:4:4"
            options = {"optimize": True, "subsampling": colour, "progressive": progressive}
            images.to_pillow(picture).save(buffer, "JPEG", quality=quality, **options)
            sizes.append(len(buffer.getvalue()))
        assert len(data) == min(sizes) and sizes[0] != sizes[1]
        kinds.add(b"\xff\xc2" in data)
    assert kinds == {False, True}
