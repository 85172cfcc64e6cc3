"""The codec that is fitted to one picture: its file alone gives the picture back, the same on every machine."""

import hashlib
import io
import itertools
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import photograph
from fuzz_mutations import sealed_bic
from torch.utils.flop_counter import FlopCounterMode

from helpers import CourseError, baselines, codec, datasets, images, metrics
from helpers.__main__ import main
from helpers.models import fitted

GOLDEN = "abd04fce2545836b"  # of the SHA-256 of the pixels of golden-fitted.bic


def crop(side: int = 64) -> torch.Tensor:
    return images.load_uint8(datasets.bundled("coffee"))[:, 60 : 60 + side, 200 : 200 + side]


@pytest.fixture(scope="module")
def trained() -> tuple:
    return fitted.fit(crop(), quality=50, steps=60)


@pytest.fixture(scope="module")
def payload(trained) -> bytes:
    return fitted.pack(*trained, crop(), quality=50)


def file_of(payload: bytes, height: int = 64, width: int = 64, channels: int = 3) -> bytes:
    """A .bic file whose checksum fits."""
    head = struct.pack("<3sBIHHB", b"BIC", codec.FITTED_VERSION, 0, height, width, channels)
    return sealed_bic(head + payload)


# --------------------------------------------------------------------------------------- round trips


def test_the_decoded_picture_is_the_encoder_s_but_for_the_rounding_of_its_weights(trained, payload):
    model, latents = trained
    with torch.no_grad():
        own = images.quantize(model.picture(latents) / 255)
    decoded, picture = codec.decompress(file_of(payload)), images.to_float(crop())
    assert metrics.psnr(decoded, own) > 35
    assert metrics.psnr(own, picture) - metrics.psnr(decoded, picture) < 0.5


@pytest.mark.parametrize("finest", [0, 1])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 33), (64, 50)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_comes_back(size, channels, finest):
    picture = photograph(*size, channels)
    data = codec.compress(picture, "fitted", quality=(90, 20)[finest], minutes=0.001)
    assert data[codec.read_header(data).length] % 2 == finest  # which of the two layouts it has
    assert codec.read_header(data)[3:6] == (channels == 1, *size)
    assert codec.decompress(data).shape == picture.shape


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_from_elsewhere_gives_the_same_picture_here(threads):
    data, before = (Path(__file__).parent / "golden-fitted.bic").read_bytes(), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        pixels = codec.decompress_uint8(data).contiguous().numpy()
    finally:
        torch.set_num_threads(before)
    assert hashlib.sha256(pixels.tobytes()).hexdigest().startswith(GOLDEN), "a decoder of version 3 must not change"


def test_no_sum_of_the_decoder_is_rounded(payload, monkeypatch):
    """Sums that are exact do not care for the order of their terms: so the picture is every machine's."""

    def backwards(x, weight, bias=None, *rest):
        turned = None if bias is None else bias.double()
        return original(x.flip(1).flip(-1, -2), weight.flip(1).flip(-1, -2), turned, *rest).flip(-1, -2)

    original = torch.nn.functional.conv2d
    monkeypatch.setattr(images, "to_uint8", lambda x: x)  # which would hide a small difference
    straight = fitted.unpack(payload, 3, 64, 64)
    monkeypatch.setattr(torch.nn.functional, "conv2d", backwards)
    assert torch.equal(fitted.unpack(payload, 3, 64, 64), straight)


def test_a_decoder_looks_at_nothing_that_it_does_not_know_yet():
    """Each latent's neighbours come before it in the file."""
    model, at = fitted.FittedCodec(3, 21, 30, finest=0), 0
    position = torch.full((model.count + 1,), -1)  # in the file; -1: the zero beyond all latents
    tables = [model.neighbours(grid) for grid in model.grids]
    for grid, (_, passes) in zip(model.grids, tables, strict=True):
        position[grid.first :][: len(passes)] = at + passes
        at += 4
    assert (position[:-1] >= 0).all()
    for grid, (rows, _) in zip(model.grids, tables, strict=True):
        assert (position[rows] < position[grid.first :][: len(rows), None]).all()


def test_multiply_adds_are_few_and_counted():
    model = fitted.FittedCodec(3, 256, 256, finest=0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.picture(torch.zeros(model.count))
    counted = (counter.get_total_flops() / 2 + 2 * fitted.INPUTS * model.count) / 256**2
    assert model.multiply_adds() == pytest.approx(counted, rel=0.02) and counted < 2000


# ------------------------------------------------------------------------------------------- fitting


def test_a_fit_beats_jpeg_of_as_many_bytes():
    picture = crop(96)
    data = codec.fitted_bytes(*fitted.fit(picture, 20, steps=120), picture, 20)
    files = [baselines.file_bytes(picture, "jpeg", quality) for quality in range(5, 60)]
    largest = max((file for file in files if len(file) <= len(data)), key=len)
    ours, theirs = codec.decompress(data), images.load(io.BytesIO(largest))
    assert metrics.psnr(ours, images.to_float(picture)) > metrics.psnr(theirs, images.to_float(picture)) + 1


def test_better_quality_costs_more(payload):
    cheap = fitted.pack(*fitted.fit(crop(), quality=20, steps=60), crop(), quality=20)
    scores = [metrics.psnr(codec.decompress(file_of(data)), images.to_float(crop())) for data in (cheap, payload)]
    assert len(cheap) < len(payload) and scores[0] + 1 < scores[1]


def test_minutes_are_kept_and_each_step_is_told(monkeypatch):
    clock, log = itertools.count(step=0.25), []
    monkeypatch.setattr("time.monotonic", lambda: next(clock))  # each look at it takes a quarter of a second
    fitted.fit(crop(), minutes=0.02, log=log)
    assert 3 <= len(log) <= 5 and [step for step, *_ in log] == list(range(1, len(log) + 1))
    assert np.isfinite(log).all()


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rate": 0.3}, "a fitted codec is asked for a quality"),
        ({"psnr": 30.0}, "a fitted codec is asked for a quality"),
        ({"quality": -1}, "quality goes from 0 to 100"),
        ({"minutes": 0}, "minutes are more than 0 and at most 1,440"),
        ({"minutes": math.nan}, "minutes are more than 0 and at most 1,440"),
        ({"image": torch.zeros(1, 1025, 1024)}, "1024x1025 is more than the 1,048,576 pixels"),
        ({"model": "integer-ae", "minutes": 3}, "for the model 'fitted' alone; leave them out"),
    ],
)
def test_what_cannot_be_fitted_is_said(changes, says):
    with pytest.raises(CourseError, match=says):
        codec.compress(**{"image": photograph(20, 20), "model": "fitted"} | changes)


def test_damaged_files_are_refused(payload):
    data = file_of(payload)
    damaged = {"damaged or truncated|only its beginning": [data[:-1], data[:12], data + b"\0"]}
    damaged["codes cannot be read|only its"] = [file_of(payload[:5]), file_of(b""), file_of(payload, 60, 64)]
    shapes = (0, 64, 3), (2000, 2000, 3), (64, 64, 2)
    damaged["header makes no sense"] = [file_of(payload, *shape) for shape in shapes]
    for says, files in damaged.items():
        for broken in files:
            with pytest.raises(CourseError, match=says):
                codec.decompress(broken)


# --------------------------------------------------------------------------------------- command line


def test_nothing_is_left_of_a_fit_that_was_interrupted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images.save("in.png", crop())
    monkeypatch.setattr(fitted, "pack", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main("compress in.png out.bic --model fitted --minutes 0.001 --quiet".split()) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]
