"""Files of measurements: what goes in comes out, any size and any number of bits, and nothing damaged is believed."""

import io
import json
import math
import zipfile

import numpy as np
import pytest
import torch
from builders import fresh, photograph
from fuzz_mutations import zipped
from hypothesis import given
from hypothesis import strategies as st

from helpers import CourseError, images, sensing, zoo

NETWORK = {"kind": "rescsnet-any", "width": 4, "stages": 1, "blocks": 1}
SRCNN = {"kind": "srcnn", "scale": 2, "kernels": (3, 1, 3)}


@pytest.fixture(scope="module", autouse=True)
def tiny_zoo(tmp_path_factory):
    made = {"rescsnet-any": ("cs", NETWORK), "other": ("cs", NETWORK), "srcnn": ("sr-x2", SRCNN)}
    folder = fresh(tmp_path_factory.mktemp("zoo"), made)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(zoo, "WEIGHTS", folder)
        yield folder


@pytest.fixture(scope="module")
def data() -> bytes:
    return sensing.sense(photograph(40, 50, 1), 0.1)


def rewritten(data: bytes, changes: dict) -> bytes:
    """The file with other arrays, none or an archive in their place, or with other values in `about`."""
    with np.load(io.BytesIO(data)) as archive:
        arrays = dict(archive)
    about = json.loads(arrays["about"].tobytes()) | {key: value for key, value in changes.items() if key not in arrays}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    members = arrays | {key: value for key, value in changes.items() if key in arrays}
    return zipped(
        {f"{name}.npy": npy(value) for name, value in members.items() if value is not None}, zipfile.ZIP_DEFLATED
    )


def npy(value: np.ndarray | bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value)
    return value if isinstance(value, bytes) else buffer.getvalue()


@pytest.mark.parametrize(("size", "ratio"), [((11, 11), 0.25), ((33, 65), 0.04), ((100, 100), 0.25), ((1, 90), 0.04)])
def test_any_size_comes_back_and_nearer_with_more_bits(size, ratio):
    picture, network = photograph(*size, 1), zoo.load("rescsnet-any")
    direct, off = network.reconstruct(images.quantize(picture), ratio), []
    for bits in (4, 8, 16):
        recovered = sensing.recover(sensing.sense(picture, ratio, bits))
        assert recovered.shape == picture.shape
        off.append((recovered - direct).abs().max().item())
    assert off == sorted(off, reverse=True) and off[-1] < 5e-3


@given(bits=st.integers(2, 16), seed=st.integers(0, 99))
def test_quantised_numbers_are_within_half_a_step(bits, seed):
    y = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(seed)) * torch.arange(1, 7).view(-1, 1, 1)
    scales, levels = sensing.quantize(y, bits)
    step = (scales / 8).exp2().view(-1, 1, 1) / (2 ** (bits - 1) - 1)
    assert ((sensing.dequantize(scales, levels, bits) - y).abs() <= step / 2 * 1.01).all()  # floats have 24 bits


def test_a_file_is_about_as_large_as_its_measurements_and_always_the_same(data):
    assert sensing.sense(photograph(40, 50, 1), np.float64(0.1), np.int64(8)) == data
    picture = torch.rand(1, 128, 128, generator=torch.Generator().manual_seed(1))  # noise does not compress
    for ratio, bits in ((0.1, 8), (0.25, 12)):
        held = 16 * round(1024 * ratio) * bits / 8 + round(1024 * ratio)  # and a byte for the scale of each row
        assert 0.97 * held < len(sensing.sense(picture, ratio, bits)) < held + 800  # the archive and what it says


def test_of_colour_the_luma_is_sensed_in_full_range():
    picture = photograph(40, 50)
    y = (picture * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
    assert sensing.sense(picture, 0.1) == sensing.sense(images.to_uint8(y), 0.1)
    for channels in (1, 3):
        picture = torch.zeros(channels, 64, 64, dtype=torch.uint8)
        picture[..., 32:] = 255
        back = images.to_uint8(sensing.recover(sensing.sense(picture, 0.25)))
        assert back[..., :24].float().mean() < 3 and back[..., 40:].float().mean() > 252


def test_a_card_s_path_names_a_network(tiny_zoo, monkeypatch, tmp_path):
    path = tiny_zoo / "other.json"
    data = sensing.sense(photograph(40, 50, 1), 0.1, model=path)
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    with pytest.raises(CourseError, match="no network is called 'other'"):
        sensing.recover(data)
    assert sensing.recover(data, path).shape == (1, 40, 50)


UNSENSED = [
    *((40, {"ratio": ratio}, "up to 0.25 numbers per pixel, and more than 0") for ratio in (0.3, math.nan)),
    *((40, {"ratio": 0.1, "bits": bits}, "2 to 16 bits") for bits in (1, 7.5, "8")),
    (40, {"ratio": 0.1, "model": "srcnn"}, "'srcnn' senses nothing; there are"),
    (3, {"ratio": 0.01}, "nothing is measured of 3x3 pixels at a ratio of 0.01; take a larger ratio"),
    (1, {"ratio": 0.25}, "nothing is measured of 1x1 pixels .* or a larger picture"),
]


@pytest.mark.parametrize(("size", "options", "said"), UNSENSED)
def test_what_cannot_be_sensed_is_said(size, options, said):
    with pytest.raises(CourseError, match=said):
        sensing.sense(photograph(size, size, 1), **options)


CHANGES = [
    *({"height": value} for value in (0, True, 41, 10**9)),
    *({"bits": value} for value in (1, 9)),
    *({"ratio": value} for value in (2.0, 0.25, math.nan)),
    *({"model": value} for value in (7, "../rescsnet-any", "other", "none")),
    *({"scales": value} for value in (np.zeros(3, np.int8), np.zeros(102, np.float32), np.array([{}], object))),
    *({"measurements": value} for value in (np.zeros((2, 2), np.uint8), np.zeros(200 << 20, np.uint8))),
    {"about": np.full(3000, 91, np.uint8)},  # brackets within brackets
    *({name: body} for name in ("about", "measurements") for body in (None, b"PK")),
    {"ratio": 1e-9, "scales": np.zeros(0, np.int8), "measurements": np.zeros(0, np.uint8), "checksum": 0},
    *({"checksum": 0}, {"version": 2}, {"format": "other"}, {"more": 1}, {"height": 25_000, "width": 25_000}),
]
SENTENCES = r"^(not a whole file of measurements;|the file was written|no network)[^\n]*$"


@pytest.mark.parametrize("changes", CHANGES)
def test_a_file_that_makes_no_sense_is_refused_in_one_line(data, changes):
    with pytest.raises(CourseError, match=SENTENCES):
        sensing.recover(rewritten(data, changes))
