"""Files of measurements: what goes in comes out, any size and any number of bits, and nothing damaged is believed."""

import io
import json
import random
import zipfile

import numpy as np
import pytest
import torch
from builders import photograph
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import CourseError, images, metrics, models, recipes, sensing, zoo
from helpers.training import Plan

NETWORK = {"kind": "rescsnet-any", "width": 4, "stages": 1, "blocks": 1}


@pytest.fixture(scope="module")
def tiny_zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    for name in ("rescsnet-any", "other"):
        torch.manual_seed(len(name))
        model = models.build(**NETWORK)
        torch.nn.init.normal_(model.stages[0].head.weight, std=0.02)
        recipes.write(recipes.Recipe(name, "cs", NETWORK, plan=Plan(4)), model, folder)
    srcnn = {"kind": "srcnn", "scale": 2, "kernels": (3, 1, 3)}
    recipes.write(recipes.Recipe("srcnn", "sr-x2", srcnn, plan=Plan(4)), models.build(**srcnn), folder)
    return folder


@pytest.fixture(autouse=True)
def weights(tiny_zoo, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tiny_zoo)


@pytest.fixture
def data(weights) -> bytes:
    return sensing.sense(photograph(40, 50, 1), 0.1)


def rewritten(data: bytes, mend: bool = True, **changes) -> bytes:
    """The file with other arrays, or with other values in `about`; its checksum made to fit."""
    with np.load(io.BytesIO(data)) as archive:
        arrays = dict(archive)
    about = json.loads(arrays["about"].tobytes())
    arrays |= {key: value for key, value in changes.items() if key in arrays}
    about |= {key: value for key, value in changes.items() if key not in arrays}
    if mend:
        about["checksum"] = sensing._checksum(arrays["scales"], arrays["measurements"])
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


# --------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("size", [(11, 11), (32, 32), (33, 65), (100, 100), (1, 90)])
@pytest.mark.parametrize("ratio", [0.04, 0.25])
def test_any_size_comes_back(size, ratio):
    picture = photograph(*size, 1)
    recovered = sensing.recover(sensing.sense(picture, ratio, bits=16))
    direct = zoo.load("rescsnet-any").reconstruct(images.quantize(picture), ratio)
    assert recovered.shape == picture.shape
    assert torch.allclose(recovered, direct, atol=5e-3)


@pytest.mark.parametrize("bits", [2, 3, 5, 8, 11, 16])
def test_more_bits_are_closer_and_take_more_room(bits):
    y = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7).view(-1, 1, 1)
    scales, levels = sensing.quantize(y, bits)
    back = sensing.dequantize(scales, levels, bits)
    step = (scales / 8).exp2().view(-1, 1, 1) / (2 ** (bits - 1) - 1)
    assert ((back - y).abs() <= step / 2 * 1.001).all()
    flat = levels.flatten().numpy()
    packed = sensing._pack(flat, bits)
    assert len(packed) == -(-flat.size * bits // 8)
    assert np.array_equal(sensing._unpack(packed, bits, flat.size), flat)


def test_a_file_is_about_as_large_as_its_measurements():
    picture = torch.rand(1, 128, 128, generator=torch.Generator().manual_seed(1))  # noise does not compress
    for ratio, bits in ((0.1, 8), (0.25, 4), (0.25, 12)):
        numbers = 16 * round(1024 * ratio)
        held = numbers * bits / 8 + round(1024 * ratio)  # and a byte for the scale of each row
        assert 0.97 * held < len(sensing.sense(picture, ratio, bits)) < held + 800  # the archive and what it says


def test_the_same_picture_is_the_same_file(data):
    assert sensing.sense(photograph(40, 50, 1), 0.1) == data


def test_of_colour_the_luma_is_sensed():
    picture = photograph(40, 50)
    y = (picture * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
    assert sensing.sense(picture, 0.1) == sensing.sense(images.to_uint8(y), 0.1)


@pytest.mark.parametrize("channels", [1, 3])
def test_black_and_white_come_back_as_such(channels):
    """Of a colour picture, too, whose Y in studio range goes from 16 to 235."""
    picture = torch.zeros(channels, 64, 64, dtype=torch.uint8)
    picture[..., 32:] = 255
    back = images.to_uint8(sensing.recover(sensing.sense(picture, 0.25)))
    assert back[..., :24].float().mean() < 3 and back[..., 40:].float().mean() > 252


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, torch.tensor])
def test_numbers_of_numpy_are_numbers(kind):
    data = sensing.sense(photograph(40, 50, 1), kind(0.1), np.int64(6))
    about = sensing.read(data)[0]
    assert about.bits == 6 and about.ratio == pytest.approx(0.1, rel=1e-3)
    assert sensing.recover(data).shape == (1, 40, 50)


@pytest.mark.parametrize("bits", [7.5, "8", None, float("nan")])
def test_bits_that_are_no_whole_number_are_refused(bits):
    with pytest.raises(CourseError, match="2 to 16 bits"):
        sensing.sense(photograph(40, 50, 1), 0.1, bits)


def test_a_card_s_path_names_a_network(tiny_zoo, monkeypatch, tmp_path):
    path = tiny_zoo / "other.json"
    data = sensing.sense(photograph(40, 50, 1), 0.1, model=path)
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    with pytest.raises(CourseError, match="was written for 'other', which does not load"):
        sensing.recover(data)
    assert sensing.recover(data, path).shape == (1, 40, 50)


# -------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ratio": 0.3}, "above 0 and at most 0.25"),
        ({"ratio": 0.0}, "above 0"),
        ({"ratio": float("nan")}, "above 0"),
        ({"ratio": 0.1, "bits": 1}, "2 to 16 bits"),
        ({"ratio": 0.1, "bits": 32}, "2 to 16 bits"),
        ({"ratio": 0.1, "model": "srcnn"}, "'srcnn' senses nothing; there are"),
    ],
)
def test_what_cannot_be_sensed_is_said(options, said):
    with pytest.raises(CourseError, match=said):
        sensing.sense(photograph(40, 50, 1), **options)


def test_a_picture_too_small_to_measure_is_said():
    with pytest.raises(CourseError, match="nothing is measured of 3x3 pixels; take a larger ratio"):
        sensing.sense(photograph(3, 3, 1), 0.01)
    with pytest.raises(CourseError, match="nothing is measured of 1x1 pixels; take a larger picture"):
        sensing.sense(photograph(1, 1, 1), 0.25)


def test_another_network_s_file_is_refused(data):
    with pytest.raises(CourseError, match="other weights"):
        sensing.recover(rewritten(data, model="other"))


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 0},
        {"width": -1},
        {"height": 40.0},
        {"height": True},
        {"bits": 1},
        {"bits": 10**9},
        {"ratio": 2.0},
        {"ratio": float("nan")},
        {"version": 2},
        {"format": "other"},
        {"model": 7},
        {"model": "../rescsnet-any"},
        {"model": "x" * 3000},
        {"model": "elsewhere.json"},
        {"ratio": 1e-12, "scales": np.zeros(0, np.int8), "measurements": np.zeros(0, np.uint8)},
        {"more": 1},
        {"height": 10**9},
        {"height": 25_000, "width": 25_000},
        {"height": 41},
        {"ratio": 0.25},
        {"bits": 9},
        {"scales": np.zeros(3, np.int8)},
        {"scales": np.zeros(102, np.float32)},
        {"measurements": np.zeros((2, 2), np.uint8)},
        {"measurements": np.zeros(10**6, np.uint8)},
        {"measurements": np.array([{}], object)},
        {"about": np.zeros(10, np.uint8)},
    ],
)
def test_a_file_that_makes_no_sense_is_refused_in_one_line(data, changes):
    if changes.get("measurements") is not None and changes["measurements"].dtype == object:
        buffer = io.BytesIO()
        with np.load(io.BytesIO(data)) as archive:
            np.savez(buffer, **dict(archive) | changes)
        damaged = buffer.getvalue()
    elif "about" in changes:
        with np.load(io.BytesIO(data)) as archive:
            buffer = io.BytesIO()
            np.savez(buffer, **dict(archive) | changes)
        damaged = buffer.getvalue()
    else:
        damaged = rewritten(data, **changes)
    with pytest.raises(CourseError) as caught:
        sensing.recover(damaged)
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_it_is_unpacked(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name) + (b"\0" * (64 << 20) if name == "measurements.npy" else b""))
    with pytest.raises(CourseError, match="more room"):
        sensing.recover(buffer.getvalue())


@pytest.mark.parametrize("name", sensing.ARRAYS)
def test_an_archive_where_an_array_should_be_is_refused(data, name):
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        members = {part: old.read(part) for part in old.namelist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        for part, body in members.items():
            new.writestr(part, data if part == name else body)
    with pytest.raises(CourseError, match="not a whole file|more room"):
        sensing.recover(buffer.getvalue())


@pytest.mark.parametrize("names", [[], ["about.npy"], [*sensing.ARRAYS, "more.npy"], [*sensing.ARRAYS, "about.npy"]])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_other_archives_are_refused(names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    with pytest.raises(CourseError, match="other arrays"):
        sensing.read(buffer.getvalue())


def test_ten_thousand_damaged_files_are_refused(data):
    rng, believed = random.Random(0), 0
    for _ in range(10_000):
        damaged = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)
        for _ in range(rng.randint(1, 4) if damaged else 0):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            about, arrays = sensing.read(bytes(damaged))
            intact = sensing.read(data)
            believed += about != intact[0] or any((arrays[k] != intact[1][k]).any() for k in arrays)
        except CourseError as why:
            assert "\n" not in str(why)
    assert believed == 0  # flips in parts of an archive that say nothing, such as dates, leave what is read as it was


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=400))
def test_whatever_the_bytes_there_is_one_kind_of_error(content):
    with pytest.raises(CourseError):
        sensing.recover(content)


def test_quality_rises_with_the_bits():
    picture = photograph(96, 96, 1)
    values = [metrics.psnr(sensing.recover(sensing.sense(picture, 0.25, bits)), picture) for bits in (3, 5, 8)]
    assert values == sorted(values) and values[2] > values[0] + 3
