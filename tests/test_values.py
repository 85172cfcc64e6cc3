"""What takes pictures refuses those of another scale or type in one sentence, and gives float32 or uint8."""

import math

import numpy as np
import pytest
import torch
from builders import photograph

from helpers import baselines, codec, degradations, images, sensing, zoo

RESTORERS = {
    "a network": lambda x: zoo.load("fsrcnn-x2").restore(x),
    "jpeg-blind": lambda x: zoo.load("jpeg-blind").restore(x),
    "a classical method": lambda x: baselines.find("total-variation", "jpeg-q10").restore(x),
}
TAKERS = RESTORERS | {
    "save": lambda x: images.save("x.png", x),
    "compress": lambda x: codec.compress(x),
    "sense": lambda x: sensing.sense(x, 0.1),
    "jpeg": lambda x: degradations.jpeg(x, 20),
}
PICTURE = photograph(32, 40)
OTHERS = {
    "up to 255": PICTURE * 255,
    "up to 255, none below 100": PICTURE.clamp(min=0.4) * 255,
    "from -128": PICTURE * 255 - 128,
    "16 bits": PICTURE * 65535,
    "NaN": PICTURE / PICTURE.min() - PICTURE / 0 * 0,
    "one NaN": PICTURE.index_fill(2, torch.tensor([3]), math.nan),
    "infinity": PICTURE / 0,
    "bool": PICTURE > 0.5,
    "int64": (PICTURE * 255).long(),
    "an array, uint8": np.zeros((32, 40, 3), np.uint8),
    "an array, float": PICTURE.numpy(),
    "a list": PICTURE.tolist(),
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
@pytest.mark.parametrize("picture", OTHERS.values(), ids=OTHERS)
def test_another_scale_or_type_is_refused_in_one_sentence(tmp_path, monkeypatch, take, picture):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"\[0, 1\]|a picture is a tensor, \(C, H, W\), not (ndarray|list);.*from_numpy"
    ) as caught:
        take(picture)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("restore", RESTORERS.values(), ids=RESTORERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float32, torch.uint8])
def test_every_float_gives_float32_and_uint8_gives_uint8(restore, dtype):
    given = images.to_uint8(PICTURE) if dtype == torch.uint8 else PICTURE.to(dtype)
    assert restore(given).dtype == (torch.uint8 if dtype == torch.uint8 else torch.float32)


def test_jpeg_blind_gives_float32_also_of_what_it_leaves_alone():
    flat = photograph(256, 256).double() + torch.randn(3, 256, 256, dtype=torch.float64).mul(0.1)
    assert degradations.without_jpeg_grid(flat)
    assert zoo.load("jpeg-blind").restore(flat).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_of_none_gives_none(dtype, channels):
    none = torch.zeros(0, channels, 8, 10, dtype=dtype)
    for name, scale in (("fsrcnn-x2", 2), ("edsr-x3", 3), ("arcnn-q10", 1), ("jpeg-blind", 1)):
        restored = zoo.load(name).restore(none)
        assert (restored.shape, restored.dtype) == ((0, channels, 8 * scale, 10 * scale), dtype)
    assert degradations.jpeg(none, 20).shape == none.shape


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_noise_beyond_the_range_is_no_other_scale(tmp_path, monkeypatch, take):
    monkeypatch.chdir(tmp_path)
    noisy = degradations.gaussian_noise(PICTURE, 0.2)
    assert noisy.min() < -0.2 and noisy.max() > 1.2
    take(noisy)
