"""The .bic files: what goes in comes out, any size, and nothing damaged is taken for a picture."""

import io
import json
import struct

import numpy as np
import pandas as pd
import pytest
import torch
from builders import fresh, photograph
from fuzz_mutations import sealed_bic
from PIL import Image

from helpers import CourseError, baselines, codec, datasets, degradations, evaluation, images, metrics, zoo
from helpers.service.files import DATA

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


@pytest.fixture
def data(weights) -> bytes:
    return codec.compress(photograph(40, 50), "tiny")


# --------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (16, 16), (17, 33), (48, 100)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_second_layer_takes_any_picture_on(size, channels):
    picture = photograph(*size, channels)
    files = [codec.compress(picture, "layered", quality=q) for q in (0, 90, 93, 97, 100)]
    decoded = [codec.decompress(data) for data in files]
    assert all(x.shape == picture.shape and x.dtype == torch.float32 for x in decoded)
    scores = [metrics.psnr(x, picture) for x in decoded]
    for rising in (list(map(len, files)), [min(45, score) for score in scores]):
        assert rising == sorted(rising)
    assert scores[1] > 22 and scores[-1] >= 45
    assert [codec.read_header(data).dial for data in files] == [0, 108, 130, 158, 180]


@pytest.mark.parametrize(("name", "quality"), [("bits", 50), ("layered", 96)])
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


@pytest.mark.parametrize(("name", "quality"), [("tiny", 60), ("tiny", 100), ("layered", 60), ("layered", 95)])
def test_a_rate_is_kept_and_used(name, quality):
    """And decibels are reached, by a file of no higher place than that takes."""
    picture, coder = photograph(48, 64), codec.load(name)
    data = codec.compress(picture, name, quality=quality)
    wanted = metrics.psnr(codec.decompress(data), picture)
    fits = codec.compress(picture, name, rate=metrics.bits_per_pixel(data, picture))
    near = codec.compress(picture, name, psnr=wanted - 1e-6)
    high, low = (codec.read_header(found).dial for found in (fits, near))
    assert low <= codec.read_header(data).dial <= high
    assert len(fits) <= len(data) and metrics.psnr(codec.decompress(near), picture) >= wanted - 1e-6
    more, less = (coder.encode(images.to_uint8(picture), place) for place in (min(high + 1, coder.last), low - 1))
    assert high == coder.last or len(more) > len(data)
    assert metrics.psnr(codec.decompress(less), picture) < wanted - 1e-6


@pytest.mark.parametrize(("name", "rate"), [("tiny", 2.0), ("layered", 12.0)])
def test_a_rate_is_kept_by_a_large_picture_of_which_only_some_tiles_are_tried(name, rate, monkeypatch):
    monkeypatch.setattr(codec, "TILE", 1)
    picture = photograph(48, 64)
    picture[..., :16] = torch.rand(3, 48, 16)
    assert metrics.bits_per_pixel(codec.compress(picture, name, rate=rate), picture) <= rate


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_codec_of_your_own_is_named_by_either_of_its_files(suffix, tiny_zoo):
    picture, file = photograph(32, 32), str(tiny_zoo / f"tiny.{suffix}")
    assert codec.compress(picture, file) == codec.compress(picture, "tiny")
    assert evaluation.load_method(file, "codec").settings == codec.Codec.settings


def test_a_second_layer_belongs_to_the_weights_that_it_was_trained_on(tiny_zoo):
    card = tiny_zoo / "layered-detail.json"
    before = card.read_text()
    try:
        for name, last in (("layered", codec.DETAILED), ("other", codec.DIAL)):
            card.write_text(json.dumps(json.loads(before) | {"started_from": zoo.card(name) | {"weights": ""}}))
            assert codec.Codec("layered").last == last
    finally:
        card.write_text(before)


def test_the_file_is_as_long_as_the_context_model_says():
    """In either layer, at the middle of its dial; and it decodes to the picture that training saw."""
    picture, coder = photograph(128, 128), codec.load("layered")
    coder.second.model.codec = (coder.model,)
    with torch.no_grad():
        first, second = coder.model(picture[None]), coder.second.model(picture[None])
    files = [coder.encode(images.to_uint8(picture), place) for place in (60, codec.DIAL, 150)]
    for coded, taken in ((first, len(files[0])), (second, len(files[2]) - len(files[1]))):
        bits = coded.bits_per_pixel.item() * 128**2
        assert 0.98 * bits < 8 * taken < 1.06 * bits + 256  # a level out of reach takes 26 bits; the formula ends at 23
    for coded, data in ((first, files[0]), (second, files[2])):
        assert metrics.psnr(images.quantize(coded.picture[0]), codec.decompress(data)) > 60


# ------------------------------------------------------------------------------------ exact contexts


def test_sums_of_exact_contexts_do_not_depend_on_their_order():
    """The claim behind files that all machines read: weights and activations have so few bits that sums are exact."""
    weight = codec.load("tiny").context.layers[8][0][0]
    x = torch.round(torch.randn(weight.shape[1], 50, dtype=torch.float64) * 2**11 * 4) / 2**11
    order = torch.randperm(weight.shape[1])
    assert torch.equal(weight @ x, weight[:, order] @ x[order])
    assert not torch.equal((weight / 3) @ x, (weight[:, order] / 3) @ x[order])  # as sums of other numbers do


# ------------------------------------------------------------------------------------------ refusals


def sealed(offset: int, new: bytes):
    """Another header with a checksum that fits."""
    return lambda data: sealed_bic(data[:offset] + new + data[offset + len(new) :])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda d: b"", "not a .bic file"),
        (lambda d: b"\x89PNG" + d[4:], "not a .bic file"),
        (lambda d: d[:10], "not a .bic file, or only its beginning"),
        (lambda d: d[:-1], "damaged or truncated"),
        (lambda d: d[:40] + bytes([d[40] ^ 1]) + d[41:], "damaged or truncated"),
        (lambda d: d + b"\0", "damaged or truncated"),
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
        (sealed(17, b"\x06fitted"), "makes no sense"),  # which has a version of its own
    ],
)
def test_damaged_files_and_headers_that_lie_are_refused_before_memory_is_taken(data, damage, says, monkeypatch):
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: pytest.fail("memory was taken"))
    with pytest.raises(CourseError, match=says):
        codec.decompress(damage(data))


def test_no_picture_is_too_short_for_its_size(monkeypatch):
    """Codes that are as good as known cost nothing; the file is filled up to what its reader asks for."""
    monkeypatch.setattr(codec, "BLOCKS_PER_BYTE", 1)
    data = codec.compress(torch.full((1, 240, 240), 0.5), "tiny", quality=0)
    assert len(data) == 22 + 15**2
    assert codec.decompress(data).shape == (1, 240, 240)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rate": 0.001}, "0.001 bits per pixel are too few"),
        ({"psnr": 99.0}, "99 dB are too many for this picture and tiny; quality 100 has"),
        ({"quality": 101}, "quality goes from 0 to 100, not 101"),
        ({"model": "huge"}, "'huge' is no codec"),
        ({"image": torch.zeros(2, 20, 20)}, r"\(2, 20, 20\)"),
        ({"image": torch.zeros(1, 1, 40_000)}, "40000x1"),
    ],
)
def test_what_cannot_be_compressed_is_said(changes, says):
    with pytest.raises(CourseError, match=says):
        codec.compress(**{"image": photograph(20, 20), "model": "tiny"} | changes)


def test_a_file_wants_the_weights_that_wrote_it_and_all_of_its_codes(data):
    with pytest.raises(CourseError, match="written by 'tiny', not by 'other'"):
        codec.decompress(data, "other")
    with pytest.raises(CourseError, match="codes cannot be read: they end too early"):
        codec.decompress(sealed_bic(data[:-40]))


# -------------------------------------------------------------------------------------- other codecs


def test_full_colour_pays_in_a_jpeg_from_the_quality_that_we_take_it(course_data, monkeypatch):
    pictures = [images.load_uint8(path) for path in datasets.folder("DIV2K_valid_256")[::6]]

    def mean(quality: int, full_colour_from: int) -> tuple[float, float]:
        monkeypatch.setattr(baselines, "FULL_COLOUR", full_colour_from)
        files = [baselines.file_bytes(picture, "jpeg", quality) for picture in pictures]
        bits = [metrics.bits_per_pixel(data, x) for data, x in zip(files, pictures, strict=True)]
        pairs = zip(map(degradations.decode, files), pictures, strict=True)
        return np.mean(bits), np.mean([metrics.psnr(y.float(), x.float(), 255) for y, x in pairs])

    gains, begins = [], baselines.FULL_COLOUR
    half = [mean(quality, 101) for quality in (60, 70, 80, 85, 90, 95, 98)]
    for quality in (75, begins):
        rate, psnr = mean(quality, 0)
        gains.append(psnr - metrics.at_rate(half, rate))
    assert gains[0] < -0.05 and gains[1] > 0.1


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


@pytest.mark.parametrize("progressive", [False, True])
def test_headers_of_files_are_told_from_their_pixels(data, progressive):
    """Without a JPEG's tables and scan headers, what is left is the stuffed bits of the scans, as a parser counts."""
    assert baselines.header_bytes(data) == 18 + len("tiny")
    assert baselines.header_bytes(baselines.file_bytes(photograph(64, 64), "webp", 10)) == 0
    buffer = io.BytesIO()
    images.to_pillow(photograph(160, 240)).save(buffer, "JPEG", quality=60, progressive=progressive)
    jpeg, at, payload = buffer.getvalue(), 2, 0
    while jpeg[at : at + 2] != b"\xff\xd9":
        kind, at = jpeg[at + 1], at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        while kind == 0xDA and (jpeg[at] != 0xFF or jpeg[at + 1] == 0):  # until the next marker
            at, payload = at + 1, payload + 1
    assert len(jpeg) - baselines.header_bytes(jpeg) == payload + len(b"\xff\xd9")


@pytest.mark.skipif(not baselines.can_write("avif"), reason="this Pillow does not write it")
def test_the_container_of_an_avif_file_is_a_large_part_of_a_small_one():
    """As notebook 4 says of its squares of 128 × 128 pixels."""
    square = images.load_uint8(datasets.bundled("coffee"))[:, :128, :128]
    files = [baselines.file_bytes(square, "avif", quality) for quality in (0, 20, 60)]
    assert all(240 < data.index(b"mdat") + 4 < 320 for data in files) and len(files[0]) < 600


def test_a_jpeg_that_aims_at_psnr_has_the_best_steps_that_were_tried_and_saves_bits():
    rivals = pd.read_csv(DATA / "experiments" / "rivals.csv").query("options.str.contains('rise')")
    best = rivals.loc[rivals["BD-rate %"] == rivals["BD-rate %"].min(), "options"].map(json.loads)
    assert baselines.psnr_steps(30) in [baselines.psnr_steps(30, **each) for each in best]
    flower, curves = images.load_uint8(datasets.bundled("flower")), {}
    for name in ("jpeg", "jpeg-psnr"):
        files = [baselines.file_bytes(flower, name, quality) for quality in (5, 10, 20, 40)]
        scores = [metrics.psnr(degradations.decode(data).float(), flower.float(), 255) for data in files]
        curves[name] = [(metrics.bits_per_pixel(data, flower), psnr) for data, psnr in zip(files, scores, strict=True)]
    assert metrics.bd_rate(curves["jpeg-psnr"], curves["jpeg"], 0.15, 0.5) < -8


def test_the_rivals_run_at_their_best_settings():
    """What handicaps a rival flatters our codecs: each option that counts is read in the file itself."""
    for channels in (3, 1):
        data = baselines.file_bytes(photograph(128, 128, channels), "jpeg2000", 0.5)
        at = data.index(b"\xff\x52")  # COD: marker, length 2, Scod 1, progression 1, layers 2, colour transform 1 ...
        assert data[at + 8] == (channels == 3) and data[at + 13] == 0  # ... wavelet 5 bytes on: 0 is 9/7, lossy
    assert baselines.FILE_FORMATS["webp"][1]["method"] == 6  # the slowest
    assert baselines.FILE_FORMATS["avif"][-1][0] == 0  # its curve goes as far down as AVIF does
    assert [baselines.file_options("avif-slow", 50, n)["subsampling"] for n in (1, 3)] == ["4:0:0", "4:4:4"]
    photo = images.load_uint8(datasets.bundled("coffee"))[:, :256, :256]
    for picture, quality, smaller in ((photo[:, :64, :64], 10, False), (photo, 89, True), (photo, 90, True)):
        data, colour = baselines.file_bytes(picture, "jpeg", quality), "4:2:0" if quality < 90 else "4:4:4"
        assert (b"\xff\xc2" in data) == smaller  # it is progressive
        assert (Image.open(io.BytesIO(data)).layer[0][1] == 1) == (quality >= 90)  # Y has as many samples as Cb and Cr
        buffer, options = io.BytesIO(), {"optimize": True, "subsampling": colour, "progressive": not smaller}
        images.to_pillow(picture).save(buffer, "JPEG", quality=quality, **options)
        assert len(data) < len(buffer.getvalue())
