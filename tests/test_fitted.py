"""The codec that is fitted to one picture: its file alone gives the picture back, the same on every machine."""

import hashlib
import io
import math
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import photograph
from hypothesis import given
from hypothesis import strategies as st
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
    rest = struct.pack("<HHB", height, width, channels) + payload
    return struct.pack("<3sBI", b"BIC", codec.FITTED_VERSION, zlib.crc32(rest)) + rest


# --------------------------------------------------------------------------------------- round trips


def test_the_decoded_picture_is_the_encoder_s_but_for_the_rounding_of_its_weights(trained, payload):
    model, latents = trained
    with torch.no_grad():
        own = images.quantize(model.picture(latents) / 255)
    decoded = images.to_float(fitted.unpack(payload, 3, 64, 64))
    assert metrics.psnr(decoded, own) > 35
    loss = metrics.psnr(own, images.to_float(crop())) - metrics.psnr(decoded, images.to_float(crop()))
    assert loss < 0.5


@pytest.mark.parametrize("finest", [0, 1])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 33), (64, 50)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_comes_back(size, channels, finest):
    picture = photograph(*size, channels)
    data = codec.compress(picture, "fitted", quality=40 + 50 * (1 - finest), minutes=0.001)
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
    model = fitted.FittedCodec(3, 21, 30, finest=0)
    position = torch.full((model.count + 1,), -1)
    at = 0
    tables = [model.neighbours(grid) for grid in model.grids]
    for grid, (_, passes) in zip(model.grids, tables, strict=True):
        for index in range(4):
            here = (passes == index).nonzero()[:, 0]
            position[grid.first + here] = at
            at += 1
    for grid, (rows, _) in zip(model.grids, tables, strict=True):
        own = position[grid.first : grid.first + len(rows)]
        assert (position[rows] < own[:, None]).all()
    assert (position[:-1] >= 0).all()


def test_multiply_adds_are_few_and_counted():
    model = fitted.FittedCodec(3, 256, 256, finest=0)
    latents = torch.zeros(model.grids[-1].first + 256**2)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.picture(latents)
    convolutions = counter.get_total_flops() / 2 / 256**2
    contexts = 2 * fitted.INPUTS * len(latents) / 256**2
    assert model.multiply_adds() == pytest.approx(convolutions + contexts, rel=0.02)
    assert model.multiply_adds() < 2000


# ------------------------------------------------------------------------------------------- fitting


def test_a_fit_beats_jpeg_of_as_many_bytes():
    picture = crop(128)
    model, latents = fitted.fit(picture, 20, steps=150)
    data = file_of(fitted.pack(model, latents, picture, 20), 128, 128)
    ours = metrics.psnr(codec.decompress(data), images.to_float(picture))
    files = [baselines.file_bytes(picture, "jpeg", quality) for quality in range(5, 60)]
    largest = max((file for file in files if len(file) <= len(data)), key=len)
    theirs = metrics.psnr(images.load(io.BytesIO(largest)), images.to_float(picture))
    assert ours > theirs + 1


def test_better_quality_costs_more():
    sizes, scores = [], []
    for quality in (20, 70):
        model, latents = fitted.fit(crop(), quality, steps=50)
        data = fitted.pack(model, latents, crop(), quality)
        sizes.append(len(data))
        decoded = images.to_float(fitted.unpack(data, 3, 64, 64))
        scores.append(metrics.psnr(decoded, images.to_float(crop())))
    assert sizes[0] < sizes[1] and scores[0] + 1 < scores[1]


def test_minutes_are_kept_and_each_step_is_told():
    begin, log = time.monotonic(), []
    fitted.fit(crop(), minutes=0.02, log=log)
    assert 1.1 < time.monotonic() - begin < 5
    assert [step for step, *_ in log] == list(range(1, len(log) + 1)) and np.isfinite(log).all()


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rate": 0.3}, "of a fitted codec for a quality alone"),
        ({"psnr": 30.0}, "of a fitted codec for a quality alone"),
        ({"quality": -1}, "quality goes from 0 to 100"),
        ({"minutes": 0}, "minutes, more than 0 and at most 1,440"),
        ({"minutes": math.nan}, "minutes, more than 0 and at most 1,440"),
        ({"image": torch.zeros(1, 1025, 1024)}, "1024x1025 is more than the 1,048,576 pixels"),
        ({"model": "integer-ae", "minutes": 3}, "for the model 'fitted' alone; not 3 for 'integer-ae'"),
    ],
)
def test_what_cannot_be_fitted_is_said(changes, says):
    with pytest.raises(CourseError, match=says):
        codec.compress(**{"image": photograph(20, 20), "model": "fitted"} | changes)


def test_damaged_files_are_refused(payload):
    data = file_of(payload)
    for broken in (data[:-1], data[:12], data[:40] + b"\0" + data[41:], data + b"\0"):
        with pytest.raises(CourseError, match="damaged or truncated|only its beginning"):
            codec.decompress(broken)
    for broken in (file_of(payload[:-20]), file_of(payload[:5]), file_of(b""), file_of(payload, 60, 64)):
        with pytest.raises(CourseError, match="codes cannot be read|only its beginning"):
            codec.decompress(broken)
    for shape in ((0, 64, 3), (2000, 2000, 3), (64, 64, 2)):
        with pytest.raises(CourseError, match="header makes no sense"):
            codec.decompress(file_of(payload, *shape))


@given(at=st.integers(0, 10**6), byte=st.integers(0, 255), size=st.tuples(*[st.integers(1, 40)] * 2))
def test_any_payload_gives_a_picture_or_a_sentence(payload, at, byte, size):
    at %= len(payload)
    try:
        picture = codec.decompress(file_of(payload[:at] + bytes([byte]) + payload[at + 1 :], *size))
    except CourseError:
        return
    assert picture.shape == (3, *size) and bool(picture.isfinite().all())


# --------------------------------------------------------------------------------------- command line


def test_the_command_line_there_and_back(tmp_path, capsys):
    images.save(tmp_path / "in.png", crop())
    where = [str(tmp_path / name) for name in ("in.png", "out.bic", "back.png")]
    assert main(["compress", *where[:2], "--model", "fitted", "--minutes", "0.01", "--quality", "30", "--quiet"]) == 0
    assert main(["decompress", *where[1:], "--quiet"]) == 0
    assert "by fitted" in capsys.readouterr().out
    data = (tmp_path / "out.bic").read_bytes()
    assert torch.equal(images.load_uint8(tmp_path / "back.png"), codec.decompress_uint8(data))
    assert main(["compress", *where[:2], "--model", "fitted", "--rate", "0.3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_is_left_of_a_fit_that_was_interrupted(tmp_path, monkeypatch):
    images.save(tmp_path / "in.png", crop())
    monkeypatch.setattr(fitted, "pack", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    where = [str(tmp_path / name) for name in ("in.png", "out.bic")]
    assert main(["compress", *where, "--model", "fitted", "--minutes", "0.001", "--quiet"]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]
